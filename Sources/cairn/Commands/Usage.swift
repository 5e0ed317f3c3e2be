import Messages
import Service

/// `df`: what is stored and what it takes.
func usage(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let usage = try await client.ask(
      GetUsage(level: client.level), at: client.level, about: "usage")
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
        ("compressed", byteText(usage.compressedBytes)),
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
