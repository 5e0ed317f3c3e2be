internal import Cluster
internal import Coding
internal import Messages
internal import Ring
internal import Stripes
internal import Wire

/// Writes a whole container anew for one job: reads the stripes that there are, packs their bytes into new ones, and stores
/// these under the new generation. Loop-confined.
///
/// Bytes get another code only when they agree with the one they have: what a block that is wrong under a right checksum would
/// turn into could never be found out afterwards.
final class ContainerRepacker: @unchecked Sendable {
  private let driver: any Driver
  private let stripes: StripeIO
  private let call: RepackContainer
  private let layouts: [UInt64: StripeLayout]
  /// How many new stripes still need bytes of each present one.
  private var uses: [UInt64: Int] = [:]
  /// Present stripes that are read or being read.
  private var read: [UInt64: Promise<Result<[Slice], StripeError>>] = [:]
  private let loads = Semaphore(8)
  /// Told of bytes that are about to be read and written.
  private let pace: (Int) async -> Void
  private(set) var bytesRead = 0

  /// New stripes under way at once: in memory are these and what they are made of, about 40 MiB.
  static let window = 2
  private static let writeDeadline = Duration.seconds(30)

  init(
    driver: any Driver, stripes: StripeIO, call: RepackContainer, wanted: [RepackedStripe],
    pace: @escaping (Int) async -> Void
  ) {
    self.driver = driver
    self.stripes = stripes
    self.call = call
    self.pace = pace
    layouts = Dictionary(
      call.stripes.map { ($0.stripe, $0.layout) }, uniquingKeysWith: { first, _ in first })
    for stripe in wanted {
      for source in Set(stripe.parts.map(\.stripe)) { uses[source, default: 0] += 1 }
    }
  }

  /// Reads, packs and stores one of the wanted stripes.
  ///
  /// - Returns: bytes that its blocks have.
  func write(_ stripe: RepackedStripe) async throws(RewriteFailure) -> Int {
    let layout = stripe.layout
    try await load(stripe)
    let buffer = driver.buffers.take(layout.dataBlockCount * layout.blockByteCount)
    var end = 0
    for part in stripe.parts {
      let source = try await bytes(of: part.stripe)
      var place = 0
      for slice in source {
        let inside = part.range.clamped(to: place..<place + slice.count)
        if !inside.isEmpty {
          slice[inside.lowerBound - place..<inside.upperBound - place].withBytes {
            (buffer.base + end).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
          }
          end += inside.count
        }
        place += slice.count
      }
    }
    for source in Set(stripe.parts.map(\.stripe)) {
      uses[source]! -= 1
      if uses[source] == 0 { read[source] = nil }
    }
    guard end == layout.byteCount else { throw RewriteFailure("stripe \(stripe.stripe) is short") }
    let padded = layout.dataBlockCount * layout.blockByteCount
    (buffer.base + end).initializeMemory(as: UInt8.self, repeating: 0, count: padded - end)
    let size = layout.blockByteCount
    let written = layout.storedBlocks.count * size
    await pace(written)
    if driver.meets(.rewriteStalls) { await driver.sleep(.seconds(5)) }
    let failures = await stripes.write(
      StripeTarget(
        container: call.right.grant.container, places: call.places, stripe: stripe.stripe),
      layout: layout,
      data: (0..<layout.dataBlockCount).map {
        Slice(buffer: buffer, offset: $0 * size, count: size)
      }, right: .grant(call.right), epoch: call.right.grant.epoch, deadline: Self.writeDeadline)
    if let failure = failures.first {
      throw RewriteFailure("device \(failure.device): \(failure.error)")
    }
    return written
  }

  /// Reads all that a new stripe is made of, several at once: they may be small.
  private func load(_ stripe: RepackedStripe) async throws(RewriteFailure) {
    let failure = await withTaskGroup(of: RewriteFailure?.self) { group in
      for source in Set(stripe.parts.map(\.stripe)).sorted() {
        group.addTask { [self] in
          do throws(RewriteFailure) {
            _ = try await bytes(of: source)
            return nil
          } catch {
            return error
          }
        }
      }
      var failure: RewriteFailure?
      for await one in group { failure = failure ?? one }
      return failure
    }
    if let failure { throw failure }
  }

  /// All data bytes of a present stripe; read once, however many new ones need some of them.
  private func bytes(of stripe: UInt64) async throws(RewriteFailure) -> [Slice] {
    let promise: Promise<Result<[Slice], StripeError>>
    if let known = read[stripe] {
      promise = known
    } else {
      promise = Promise()
      read[stripe] = promise
      promise.fulfil(await load(stripe))
    }
    do throws(StripeError) {
      return try await promise.get().get()
    } catch {
      throw RewriteFailure("stripe \(stripe): \(error)", isUnreadable: true)
    }
  }

  private func load(_ stripe: UInt64) async -> Result<[Slice], StripeError> {
    guard let layout = layouts[stripe] else {
      return .failure(.corrupt("stripe \(stripe) is not in the job"))
    }
    let byteCount = (layout.dataBlockCount + min(1, layout.scheme.m)) * layout.blockByteCount
    await loads.acquire()
    defer { loads.release() }
    await pace(byteCount)
    bytesRead += byteCount
    do throws(StripeError) {
      return .success(
        try await stripes.readAgreeing(
          StripeTarget(
            container: call.right.grant.container, places: call.sources.map(\.place),
            stripe: stripe), layout: layout))
    } catch {
      return .failure(error)
    }
  }
}
