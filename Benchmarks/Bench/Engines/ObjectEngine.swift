import Ring

/// Objects, each with a place of its own: a write puts a new one of the transfer's size, and is over when it is committed; a
/// read fetches a range.
final class ObjectEngine: FilledEngine, @unchecked Sendable {
  // Loop-confined.
  static var usesBuffers: Bool { false }
  let spaceByteCount: UInt64
  private let place: any ObjectPlace
  private let job: Int
  private let driver: any Driver
  /// Of the objects that are read.
  private let objectByteCount: UInt64
  private let filledCount: UInt64
  /// Objects put at once before the job begins.
  private let fillWidth: Int
  /// What is put goes with the place.
  private let isTemporary: Bool
  private let noise: Slice
  /// Objects written and not yet deleted: by their numbers.
  private var oldest: UInt64 = 0
  private var next: UInt64 = 0
  private var liveByteCount: UInt64 = 0
  private var byteCounts: [UInt64: UInt64] = [:]
  private var isDeleting = false
  private var drawn: UInt64 = 0

  /// - Parameter largestObject: of those that are read; nil: each is one transfer.
  init(
    _ place: any ObjectPlace, _ options: JobOptions, job: Int, largestObject: UInt64?,
    fillWidth: Int, isTemporary: Bool, on driver: any Driver
  ) {
    self.place = place
    self.job = job
    self.driver = driver
    self.fillWidth = fillWidth
    self.isTemporary = isTemporary
    let size = options.byteCount ?? 0
    let largest = UInt64(max(options.readSizes.largest, options.writeSizes.largest))
    objectByteCount =
      largestObject.map { min(max(size, largest), max($0, largest)) }
      ?? UInt64(options.readSizes.largest)
    filledCount = options.pattern.reads ? max(1, size / objectByteCount) : 0
    spaceByteCount = max(size / objectByteCount, 1) * objectByteCount
    noise = driver.buffers.slice(1 << 20)
    var random = BenchRandom(seed: options.randomSeed &+ UInt64(job))
    noise.withMutableBytes { random.fill($0) }
  }

  private func key(_ family: String, _ number: UInt64) -> String { "\(family)/\(job)/\(number)" }

  private func put(_ key: String, _ count: UInt64) async throws(BenchError) {
    drawn += 1
    try await place.put(
      key, NoiseSource(noise, byteCount: count, serial: UInt64(job) << 48 | drawn))
  }

  /// Stores what will be read.
  func fill() async throws(BenchError) {
    var begun: UInt64 = 0
    var failure: BenchError?
    await withTaskGroup(of: BenchError?.self) { group in
      var running = 0
      while begun < filledCount || running > 0 {
        if begun < filledCount, running < fillWidth, failure == nil, !Task.isCancelled {
          let number = begun
          begun += 1
          running += 1
          group.addTask { [self] in
            do throws(BenchError) {
              try await put(key("filled", number), objectByteCount)
              return nil
            } catch {
              return error
            }
          }
          continue
        }
        guard running > 0, let ended = await group.next() else { break }
        running -= 1
        failure = failure ?? ended
      }
    }
    if let failure { throw failure }
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    if access.direction == .write {
      let number = next
      next += 1
      try await put(key("written", number), UInt64(access.count))
      byteCounts[number] = UInt64(access.count)
      liveByteCount += UInt64(access.count)
      if liveByteCount > spaceByteCount, !isDeleting { try await deleteOldest() }
      return access.count
    }
    let first = min(access.offset % objectByteCount, objectByteCount - UInt64(access.count))
    try await place.read(
      key("filled", min(access.offset / objectByteCount, filledCount - 1)),
      first..<first + UInt64(access.count), of: objectByteCount)
    return access.count
  }

  private func deleteOldest() async throws(BenchError) {
    isDeleting = true
    defer { isDeleting = false }
    while liveByteCount > spaceByteCount, let count = byteCounts.removeValue(forKey: oldest) {
      oldest += 1
      liveByteCount -= count
      try await place.delete(key("written", oldest - 1))
    }
  }

  /// Takes back what the job stored, unless it goes with the place.
  func close() async {
    let engine = self
    await driver.uncancelled {
      if !engine.isTemporary {
        // What cannot be deleted shows when the bucket cannot be removed.
        for number in 0..<engine.filledCount {
          try? await engine.place.delete(engine.key("filled", number))
        }
        for number in engine.byteCounts.keys.sorted() {
          try? await engine.place.delete(engine.key("written", number))
        }
      }
      await engine.place.close()
    }
  }
}
