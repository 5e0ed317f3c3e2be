import Cluster
import Coding
import Messages
import Service

/// `stat`: everything about one object.
func stat(_ context: Context) async throws(Failure) {
  let operand = context.arguments.operands[0]
  let location = try Location.object(operand)
  let version = try context.version()
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(
      StatObject(
        level: client.level, name: ObjectName(bucket: location.bucket, key: location.key),
        version: version),
      at: client.level, about: operand)
    let record = answer.record
    let keyDomain = try await client.keyDomain(of: location.bucket)
    let modified = rfc3339(.milliseconds(Int64(clamping: record.modified)))
    // What the object could still lose: the least over the containers that hold it; inlined bytes live in the log.
    let margin = answer.containers.map {
      Int($0.scheme.m) - Int($0.missing) - Int($0.damaged)
    }.min()
    let scheme = answer.containers.first?.scheme.description ?? "inline"
    if context.arguments.has("--json") {
      var members: [(String, JSON)] = [
        ("bucket", .string(location.bucket)), ("key", .string(location.key)),
        ("bytes", .number(record.byteCount)), ("kind", .string(kindText(record.attributes.kind))),
        ("scheme", .string(scheme)), ("etag", .string(record.contentHash.hex)),
        ("modified", .string(modified)), ("identity", .number(record.identity)),
        ("class", .string(answer.storageClass)),
        ("keyDomain", keyDomain.map { .string($0) } ?? .null),
        ("compressedBytes", answer.groupBytes.map { .number($0) } ?? .null),
        ("mode", record.attributes.mode.map { .string(octal($0)) } ?? .null),
        (
          "sourceModified",
          record.attributes.sourceModified.map { .string(rfc3339(.nanoseconds($0))) } ?? .null
        ),
        (
          "containers",
          .array(
            answer.containers.map { container in
              .object([
                ("container", .string(container.container.description)),
                ("scheme", .string(container.scheme.description)),
                (
                  "shards",
                  .array(
                    container.places.map { place in
                      .object([
                        ("device", .string(place.device.description)),
                        ("generation", .number(place.generation)),
                      ])
                    })
                ),
                ("missingShards", .number(UInt64(container.missing))),
                ("damagedBlocks", .number(UInt64(container.damaged))),
              ])
            })
        ),
      ]
      members.append(("margin", margin.map { .signed(max(-1, $0)) } ?? .null))
      try await client.output.line(JSON.object(members).text)
    } else {
      var lines = [
        "object      \(location.text)", "bytes       \(record.byteCount)",
        "kind        \(kindText(record.attributes.kind))", "etag        \(record.contentHash.hex)",
        "modified    \(modified)",
      ]
      if let mode = record.attributes.mode { lines.append("mode        \(octal(mode))") }
      if let time = record.attributes.sourceModified {
        lines.append("source time \(rfc3339(.nanoseconds(time)))")
      }
      lines.append("class       \(answer.storageClass)")
      if let keyDomain { lines.append("key domain  \(keyDomain)") }
      if let bytes = answer.groupBytes, bytes > 0 {
        lines.append("compressed  \(bytes) in the groups that hold its chunks")
      }
      lines.append("scheme      \(scheme)")
      switch margin {
      case nil: break
      case let margin? where margin < 0:
        lines.append("margin      too few blocks to read all of it")
      case let margin?:
        lines.append("margin      survives \(margin) more loss\(margin == 1 ? "" : "es")")
      }
      for container in answer.containers {
        lines.append(
          "container   \(container.container) \(container.scheme) on \(counted(container.places.count, "device")), \(container.missing) missing\(container.damaged == 0 ? "" : ", \(counted(container.damaged, "block")) of a stripe damaged")"
        )
      }
      for line in lines { try await client.output.line(line) }
    }
    try await client.output.flush()
  }
}

extension Client {
  /// The name of the key domain that a bucket is in, and all its objects with it; nil when they are not encrypted.
  fileprivate func keyDomain(of bucket: String) async throws(Failure) -> String? {
    let found = try await ask(GetBucket(level: level, name: bucket), at: level, about: bucket)
    guard found.domain.keyDomain != .plain else { return nil }
    let all = try await ask(ListKeyDomains(level: level), at: level, about: "key domains")
    return all.domains.first { $0.id == found.domain.keyDomain }?.name
      ?? found.domain.keyDomain.description
  }
}

private func octal(_ mode: UInt32) -> String {
  let digits = String(mode, radix: 8)
  return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
}
