import Messages
import Service

/// `df`: what is stored and what it takes.
func usage(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let usage = try await client.ask(
      GetUsage(level: client.level), at: client.level, about: "df")
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("objects", .number(usage.objectCount)), ("logicalBytes", .number(usage.logicalBytes)),
          ("uniqueBytes", .number(usage.uniqueBytes)),
          ("compressedBytes", .number(usage.compressedBytes)),
          ("storedBytes", .number(usage.storedBytes)),
          ("metadataBytes", .number(usage.metadataBytes)),
          ("capacityBytes", .number(usage.capacityBytes)), ("freeBytes", .number(usage.freeBytes)),
          ("containers", .number(usage.containerCount)),
          ("pendingDeletions", .number(usage.trashCount)),
          (
            "classes",
            .array(
              usage.classes.filter(\.isUsed).map { entry in
                .object([("class", .string(entry.storageClass.name))] + classMembers(entry))
              })
          ),
        ]).text)
    } else {
      func ratio(_ a: UInt64, _ b: UInt64) -> String {
        guard b > 0 else { return "" }
        let hundredths = Int((Double(a) / Double(b) * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
      }
      let rows: [(String, String)] = [
        ("objects", "\(usage.objectCount)"), ("logical", byteText(usage.logicalBytes)),
        (
          "unique",
          byteText(usage.uniqueBytes)
            + note(ratio(usage.logicalBytes, usage.uniqueBytes), "logical / unique")
        ),
        (
          "compressed",
          byteText(usage.compressedBytes)
            + note(ratio(usage.uniqueBytes, usage.compressedBytes), "unique / compressed")
        ),
        (
          "stored",
          byteText(usage.storedBytes)
            + note(ratio(usage.storedBytes, usage.uniqueBytes), "stored / unique")
        ),
        ("metadata", byteText(usage.metadataBytes)), ("capacity", byteText(usage.capacityBytes)),
        ("free", byteText(usage.freeBytes)),
      ]
      for (name, value) in rows {
        try await client.output.line(
          name + String(repeating: " ", count: 12 - name.count) + value)
      }
      for entry in usage.classes where entry.isUsed {
        let unique = entry.chunkBytes + entry.inlineBytes
        let compressed = entry.groupBytes + entry.inlineBytes
        let parts = [
          "\(byteText(entry.logicalBytes)) logical",
          "duplicates save \(byteText(entry.logicalBytes - min(entry.logicalBytes, unique)))",
          "compression \(byteText(unique - min(unique, compressed)))",
          "code and padding cost \(byteText(entry.blockBytes - min(entry.blockBytes, entry.groupBytes)))",
        ]
        try await client.output.line(
          entry.storageClass.name
            + String(repeating: " ", count: max(1, 12 - entry.storageClass.name.count))
            + parts.joined(separator: ", "))
      }
      if usage.trashCount > 0 {
        try await client.output.line(
          "deletions whose space is still to return: \(usage.trashCount)")
      }
    }
    try await client.output.flush()
  }
}

private func note(_ ratio: String, _ what: String) -> String {
  ratio.isEmpty ? "" : "  (\(what) \(ratio))"
}

extension ClassUsage {
  /// Whether anything is, or was a moment ago, stored in it.
  fileprivate var isUsed: Bool { objectCount > 0 || containerCount > 0 }
}
