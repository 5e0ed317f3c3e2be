import DataPath
import Messages
import Ring

/// `put`: files, standard input, or with `-r` whole trees become objects.
func put(_ context: Context) async throws(Failure) {
  let operands = context.arguments.operands
  let target = try Location(operands.last!)
  let sources = Array(operands.dropLast())
  // What waits together shares groups, stripes and batches of the log: docs/performance.md has the figures.
  let jobs = try context.arguments.number("--jobs", in: 1...1024) ?? 256
  let plan = try await planPut(
    sources: sources, target: target, recursive: context.arguments.has("--recursive"), context)
  let items = plan.items

  try await Client.with(context) { client throws(Failure) in
    // One question before the first byte: a missing bucket must not cost an upload.
    _ = try await client.ask(
      ListObjects(
        level: .strong, bucket: target.bucket, prefix: "", after: "", delimiter: "", limit: 1),
      about: Location.scheme + target.bucket)
    if context.arguments.has("--encrypt") { try await client.checkSealed(target.bucket) }
    let progress = Progress(
      "put", output: context.output,
      totalByteCount: items.contains { $0.source == .standardInput }
        ? nil : items.reduce(0) { $0 + $1.byteCount })
    let upload = PutRun(
      client: client, writer: ObjectWriter(client.access), bucket: target.bucket,
      progress: progress)
    if items.contains(where: { $0.source != .standardInput }) {
      try await upload.findExisting(below: target.key, atMost: items.count)
    }
    let failed = await withTaskCancellationHandler {
      await upload.run(items, jobs: jobs)
    } onCancel: {
      upload.writer.giveUp()
    }
    let failures = failed + plan.lostCount
    let finished = await upload.finish()
    await progress.finish()
    if let finished { throw finished }
    if failures > 0 {
      if items.count + plan.lostCount > 1 {
        await context.output.error(
          "cairn: \(failures) of \(items.count + plan.lostCount) were not stored")
      }
      throw .reported
    }
  }
}

/// One object to be.
struct PutItem: Sendable {
  enum Source: Equatable, Sendable {
    case standardInput
    case file(path: String)
    case link(target: [UInt8])
    case directory
  }
  var source: Source
  var key: String
  /// For people.
  var shown: String
  var attributes: ObjectAttributes
  var byteCount: UInt64
}

/// Carries the objects of one `put` out. Loop-confined.
private final class PutRun: @unchecked Sendable {
  let client: Client
  let writer: ObjectWriter
  let bucket: String
  let progress: Progress
  /// What keys hold already, so that what is the same is not stored again. By bytes: equal strings may be different keys.
  private var existing: [[UInt8]: ExistingObject] = [:]

  /// Beyond this many keys the rest is found chunk by chunk.
  private static let existingLimit = 200_000

  init(client: Client, writer: ObjectWriter, bucket: String, progress: Progress) {
    self.client = client
    self.writer = writer
    self.bucket = bucket
    self.progress = progress
  }

  /// Stores all items, `jobs` at a time; names each that failed. Returns how many failed. When the task is cancelled
  /// nothing more is started.
  func run(_ items: [PutItem], jobs: Int) async -> Int {
    await withTaskGroup(of: Bool.self) { group in
      var failures = 0
      var running = 0
      for item in items {
        if running >= jobs, let stored = await group.next() {
          running -= 1
          if !stored { failures += 1 }
        }
        if Task.isCancelled { break }
        group.addTask { [self] in
          do throws(Failure) {
            try await store(item)
            progress.doneCount += 1
            return true
          } catch {
            if !Task.isCancelled { await client.output.error(line(error)) }
            return false
          }
        }
        running += 1
      }
      for await stored in group where !stored { failures += 1 }
      return failures
    }
  }

  /// Lists what the target holds already.
  func findExisting(below prefix: String, atMost itemCount: Int) async throws(Failure) {
    var after = ""
    while existing.count < Self.existingLimit {
      let page = try await client.ask(
        ListObjects(
          level: .strong, bucket: bucket, prefix: prefix, after: after, delimiter: "",
          limit: itemCount == 1 ? 1 : 1000), about: Location.scheme + bucket)
      for entry in page.entries { existing[Array(entry.key.utf8)] = ExistingObject(entry) }
      guard let next = page.next, itemCount > 1 else { return }
      after = next
    }
  }

  /// When the command was cancelled, or nobody leads, nothing more is stored; what is held goes back with the session.
  func finish() async -> Failure? {
    if Task.isCancelled || client.coordinator.isCutOff {
      await writer.abandon()
      return nil
    }
    let outcome = Promise<Failure?>()
    client.driver.spawn("finish put") { [writer, bucket] in
      do throws(DataPathError) {
        try await writer.finish()
        outcome.fulfil(nil)
      } catch {
        outcome.fulfil(failure(error, Location.scheme + bucket))
      }
    }
    return await withTaskCancellationHandler {
      await outcome.get()
    } onCancel: {
      writer.giveUp()
    }
  }

  private func store(_ item: PutItem) async throws(Failure) {
    let name = ObjectName(bucket: bucket, key: item.key)
    switch item.source {
    case .standardInput:
      let input = File(driver: client.driver, descriptor: 0, path: "standard input")
      try await store(item, name, StreamSource(file: input, progress: progress))
    case .file(let path):
      try await storeFile(item, name, path)
    case .link(let target):
      try await store(item, name, BytesSource(target))
    case .directory:
      try await store(item, name, BytesSource([]))
    }
  }

  /// A file that changes while it is read is read again, a few times; what is stored is a state that it was in.
  private func storeFile(_ item: PutItem, _ name: ObjectName, _ path: String)
    async throws(Failure)
  {
    var pause = Duration.milliseconds(20)
    for attempt in 1... {
      let source: FileSource
      do throws(RingError) {
        source = try await FileSource.open(path, progress: progress, on: client.driver)
      } catch {
        throw .failed(error.reason, path)
      }
      // The plan may be minutes old: what is stored is the file as it is now.
      var item = item
      item.byteCount = source.status.byteCount
      item.attributes.mode = source.status.mode
      item.attributes.sourceModified = source.status.modified
      do throws(Failure) {
        try await store(item, name, source)
        await source.close()
        return
      } catch {
        await source.close()
        guard source.hasChanged, attempt < Self.readLimit, await client.driver.sleep(pause) else {
          throw error
        }
        _ = source.rewind()
        pause *= 4
      }
    }
  }

  /// How often a file that changes is read.
  private static let readLimit = 4

  private func store(_ item: PutItem, _ name: ObjectName, _ source: any ByteSource)
    async throws(Failure)
  {
    do throws(DataPathError) {
      _ = try await writer.put(
        name, attributes: item.attributes, source: source, precondition: .none,
        unlessIdentical: true, existing: existing[Array(item.key.utf8)])
    } catch {
      throw failure(error, item.shown)
    }
  }
}
