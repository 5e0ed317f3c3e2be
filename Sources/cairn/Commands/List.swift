import Cluster
import Coding
import Messages
import Service

/// `ls`: buckets, or the keys below a prefix. Without `-r` keys are grouped at the next slash.
func list(_ context: Context) async throws(Failure) {
  let asJSON = context.arguments.has("--json")
  guard let operand = context.arguments.operands.first else {
    return try await listBuckets(context, asJSON: asJSON)
  }
  let location = try Location(operand)
  let recursive = context.arguments.has("--recursive")
  if context.arguments.has("--versions") {
    return try await Client.with(context) { client throws(Failure) in
      try await showVersions(
        client, location, shown: operand, recursive: recursive, asJSON: asJSON)
      try await client.output.flush()
    }
  }
  try await Client.with(context) { client throws(Failure) in
    var found = false
    var after = ""
    while true {
      let page = try await client.ask(
        ListObjects(
          level: client.level, bucket: location.bucket, prefix: location.key, after: after,
          delimiter: recursive ? "" : "/", limit: 1000), at: client.level, about: operand)
      // Keys and groups are each in order; shown merged.
      var prefixes = page.prefixes[...]
      for entry in page.entries {
        while let prefix = prefixes.first,
          Array(prefix.utf8).lexicographicallyPrecedes(entry.key.utf8)
        {
          try await showGroup(prefix, asJSON: asJSON, client.output)
          prefixes.removeFirst()
        }
        try await show(entry, asJSON: asJSON, client.output)
      }
      for prefix in prefixes { try await showGroup(prefix, asJSON: asJSON, client.output) }
      found = found || !page.entries.isEmpty || !page.prefixes.isEmpty
      guard let next = page.next else { break }
      after = next
    }
    if !found && !location.key.isEmpty { throw .failed("no such key or prefix", operand) }
    try await client.output.flush()
  }
}

private func listBuckets(_ context: Context, asJSON: Bool) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(
      ListBuckets(level: client.level), at: client.level, about: "buckets")
    for bucket in answer.buckets {
      let created = rfc3339(.milliseconds(Int64(clamping: bucket.created)))
      try await client.output.line(
        asJSON
          ? JSON.object([
            ("bucket", .string(bucket.name)), ("created", .string(created)),
            ("class", .string(bucket.storageClass)),
            ("keyDomain", bucket.keyDomain.isEmpty ? .null : .string(bucket.keyDomain)),
          ]).text
          : "\(created)  \(bucket.storageClass)"
            + pad("", 10 - bucket.storageClass.count) + "\(Location.scheme)\(bucket.name)"
            + (bucket.keyDomain.isEmpty ? "" : ", encrypted in '\(bucket.keyDomain)'"))
    }
    try await client.output.flush()
  }
}

func showGroup(_ prefix: String, asJSON: Bool, _ output: Output) async throws(Failure) {
  try await output.line(
    asJSON
      ? JSON.object([("prefix", .string(prefix))]).text
      : pad("-", 14) + pad("", 26) + output.shown(prefix))
}

private func show(_ entry: ListObjects.Entry, asJSON: Bool, _ output: Output) async throws(Failure)
{
  let modified = rfc3339(.milliseconds(Int64(clamping: entry.modified)))
  if asJSON {
    try await output.line(
      JSON.object([
        ("key", .string(entry.key)), ("bytes", .number(entry.byteCount)),
        ("modified", .string(modified)), ("etag", .string(entry.contentHash.hex)),
        ("kind", .string(kindText(entry.attributes.kind))),
      ]).text)
  } else {
    try await output.line(
      pad(String(entry.byteCount), 14) + "  " + modified + "  " + output.shown(entry.key))
  }
}

/// Right-aligned in `width` columns.
private func pad(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(0, width - text.count)) + text
}

func kindText(_ kind: ObjectKind) -> String {
  switch kind {
  case .file: "file"
  case .symbolicLink: "symlink"
  case .directory: "directory"
  }
}
