import DataPath
import Messages
import Ring

/// One path component that stays where it is put: not empty, not "." or "..", no slash or NUL.
func checkComponent(_ component: some StringProtocol, key: String) throws(Failure) {
  // By bytes, as the kernel sees it: a slash before a combining mark is another `Character`.
  let bytes = component.utf8
  if bytes.isEmpty || bytes.elementsEqual(".".utf8) || bytes.elementsEqual("..".utf8)
    || bytes.contains(slash) || bytes.contains(0)
  {
    throw .failed("object name would leave the destination folder", key)
  }
}

/// The index of the first path that an earlier one equals, byte for byte; nil when all differ.
func firstRepeated(_ paths: [String]) -> Int? {
  var taken: Set<[UInt8]> = []
  return paths.firstIndex { !taken.insert(Array($0.utf8)).inserted }
}

/// Carries out one `get -r`: folders, then files, then links, then the folders' modes and times. Loop-confined.
///
/// Nothing is written outside the destination: every name is checked before the first byte is written, links are made
/// last, and a folder on the way that is a link is refused.
final class RestoreRun: @unchecked Sendable {
  private let client: Client
  private let jobs: Int
  private var driver: any Driver { client.driver }
  /// By bytes: equal strings may be different names.
  private var madeFolders: Set<[UInt8]> = []

  private struct Entry: Sendable {
    var key: String
    /// Below the destination; empty for the destination itself.
    var path: String
    var object: ListObjects.Entry
  }

  init(client: Client, jobs: Int) {
    self.client = client
    self.jobs = jobs
  }

  func run(_ location: Location, shown: String, into destination: String) async throws(Failure) {
    let base = location.prefix
    var entries: [Entry] = []
    var refused: [String] = []
    try await client.forEachPage(below: location, shown: shown) { page throws(Failure) in
      for object in page {
        do throws(Failure) {
          let path = try relativePath(of: object.key, base: base, location: location)
          entries.append(Entry(key: object.key, path: path, object: object))
        } catch {
          refused.append(object.key)
        }
      }
    }
    if let first = refused.first {
      throw .failed(
        refused.count == 1
          ? "object name would leave the destination folder"
          : "\(refused.count) object names would leave the destination folder, the first is", first)
    }
    if entries.isEmpty { throw .failed("no such key or prefix", shown) }
    // As when `p` and `p/p` are fetched together, or `p/a` and a file named `p/a/`.
    let leaves = entries.filter { $0.object.attributes.kind != .directory }
    if let index = firstRepeated(leaves.map(\.path)) {
      throw .failed("another object would be restored to the same place", leaves[index].key)
    }

    try await makeFolder(destination)
    let folders = entries.filter { $0.object.attributes.kind == .directory }
    let files = entries.filter { $0.object.attributes.kind == .file }
    let links = entries.filter { $0.object.attributes.kind == .symbolicLink }
    for folder in folders { try await makeFolders(folder.path, below: destination) }
    for entry in files + links {
      if let cut = entry.path.utf8.lastIndex(of: slash) {
        try await makeFolders(String(entry.path[..<cut]), below: destination)
      }
    }

    let progress = Progress(
      "get", output: client.output,
      totalByteCount: files.reduce(0) { $0 + $1.object.byteCount })
    let failed = await each(files) { [self] entry throws(Failure) in
      try await client.fetch(
        ObjectName(bucket: location.bucket, key: entry.key), identity: entry.object.identity,
        range: 0..<entry.object.byteCount, attributes: entry.object.attributes, isWhole: true,
        to: destination + "/" + entry.path,
        shown: Location.scheme + location.bucket + "/" + entry.key, progress: progress,
        orNewer: true)
      progress.doneCount += 1
    }
    let failedLinks = await each(links) { [self] entry throws(Failure) in
      try await restoreLink(entry, bucket: location.bucket, destination: destination)
    }
    await progress.finish()
    // Deepest first: setting a folder's time comes after the last change inside it.
    for folder in folders.reversed() {
      try await setAttributes(
        folder.object.attributes,
        path: folder.path.isEmpty ? destination : destination + "/" + folder.path)
    }
    let lost = failed + failedLinks
    if lost > 0 {
      await client.output.error("cairn: \(lost) of \(entries.count) were not restored")
      throw .reported
    }
  }

  private func relativePath(of key: String, base: String, location: Location) throws(Failure)
    -> String
  {
    // The object that the location itself names lands under its last name.
    if key.utf8.elementsEqual(location.key.utf8) && key.utf8.last != slash {
      let last = lastComponent(of: key)
      try checkComponent(last, key: key)
      return last
    }
    var path = key.utf8.dropFirst(base.utf8.count)
    if path.last == slash { path = path.dropLast() }
    if path.isEmpty { return "" }
    for component in path.split(separator: slash, omittingEmptySubsequences: false) {
      try checkComponent(Substring(component), key: key)
    }
    return String(Substring(path))
  }

  private func makeFolder(_ path: String) async throws(Failure) {
    do throws(RingError) {
      try await driver.makeDirectories(path)
      let status = try await driver.status(path)
      if status.kind != .directory {
        throw RingError(errno: Errno.notDirectory, operation: "mkdir")
      }
    } catch {
      throw .failed(error.reason, path)
    }
  }

  /// Makes `path` below the destination, a component at a time; each must be a real folder.
  private func makeFolders(_ path: String, below destination: String) async throws(Failure) {
    if path.isEmpty || madeFolders.contains(Array(path.utf8)) { return }
    var built = ""
    for component in path.utf8.split(separator: slash) {
      built += (built.isEmpty ? "" : "/") + String(Substring(component))
      if !madeFolders.insert(Array(built.utf8)).inserted { continue }
      let full = destination + "/" + built
      let result = await driver.submit(.makeDirectory(path: full, mode: 0o755))
      if result == 0 { continue }
      guard result == -Errno.exists else {
        throw .failed(RingError(errno: -result, operation: "mkdir").reason, full)
      }
      guard await driver.isDirectory(full, followLinks: false) else {
        throw .failed("is in the way and no folder", full)
      }
    }
  }

  private func restoreLink(_ entry: Entry, bucket: String, destination: String)
    async throws(Failure)
  {
    let path = destination + "/" + entry.path
    let collected = CollectingSink(limit: 1 << 16)
    let reader = ObjectReader(client.access)
    do throws(DataPathError) {
      try await reader.read(
        ObjectName(bucket: bucket, key: entry.key), identity: entry.object.identity,
        range: 0..<entry.object.byteCount, into: collected)
    } catch {
      throw failure(error, entry.key)
    }
    let draft = client.draftPath(for: path)
    do throws(RingError) {
      try await driver.perform(
        .makeSymbolicLink(path: draft, target: collected.bytes), "symlink", path)
      try await driver.perform(
        .setAttributes(path: draft, mode: nil, modified: entry.object.attributes.sourceModified),
        "set attributes", path)
      try await driver.rename(draft, to: path)
    } catch {
      await client.discard(draft)
      throw .failed(error.reason, path)
    }
  }

  private func setAttributes(_ attributes: ObjectAttributes, path: String) async throws(Failure) {
    do throws(RingError) {
      try await driver.perform(
        .setAttributes(
          path: path, mode: attributes.mode, modified: attributes.sourceModified),
        "set attributes", path)
    } catch {
      throw .failed(error.reason, path)
    }
  }

  /// Runs `work` on all, `jobs` at a time, names each failure and returns how many there were.
  private func each(
    _ entries: [Entry], _ work: @escaping @Sendable (Entry) async throws(Failure) -> Void
  ) async -> Int {
    await withTaskGroup(of: Bool.self) { group in
      var failures = 0
      var running = 0
      for entry in entries {
        if running >= jobs, let done = await group.next() {
          running -= 1
          if !done { failures += 1 }
        }
        if Task.isCancelled { break }
        group.addTask { [client] in
          do throws(Failure) {
            try await work(entry)
            return true
          } catch {
            await client.output.error(line(error))
            return false
          }
        }
        running += 1
      }
      for await done in group where !done { failures += 1 }
      return failures
    }
  }
}
