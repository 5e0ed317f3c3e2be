import DataPath
import Messages
import Ring
import Service

/// `rm`: objects, or with `-r` everything at and below prefixes.
func remove(_ context: Context) async throws(Failure) {
  let recursive = context.arguments.has("--recursive")
  let operands = context.arguments.operands
  let version = try context.version()
  if version != .unnamed, recursive || operands.count > 1 {
    throw .usage("--version goes with one object")
  }
  var named: [Location] = []
  for operand in operands {
    named.append(try recursive ? Location(operand) : Location.object(operand))
  }
  let locations = named
  let asJSON = context.arguments.has("--json")
  func tell(_ bucket: String, _ key: String) async throws(Failure) {
    guard asJSON else { return }
    try await context.output.line(
      JSON.object([("bucket", .string(bucket)), ("key", .string(key))]).text)
  }
  try await Client.with(context) { client throws(Failure) in
    let objects = recursive ? [] : Array(zip(locations, operands))
    try await inParallel(objects, atMost: parallelRemovals) { object, operand in
      await client.remove(object.bucket, object.key, version, shown: operand)
    }
    for (object, _) in objects { try await tell(object.bucket, object.key) }
    for (location, operand) in recursive ? Array(zip(locations, operands)) : [] {
      var removed = 0
      try await client.forEachPage(below: location, shown: operand) { entries throws(Failure) in
        removed += entries.count
        try await inParallel(entries, atMost: parallelRemovals) { entry in
          await client.remove(location.bucket, entry.key, shown: entry.key)
        }
        for entry in entries { try await tell(location.bucket, entry.key) }
      }
      if removed == 0 { throw .failed("no such key or prefix", operand) }
    }
    try await context.output.flush()
  }
}

/// So many share batches of the log.
private let parallelRemovals = 256

extension Client {
  fileprivate func remove(
    _ bucket: String, _ key: String, _ version: VersionName = .unnamed, shown: String
  ) async -> Failure? {
    let name = ObjectName(bucket: bucket, key: key)
    do throws(Failure) {
      try await change(
        version == .unnamed
          ? .deleteObject(name: name, precondition: .none)
          : .deleteVersion(name: name, version: version), about: shown)
      return nil
    } catch {
      return error
    }
  }

  /// Every object at `location` or below it (`key` itself and `key/…`; all of them when the key is empty), a
  /// listing page at a time, in key order.
  func forEachPage(
    below location: Location, shown: String,
    _ body: ([ListObjects.Entry]) async throws(Failure) -> Void
  ) async throws(Failure) {
    let prefix = location.prefix
    if !prefix.utf8.elementsEqual(location.key.utf8) {
      let found: ObjectRecord?
      do throws(DataPathError) {
        let name = ObjectName(bucket: location.bucket, key: location.key)
        found = try await coordinator.query(
          StatObject(level: level, name: name), at: level
        ).record
      } catch {
        if error.refusalCode != .noSuchKey { throw failure(error, shown) }
        found = nil
      }
      if let found {
        try await body([
          ListObjects.Entry(
            key: location.key, identity: found.identity, byteCount: found.byteCount,
            modified: found.modified, contentHash: found.contentHash, attributes: found.attributes)
        ])
      }
    }
    var after = ""
    while true {
      let page = try await ask(
        ListObjects(
          level: level, bucket: location.bucket, prefix: prefix, after: after, delimiter: "",
          limit: 1000), at: level, about: shown)
      if !page.entries.isEmpty { try await body(page.entries) }
      guard let next = page.next else { return }
      after = next
    }
  }
}

/// Runs `work` for each element, at most `limit` at a time; the first failure is thrown after all that
/// were started have ended, and no more are started.
func inParallel<Element: Sendable>(
  _ elements: [Element], atMost limit: Int,
  _ work: @escaping @Sendable (Element) async -> Failure?
) async throws(Failure) {
  let first = await withTaskGroup(of: Failure?.self) { group in
    var failure: Failure?
    var running = 0
    for element in elements {
      if running >= limit, let ended = await group.next() {
        running -= 1
        failure = failure ?? ended
      }
      if failure != nil { break }
      group.addTask { await work(element) }
      running += 1
    }
    for await ended in group { failure = failure ?? ended }
    return failure
  }
  if let first { throw first }
}
