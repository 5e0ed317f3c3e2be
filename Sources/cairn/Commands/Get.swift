import DataPath
import Messages
import Ring

/// `get`: an object into a file, or with `-r` everything below a prefix into a folder.
func get(_ context: Context) async throws(Failure) {
  let operands = context.arguments.operands
  let destination = operands[1]
  let rangeText = context.arguments["--range"]
  let jobs = try context.arguments.number("--jobs", in: 1...1024) ?? 64
  let version = try context.version()
  if context.arguments.has("--recursive") {
    if version != .unnamed { throw .usage("--version goes with one object, not with -r") }
    if rangeText != nil { throw .usage("--range goes with one object, not with -r") }
    let location = try Location(operands[0])
    try await Client.with(context) { client throws(Failure) in
      try await RestoreRun(client: client, jobs: jobs).run(
        location, shown: operands[0], into: destination)
    }
    return
  }
  let location = try Location.object(operands[0])
  let range = try rangeText.map(ByteRangeText.init)
  if destination == "-" {
    return try await Client.with(context) { client throws(Failure) in
      try await emit(client, location, version, range: range, shown: operands[0])
    }
  }
  try await Client.with(context) { client throws(Failure) in
    var path = destination
    if await context.driver.isDirectory(path) || endsInSlash(path) {
      let last = lastComponent(of: location.key)
      try checkComponent(last, key: location.key)
      path = joined(path, last)
    }
    let name = ObjectName(bucket: location.bucket, key: location.key)
    let answer = try await client.ask(
      StatObject(level: client.level, name: name, version: version), at: client.level,
      about: operands[0])
    let wanted = try resolve(range, size: answer.record.byteCount, shown: operands[0])
    // A device or pipe is written to; a file takes the place of the one that the name, perhaps a link, leads to.
    let isSpecial = await context.driver.isSpecial(path)
    if !isSpecial { path = try await context.driver.followingLinks(path) }
    let progress = Progress(
      "get", output: context.output, totalByteCount: UInt64(wanted.count))
    do throws(Failure) {
      if isSpecial {
        try await client.pour(
          name, identity: answer.record.identity, range: wanted, into: path, shown: operands[0],
          progress: progress)
      } else {
        try await client.fetch(
          name, identity: answer.record.identity, range: wanted,
          attributes: answer.record.attributes, isWhole: range == nil, to: path, shown: operands[0],
          progress: progress, orNewer: range == nil && version == .unnamed)
      }
      await progress.finish()
    } catch {
      await progress.finish()
      throw error
    }
  }
}

/// `cat`: objects to standard output, one after the other.
func cat(_ context: Context) async throws(Failure) {
  let range = try context.arguments["--range"].map(ByteRangeText.init)
  let version = try context.version()
  let operands = context.arguments.operands
  if version != .unnamed && operands.count > 1 {
    throw .usage("--version goes with one object: \(operands.count) are named")
  }
  let locations = try operands.map { operand throws(Failure) in try Location.object(operand) }
  try await Client.with(context) { client throws(Failure) in
    for (location, operand) in zip(locations, operands) {
      try await emit(client, location, version, range: range, shown: operand)
    }
  }
}

private func emit(
  _ client: Client, _ location: Location, _ version: VersionName, range: ByteRangeText?,
  shown: String
) async throws(Failure) {
  let name = ObjectName(bucket: location.bucket, key: location.key)
  for attempt in 1... {
    let answer = try await client.ask(
      StatObject(level: client.level, name: name, version: version), at: client.level,
      about: shown)
    let wanted = try resolve(range, size: answer.record.byteCount, shown: shown)
    let reader = ObjectReader(client.access)
    let sink = StreamSink(
      file: File(driver: client.driver, descriptor: 1, path: "standard output"))
    do throws(DataPathError) {
      return try await reader.read(
        name, identity: answer.record.identity, range: wanted, into: sink)
    } catch {
      if error == .changed, !sink.hasBegun, attempt < replacedLimit { continue }
      if sink.isReaderGone { throw .readerGone }
      if case .sink(let reason) = error { throw .failed(reason, "standard output") }
      throw failure(error, shown)
    }
  }
}

/// How often a read begins anew because the object was replaced, while nothing of it has left us.
private let replacedLimit = 20

/// "FIRST-LAST", "FIRST-" or "-COUNT" (the last COUNT bytes), as HTTP has them; both ends included.
struct ByteRangeText: Sendable {
  var first: UInt64?
  var last: UInt64?

  init(_ text: String) throws(Failure) {
    let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, !(parts[0].isEmpty && parts[1].isEmpty),
      parts[0].isEmpty || UInt64(parts[0]) != nil, parts[1].isEmpty || UInt64(parts[1]) != nil,
      !text.utf8.contains(UInt8(ascii: "+"))
    else { throw .usage("--range takes FIRST-LAST: \(text)") }
    first = UInt64(parts[0])
    last = UInt64(parts[1])
    if let first, let last, first > last {
      throw .usage("--range ends before it begins: \(text)")
    }
  }
}

/// The range in an object of `size` bytes; all of it when `range` is nil. A range that begins past the end is refused,
/// one that ends past it is cut, as HTTP does.
private func resolve(_ range: ByteRangeText?, size: UInt64, shown: String) throws(Failure)
  -> Range<UInt64>
{
  guard let range else { return 0..<size }
  guard let first = range.first else { return size - min(size, range.last!)..<size }
  if first >= size {
    throw .failed("range begins at \(first), the object has \(size) bytes", shown)
  }
  return first..<(min(range.last ?? .max, size - 1) + 1)
}

extension Driver {
  /// Whether a folder is there; what cannot be looked at is none.
  func isDirectory(_ path: String, followLinks: Bool = true) async -> Bool {
    await kind(of: path, followLinks: followLinks) == .directory
  }

  /// Whether a device, pipe or socket is there, perhaps through links as `/dev/stdout` is.
  func isSpecial(_ path: String) async -> Bool {
    await kind(of: path, followLinks: true) == .other
  }

  /// Where `path` leads when its last name is a link, or the last of several that lead on.
  func followingLinks(_ path: String) async throws(Failure) -> String {
    var path = path
    // As the kernel does, which has looked for loops already unless the end is missing.
    for _ in 0..<40 {
      guard await kind(of: path, followLinks: false) == .symbolicLink else { return path }
      let outcome = Outcome<[UInt8]>()
      do throws(RingError) {
        try await perform(.readSymbolicLink(path: path, outcome), "readlink", path)
      } catch {
        throw .failed(error.reason, path)
      }
      let target = PathText.string(outcome.value ?? [])
      if target.utf8.first == slash {
        path = target
      } else {
        let folder = path.utf8.lastIndex(of: slash).map { path[...$0] } ?? ""
        path = folder + target
      }
    }
    throw .failed("Too many levels of symbolic links", path)
  }

  private func kind(of path: String, followLinks: Bool) async -> FileKind? {
    let status = Outcome<FileStatus>()
    guard await submit(.status(path: path, followLinks: followLinks, status)) == 0 else {
      return nil
    }
    return status.value?.kind
  }
}

extension Client {
  /// Writes an object to what `path` leads to, in order and as it comes: for what has no bytes of its own.
  func pour(
    _ name: ObjectName, identity: UInt64, range: Range<UInt64>, into path: String, shown: String,
    progress: Progress
  ) async throws(Failure) {
    let file: File
    do throws(RingError) {
      // A pipe that nobody reads is refused, not waited for.
      file = try await File.open(path, OpenFlags.writeOnly | OpenFlags.nonBlocking, on: driver)
    } catch {
      throw .failed(error.reason, path)
    }
    do throws(DataPathError) {
      try await ObjectReader(access).read(
        name, identity: identity, range: range, into: StreamSink(file: file, progress: progress))
      await file.close()
    } catch {
      await file.close()
      if case .sink(let reason) = error { throw .failed(reason, path) }
      throw failure(error, shown)
    }
  }

  /// Writes an object to `path` through a temporary name beside it, so that the file is whole or not there.
  ///
  /// - Parameter orNewer: when it is replaced meanwhile, what it was replaced by is wanted, if that is a file too.
  func fetch(
    _ name: ObjectName, identity: UInt64, range: Range<UInt64>, attributes: ObjectAttributes,
    isWhole: Bool, to path: String, shown: String, progress: Progress, orNewer: Bool,
    attempt: Int = 1
  ) async throws(Failure) {
    let draft = draftPath(for: path)
    let flags = OpenFlags.writeOnly | OpenFlags.create | OpenFlags.exclusive
    let isLarge = UInt64(range.count) >= DirectFileSink.leastByteCount
    let file: File
    do throws(RingError) {
      file =
        isLarge
        ? try await DirectFileSink.open(draft, flags, mode: 0o600, on: driver)
        : try await File.open(draft, flags, mode: 0o600, on: driver)
    } catch {
      throw .failed(error.reason, path)
    }
    let reader = ObjectReader(access)
    do throws(DataPathError) {
      if isLarge {
        let sink = DirectFileSink(file: file, range: range) { progress.add($0) }
        try await reader.read(name, identity: identity, range: range, into: sink)
        try await sink.finish()
      } else {
        try await reader.read(
          name, identity: identity, range: range,
          into: FileSink(file: file, first: range.lowerBound, progress: progress))
      }
      await file.close()
    } catch {
      await file.close()
      await discard(draft)
      if case .sink(let reason) = error { throw .failed(reason, path) }
      guard error == .changed, orNewer, attempt < replacedLimit else {
        throw failure(error, shown)
      }
      let newer = try await ask(StatObject(level: level, name: name), at: level, about: shown)
        .record
      guard newer.attributes.kind == attributes.kind else { throw failure(error, shown) }
      return try await fetch(
        name, identity: newer.identity, range: 0..<newer.byteCount, attributes: newer.attributes,
        isWhole: isWhole, to: path, shown: shown, progress: progress, orNewer: true,
        attempt: attempt + 1)
    }
    do throws(RingError) {
      // rename keeps mode and times, so they are set under the draft name.
      try await driver.perform(
        .setAttributes(
          path: draft, mode: attributes.mode ?? 0o644,
          modified: isWhole ? attributes.sourceModified : nil), "set attributes", path)
      try await driver.rename(draft, to: path)
    } catch {
      await discard(draft)
      throw .failed(error.reason, path)
    }
  }

  /// A name beside `path` that nobody else has, for what is not whole yet: told by its ending whose it is, unless the
  /// file system's bound on a name's length leaves no room for that.
  func draftPath(for path: String) -> String {
    let ending = ".cairn-" + String(driver.random(), radix: 36)
    let name =
      path.utf8.lastIndex(of: slash).map { path[path.utf8.index(after: $0)...] } ?? path[...]
    if PathText.bytes(String(name)).count + ending.utf8.count <= Self.nameByteLimit {
      return path + ending
    }
    return path[..<name.startIndex] + ending
  }

  /// NAME_MAX of every file system of note.
  private static let nameByteLimit = 255

  /// Removes what was half written. That it may not be there, or not be ours to remove, changes nothing: the error that
  /// is told is the one that came before.
  func discard(_ draft: String) async {
    _ = await driver.submit(.remove(path: draft, isDirectory: false))
  }
}
