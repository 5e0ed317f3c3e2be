import DataPath
import Messages
import Ring

/// `get`: an object into a file, or with `-r` everything below a prefix into a folder.
func get(_ context: Context) async throws(Failure) {
  let operands = context.arguments.operands
  let destination = operands[1]
  let rangeText = context.arguments["--range"]
  let jobs = try context.arguments.number("--jobs", in: 1...1024) ?? 64
  if context.arguments.has("--recursive") {
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
    return try await emit(location, range: range, shown: operands[0], context)
  }
  try await Client.with(context) { client throws(Failure) in
    var path = destination
    if await context.driver.isDirectory(path) || endsInSlash(path) {
      let last = lastComponent(of: location.key)
      try checkComponent(last, key: location.key)
      path = joined(path, last)
    }
    let name = ObjectName(bucket: location.bucket, key: location.key)
    let answer = try await client.ask(StatObject(level: .strong, name: name), about: operands[0])
    let wanted = try resolve(range, size: answer.record.byteCount, shown: operands[0])
    let progress = Progress(
      "get", output: context.output, totalByteCount: UInt64(wanted.count))
    do throws(Failure) {
      try await client.fetch(
        name, identity: answer.record.identity, range: wanted, attributes: answer.record.attributes,
        isWhole: range == nil, to: path, shown: operands[0], progress: progress)
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
  for operand in context.arguments.operands {
    try await emit(try Location.object(operand), range: range, shown: operand, context)
  }
}

private func emit(_ location: Location, range: ByteRangeText?, shown: String, _ context: Context)
  async throws(Failure)
{
  try await Client.with(context) { client throws(Failure) in
    let name = ObjectName(bucket: location.bucket, key: location.key)
    let answer = try await client.ask(StatObject(level: .strong, name: name), about: shown)
    let wanted = try resolve(range, size: answer.record.byteCount, shown: shown)
    let reader = ObjectReader(client.access)
    let sink = StreamSink(
      file: File(driver: context.driver, descriptor: 1, path: "standard output"))
    do throws(DataPathError) {
      try await reader.read(name, identity: answer.record.identity, range: wanted, into: sink)
    } catch {
      if sink.isReaderGone { throw .readerGone }
      if case .sink(let reason) = error { throw .failed(reason, "standard output") }
      throw failure(error, shown)
    }
  }
}

/// "FIRST-LAST", "FIRST-" or "-COUNT" (the last COUNT bytes), as HTTP has them; both ends included.
struct ByteRangeText: Sendable {
  var first: UInt64?
  var last: UInt64?

  init(_ text: String) throws(Failure) {
    let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, !(parts[0].isEmpty && parts[1].isEmpty),
      parts[0].isEmpty || UInt64(parts[0]) != nil, parts[1].isEmpty || UInt64(parts[1]) != nil
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
    let status = Outcome<FileStatus>()
    return await submit(.status(path: path, followLinks: followLinks, status)) == 0
      && status.value?.kind == .directory
  }
}

extension Client {
  /// Writes an object to `path` through a temporary name beside it, so that the file is whole or not there.
  func fetch(
    _ name: ObjectName, identity: UInt64, range: Range<UInt64>, attributes: ObjectAttributes,
    isWhole: Bool, to path: String, shown: String, progress: Progress
  ) async throws(Failure) {
    let draft = path + ".cairn-\(String(driver.random(), radix: 36))"
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
      throw failure(error, shown)
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

  /// Removes what was half written. That it may not be there, or not be ours to remove, changes nothing: the error that
  /// is told is the one that came before.
  func discard(_ draft: String) async {
    _ = await driver.submit(.remove(path: draft, isDirectory: false))
  }
}
