import DataPath
import Messages
import Service

/// `cp -r` and `mv -r`: every object at and below a prefix.
func transferTree(_ context: Context, move: Bool) async throws(Failure) {
  let operands = context.arguments.operands
  let source = try Location(operands[0])
  let target = try Location(operands[1])
  if context.arguments["--version"] != nil {
    throw .usage("--version goes with one object, not with -r")
  }
  guard !source.holds(target) else {
    throw .usage("the target is in what is \(move ? "moved" : "copied"): \(operands[1])")
  }
  try await Client.with(context) { client throws(Failure) in
    // One question before the first object: a missing bucket is one error, not one for each.
    _ = try await client.ask(
      ListObjects(
        level: .strong, bucket: target.bucket, prefix: "", after: "", delimiter: "", limit: 1),
      about: Location.scheme + target.bucket)
    let run = TreeTransfer(
      client, from: source, to: target, move: move, asJSON: context.arguments.has("--json"))
    do throws(Failure) {
      try await run.run(shown: operands[0])
      await run.progress.finish()
    } catch {
      await run.progress.finish()
      throw error
    }
  }
}

/// Where `cp -r` and `mv -r` put the object `key` of what is at `source`: below the target as it was below the source; an object that
/// has the source's own name goes where `cp` puts it. Nil for a folder's own entry when its target is a whole bucket.
func treeTarget(of key: String, from source: Location, to target: Location) -> Location? {
  guard key.utf8.count > source.key.utf8.count || endsInSlash(source.key) else {
    return target.completed(by: source)
  }
  let below = String(decoding: key.utf8.dropFirst(source.prefix.utf8.count), as: UTF8.self)
  if below.isEmpty && target.key.isEmpty { return nil }
  return Location(bucket: target.bucket, key: target.prefix + below)
}

/// Carries out one `cp -r` or `mv -r`, a page of the listing at a time. An object that fails is named, and the others go on.
/// Loop-confined.
private final class TreeTransfer: @unchecked Sendable {
  // Loop-confined.
  let progress: Progress
  private let client: Client
  private let writer: ObjectWriter
  private let source: Location
  private let target: Location
  private let move: Bool
  private let asJSON: Bool
  /// Where the object with the source's own name goes; nil without one.
  private var ownTarget: Location?
  private var foundCount = 0
  private var failureCount = 0

  /// So many share batches of the log.
  private static let parallelCount = 256

  init(_ client: Client, from source: Location, to target: Location, move: Bool, asJSON: Bool) {
    self.client = client
    self.source = source
    self.target = target
    self.move = move
    self.asJSON = asJSON
    writer = ObjectWriter(client.access)
    progress = Progress(move ? "mv" : "cp", output: client.output)
  }

  func run(shown: String) async throws(Failure) {
    do throws(Failure) {
      try await client.forEachPage(below: source, shown: shown) { page throws(Failure) in
        try await transfer(page)
      }
      try await client.finish(writer, target.text)
    } catch {
      await writer.abandon()
      throw error
    }
    try await client.output.flush()
    if foundCount == 0 { throw .failed("no such key or prefix", shown) }
    if failureCount > 0 {
      await client.output.error(
        "cairn: \(failureCount) of \(foundCount) were not \(move ? "moved" : "copied")")
      throw .reported
    }
  }

  private func transfer(_ page: [ListObjects.Entry]) async throws(Failure) {
    foundCount += page.count
    // The first of all, if there is one.
    if let first = page.first, isOwn(first) {
      ownTarget = treeTarget(of: first.key, from: source, to: target)
    }
    let done = await withTaskGroup(of: (Int, Location?).self) { group in
      var done = [Location?](repeating: nil, count: page.count)
      for (index, entry) in page.enumerated() {
        if index >= Self.parallelCount, let (index, target) = await group.next() {
          done[index] = target
        }
        if Task.isCancelled { break }
        group.addTask { [self] in (index, await transfer(entry)) }
      }
      for await (index, target) in group { done[index] = target }
      return done
    }
    if asJSON {
      for (entry, target) in zip(page, done) {
        guard let target else { continue }
        let from = Location(bucket: source.bucket, key: entry.key)
        try await client.output.line(
          JSON.object([("source", .string(from.text)), ("target", .string(target.text))]).text)
      }
    }
    if Task.isCancelled { throw .failed("cancelled", source.text) }
  }

  private func isOwn(_ entry: ListObjects.Entry) -> Bool {
    !source.key.isEmpty && !endsInSlash(source.key)
      && entry.key.utf8.elementsEqual(source.key.utf8)
  }

  /// Where it is now; nil when it failed, which was said.
  private func transfer(_ entry: ListObjects.Entry) async -> Location? {
    let from = Location(bucket: source.bucket, key: entry.key)
    do throws(Failure) {
      guard let to = treeTarget(of: entry.key, from: source, to: target) else {
        // A bucket has no entry of its own to be written.
        guard entry.byteCount == 0 else {
          throw .failed("nothing of its name is left below the target", from.text)
        }
        if move {
          try await client.change(
            .deleteObject(
              name: ObjectName(bucket: from.bucket, key: from.key),
              precondition: .identity(entry.identity)), about: from.text)
        }
        progress.doneCount += 1
        return target
      }
      if let rule = Location.brokenRule(key: to.key) { throw .failed(rule, to.text) }
      guard isOwn(entry) || to != ownTarget else {
        throw .failed("its target is that of \(source.text), too: \(to.text)", from.text)
      }
      // It would be met again, and may be in the place of what is still to come.
      guard !source.holds(to) else {
        throw .failed("its target is in what is \(move ? "moved" : "copied")", from.text)
      }
      try await client.transfer(from, .unnamed, to: to, move: move, writer)
      progress.doneCount += 1
      progress.add(Int(clamping: entry.byteCount))
      return to
    } catch {
      failureCount += 1
      if !Task.isCancelled { await client.output.error(line(error)) }
      return nil
    }
  }
}
