package import Cluster
import Coding
import Messages
package import Ring
import Wire

extension StripeIO {
  /// The stripe's data bytes in `range`: only the 4 KiB units that hold them are read, each checked against its CRC32C.
  /// What is missing, slow or wrong is rebuilt from as many other blocks as are needed, for the same units.
  ///
  /// - Parameter range: within 0 ..< `layout.byteCount`.
  /// - Returns: slices that together are exactly the range, in order.
  package func read(_ target: StripeTarget, layout: StripeLayout, range: Range<Int>)
    async throws(StripeError) -> [Slice]
  {
    guard range.lowerBound >= 0, range.upperBound <= layout.byteCount else {
      throw .corrupt("range \(range) of a stripe of \(layout.byteCount) bytes")
    }
    if range.isEmpty { return [] }
    let wanted = layout.units(of: range)
    return layout.slices(
      of: range, wanted: wanted, try await gather(target, layout, wanted: wanted, lost: []))
  }

  enum Event: Sendable {
    case arrived(BlockRange, Slice)
    case failed(BlockRange, BlockFailure)
    case late
  }

  /// The bytes of each wanted range, in order.
  func gather(
    _ target: StripeTarget, _ layout: StripeLayout, wanted: [BlockRange], lost: [Int]
  ) async throws(StripeError) -> [[Slice]] {
    guard target.places.count == layout.scheme.width else {
      throw .corrupt("\(target.places.count) devices for a scheme of \(layout.scheme)")
    }
    let now = driver.now
    let avoided = target.places.indices.filter {
      let device = target.device($0)
      return directory.isDown(device) || directory.isSlow(device)
        || suspects.contains(device, now: now)
    }
    let start = ReadPlan(
      layout: layout, wanted: wanted, avoided: avoided,
      spared: spared(target, layout, wanted: wanted, barred: Set(avoided + lost)), lost: lost)
    let (plan, isDone) = await withTaskGroup(of: Event.self) { group in
      var plan = start
      var isDone = false
      if options.hedges {
        let delay = driver.meets(.hedgeEarly) ? .zero : latency.hedgeDelay
        group.addTask { [driver] in
          await driver.sleep(delay)
          return .late
        }
      }
      deciding: while true {
        switch plan.next() {
        case .done:
          isDone = true
          break deciding
        case .hopeless:
          break deciding
        case .fetch(let parts):
          for part in parts {
            group.addTask { [self] in await fetch(part, target, layout) }
          }
        }
        switch await group.next() {
        case nil: break deciding
        case .arrived(let part, let bytes): plan.arrived(part, bytes)
        case .failed(let part, let failure): plan.failed(part, failure)
        case .late:
          if Task.isCancelled { break deciding }
          if let cost = plan.hedge(within: latency.allowance) {
            latency.recordHedge(byteCount: cost)
          }
        }
      }
      group.cancelAll()
      return (plan, isDone)
    }
    guard isDone else {
      if Task.isCancelled { throw .cancelled }
      if plan.failures(.absent).count > layout.scheme.m { throw .notFound }
      throw .unreadable(
        missing: plan.failures().map { target.device($0) }, needed: plan.needed,
        found: plan.possibleCount)
    }
    rebuiltBlockCount += plan.rebuiltCount
    do throws(CodingError) {
      return try plan.assemble(StripeCoder.shared(layout.scheme), pool: driver.buffers)
    } catch {
      throw .corrupt("\(error)")
    }
  }

  /// Blocks that the policy leaves for when others fail.
  private func spared(
    _ target: StripeTarget, _ layout: StripeLayout, wanted: [BlockRange], barred: Set<Int>
  ) -> [Int] {
    readCount &+= 1
    let devices = target.places.map(\.device)
    let costs = options.policy.costs(
      places: devices.map { directory.place(of: $0) },
      reads: devices.map { history.reads(of: $0, now: driver.now) }, turn: readCount,
      k: layout.scheme.k)
    guard let costs else { return [] }
    return ReadPreference.spared(layout: layout, wanted: wanted, costs: costs, barred: barred)
  }

  func fetch(_ part: BlockRange, _ target: StripeTarget, _ layout: StripeLayout) async
    -> Event
  {
    let device = target.device(part.index)
    let key = target.block(part.index)
    let started = driver.now
    var ending = ReadHistory.Ending.failed
    history.began(device)
    defer { history.ended(device, ending, after: driver.now - started, now: driver.now) }
    do throws(WireError) {
      let (answer, body, sums) = try await call(
        ReadBlock(
          device: device, key: key, offset: part.range.lowerBound, byteCount: part.range.count),
        to: device, deadline: options.readDeadline)
      suspects.answered(device)
      guard answer.block.key == key, answer.block.layout == layout, body.count == 1,
        body[0].count == part.range.count,
        sums == answer.checksums.values
      else {
        onCorruption?(device, key)
        return .failed(part, .corrupt)
      }
      ending = .answered
      latency.record(driver.now - started, byteCount: part.range.count)
      return .arrived(part, body[0])
    } catch {
      switch error {
      case .refused:
        switch error.refusalCode {
        case .noSuchBlock:
          suspects.answered(device)
          return .failed(part, .absent)
        case .corrupt:
          onCorruption?(device, key)
          return .failed(part, .corrupt)
        default: suspects.failed(device, now: driver.now)
        }
      case .cancelled: ending = .givenUp
      case .deadline:
        ending = .givenUp
        suspects.failed(device, now: driver.now)
      case .unreachable, .disconnected, .malformed, .wrongKey, .version:
        suspects.failed(device, now: driver.now)
      }
      return .failed(part, .silent)
    }
  }
}

extension StripeLayout {
  /// The parts of data blocks, in whole units, that hold the data bytes in `range`, which is not empty.
  func units(of range: Range<Int>) -> [BlockRange] {
    let size = blockByteCount
    return (range.lowerBound / size...(range.upperBound - 1) / size).map { index in
      let part = range.clamped(to: index * size..<(index + 1) * size)
      let low = (part.lowerBound - index * size) / Self.unit * Self.unit
      let high = (part.upperBound - index * size + Self.unit - 1) / Self.unit * Self.unit
      return BlockRange(index: index, range: low..<high)
    }
  }

  /// The data bytes in `range`, cut out of the bytes of its units.
  func slices(of range: Range<Int>, wanted: [BlockRange], _ blocks: [[Slice]]) -> [Slice] {
    var result: [Slice] = []
    for (part, slices) in zip(wanted, blocks) {
      var place = part.index * blockByteCount + part.range.lowerBound
      for slice in slices {
        let inside = range.clamped(to: place..<place + slice.count)
        if !inside.isEmpty {
          result.append(slice[inside.lowerBound - place..<inside.upperBound - place])
        }
        place += slice.count
      }
    }
    return result
  }
}
