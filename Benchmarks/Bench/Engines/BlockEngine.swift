import Cluster
import Coding
import Ring

/// Where blocks are kept: a store in process, or a node.
protocol BlockPlace: AnyObject, Sendable {
  /// Returns when the block and all before it in its volume are on stable storage.
  ///
  /// - Parameter payload: the 4 KiB of memory before it may be overwritten.
  func write(
    _ key: BlockKey, _ layout: StripeLayout, checksums: [UInt32], payload: Slice
  ) async throws(BenchError)
  /// Returns when the range has been read and compared with its checksums.
  func read(_ key: BlockKey, offset: Int, byteCount: Int) async throws(BenchError)
  func delete(_ shard: ShardKey) async throws(BenchError)
  func close() async
}

/// Blocks appended, and ranges of blocks read, each verified. What `store` and `node` have in common.
///
/// A job that reads first stores its size in blocks as large as they come: 1 MiB with the header, so 1020 KiB of bytes. An
/// offset is that of a MiB and a place in it; a range that would reach into the header's share is moved down. Written
/// blocks are appended without end; when a job has written its size, the oldest go.
final class BlockEngine<Place: BlockPlace>: FilledEngine, @unchecked Sendable {
  // Loop-confined.
  static var usesBuffers: Bool { false }
  let spaceByteCount: UInt64
  private let place: Place
  private let job: UInt64
  /// By worker.
  private var payloads: [Int: Payload] = [:]
  private let options: JobOptions
  private let driver: any Driver

  private var nextBlock: UInt64 = 0
  private var oldestContainer: UInt64
  private var liveByteCount: UInt64 = 0
  private var containerByteCounts: [UInt64: UInt64] = [:]
  private var isDeleting = false
  private let blocksPerContainer: UInt64

  private struct Payload {
    /// With the header's room before it.
    let bytes: Slice
    let checksums: [UInt32]
  }

  private static var span: UInt64 { 1 << 20 }
  private static var header: Int { 4096 }
  static var layoutScheme: Scheme { Scheme(k: 1, m: 0)! }

  /// What a device must hold for a job.
  static func capacity(_ options: JobOptions) -> UInt64 {
    let size = options.byteCount ?? 0
    // Headers, dead records not yet returned, and volumes made ahead.
    return (options.pattern.reads ? size + size / 64 : 0) + (options.pattern.writes ? 3 * size : 0)
      + (2 << 30)
  }

  init(_ place: Place, _ options: JobOptions, job: Int, on driver: any Driver) {
    self.place = place
    self.options = options
    self.job = UInt64(job)
    self.driver = driver
    spaceByteCount = max(Self.span, (options.byteCount ?? 0) / Self.span * Self.span)
    let smallest = UInt64(options.writeSizes.smallest)
    blocksPerContainer = max(16, min(1024, (64 << 20) / smallest))
    oldestContainer = Self.writtenBase(UInt64(job))
  }

  /// Containers of a job's own: those it stores first, and those it writes.
  private static func filledBase(_ job: UInt64) -> UInt64 { job << 40 }
  private static func writtenBase(_ job: UInt64) -> UInt64 { job << 40 | 1 << 39 }

  private static func key(_ container: UInt64, _ stripe: UInt64) -> BlockKey {
    BlockKey(
      shard: ShardKey(container: ContainerID(.data, container), generation: 1, shardIndex: 0),
      stripe: stripe)
  }

  private func filledKey(_ block: UInt64) -> BlockKey {
    Self.key(Self.filledBase(job) + block / 64, block % 64)
  }

  private func layout(_ byteCount: Int) -> StripeLayout {
    StripeLayout(scheme: Self.layoutScheme, blockByteCount: byteCount, byteCount: byteCount)
  }

  /// Stores what will be read.
  func fill() async throws(BenchError) {
    guard options.pattern.reads else { return }
    let blockCount = spaceByteCount / Self.span
    let turns = Counter()
    let failure = await withTaskGroup(of: BenchError?.self) { group in
      for index in 0..<16 {
        group.addTask { [self] in
          let payload = makePayload(index, StripeLayout.largestBlockByteCount)
          while turns.failure == nil, !Task.isCancelled {
            let block = turns.next()
            guard block < blockCount else { return nil }
            do throws(BenchError) {
              try await place.write(
                filledKey(block), layout(StripeLayout.largestBlockByteCount),
                checksums: payload.checksums, payload: payload.bytes)
            } catch {
              turns.failure = error
              return error
            }
          }
          return nil
        }
      }
      var failure: BenchError?
      for await found in group { failure = failure ?? found }
      return failure
    }
    if let failure { throw failure }
  }

  private final class Counter: @unchecked Sendable {
    // Loop-confined.
    private var count: UInt64 = 0
    var failure: BenchError?
    func next() -> UInt64 {
      count += 1
      return count - 1
    }
  }

  private func makePayload(_ index: Int, _ byteCount: Int) -> Payload {
    let whole = driver.buffers.slice(Self.header + byteCount)
    let bytes = whole[Self.header..<whole.count]
    var random = BenchRandom(
      seed: options.randomSeed &+ (job << 32 | UInt64(index)) &* 0x1234_5678_9ABC_DEF1)
    bytes.withMutableBytes { random.fill($0) }
    return Payload(bytes: bytes, checksums: bytes.withBytes { CRC32C.checksums(of: $0) })
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    let count = min(access.count, StripeLayout.largestBlockByteCount)
    if access.direction == .read {
      let inner = min(
        Int(access.offset % Self.span), StripeLayout.largestBlockByteCount - count)
      try await place.read(
        filledKey(access.offset / Self.span), offset: inner, byteCount: count)
      return count
    }
    let payload: Payload
    if let known = payloads[worker.index] {
      payload = known
    } else {
      payload = makePayload(
        worker.index, min(options.writeSizes.largest, StripeLayout.largestBlockByteCount))
      payloads[worker.index] = payload
    }
    let block = nextBlock
    nextBlock += 1
    let container = Self.writtenBase(job) + block / blocksPerContainer
    try await place.write(
      Self.key(container, block % blocksPerContainer), layout(count),
      checksums: count == payload.bytes.count
        ? payload.checksums : Array(payload.checksums[0..<count / StripeLayout.unit]),
      payload: payload.bytes[0..<count])
    liveByteCount += UInt64(count)
    containerByteCounts[container, default: 0] += UInt64(count)
    if liveByteCount > spaceByteCount, !isDeleting { try await deleteOldest(before: container) }
    return count
  }

  /// Gives the oldest blocks up, in whole containers, so that the job's size is what it keeps.
  private func deleteOldest(before current: UInt64) async throws(BenchError) {
    isDeleting = true
    defer { isDeleting = false }
    // The last few may still be written to.
    while liveByteCount > spaceByteCount, oldestContainer + 2 < current {
      let container = oldestContainer
      oldestContainer += 1
      liveByteCount -= containerByteCounts.removeValue(forKey: container) ?? 0
      try await place.delete(Self.key(container, 0).shard)
    }
  }

  func close() async { await place.close() }
}
