import Coding
import DataPath
import Messages
import Service

/// `bucket versioning`: shows whether a bucket keeps versions, or has it begin or stop to.
func bucketVersioning(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  let (on, off) = (context.arguments.has("--on"), context.arguments.has("--suspend"))
  if on && off { throw .usage("--on and --suspend exclude each other") }
  try await Client.with(context) { client throws(Failure) in
    if on || off {
      try await client.change(
        .setVersioning(bucket: name, on ? .enabled : .suspended), about: name)
    }
    let versioning = try await client.ask(GetBucket(level: .strong, name: name), about: name)
      .versioning
    let text =
      switch versioning {
      case .off: "off"
      case .enabled: "on"
      case .suspended: "suspended"
      }
    try await client.output.line(
      context.arguments.has("--json")
        ? JSON.object([("bucket", .string(name)), ("versioning", .string(text))]).text
        : "\(Location.scheme)\(name)  versioning \(text)")
    try await client.output.flush()
  }
}

extension Context {
  /// What `--version` names; `unnamed` when it is not given.
  func version() throws(Failure) -> VersionName {
    guard let text = arguments["--version"] else { return .unnamed }
    guard let version = VersionName(text: text) else {
      throw .usage("--version takes a version id as 'ls --versions' shows it, or 'null': \(text)")
    }
    return version
  }
}

/// `ls --versions`: every version and delete marker at a prefix.
func showVersions(
  _ client: Client, _ location: Location, shown: String, recursive: Bool, asJSON: Bool
)
  async throws(Failure)
{
  var request = ListVersions(
    level: client.level, bucket: location.bucket, prefix: location.key,
    delimiter: recursive ? "" : "/", afterKey: "", after: .unnamed, limit: 1000)
  var found = false
  while true {
    let page = try await client.ask(request, at: client.level, about: shown)
    var prefixes = page.prefixes[...]
    for entry in page.entries {
      while let prefix = prefixes.first, prefix.utf8.lexicographicallyPrecedes(entry.key.utf8) {
        try await showGroup(prefixes.removeFirst(), asJSON: asJSON, client.output)
      }
      try await show(entry, asJSON: asJSON, client.output)
    }
    for prefix in prefixes { try await showGroup(prefix, asJSON: asJSON, client.output) }
    found = found || !page.entries.isEmpty || !page.prefixes.isEmpty
    guard let next = page.next else { break }
    (request.afterKey, request.after) = next
  }
  if !found && !location.key.isEmpty { throw .failed("no such key or prefix", shown) }
}

private func show(_ entry: VersionEntry, asJSON: Bool, _ output: Output) async throws(Failure) {
  let modified = rfc3339(.milliseconds(Int64(clamping: entry.modified)))
  let version = entry.name.text ?? "null"
  if asJSON {
    var members: [(String, JSON)] = [
      ("key", .string(entry.key)), ("version", .string(version)),
      ("current", .bool(entry.isCurrent)), ("deleted", .bool(entry.isMarker)),
      ("modified", .string(modified)),
    ]
    if !entry.isMarker {
      members += [
        ("bytes", .number(entry.byteCount)), ("etag", .string(entry.contentHash.hex)),
      ]
    }
    try await output.line(JSON.object(members).text)
  } else {
    let size = entry.isMarker ? "deleted" : String(entry.byteCount)
    let padding = String(repeating: " ", count: max(0, 32 - version.utf8.count))
    try await output.line(
      String(repeating: " ", count: max(0, 14 - size.count)) + size + "  " + modified + "  "
        + version + padding + (entry.isCurrent ? "  * " : "    ") + output.shown(entry.key))
  }
}
