package import Cluster
import Coding
import Messages
package import Ring
import Wire

extension StripeIO {
  /// The stripe's data bytes in `range`: only the 4 KiB units that hold them are read, each checked against its CRC32C.
  /// What is missing, slow or wrong is rebuilt from any k other blocks, for the same units.
  ///
  /// - Parameter range: within 0 ..< `layout.byteCount`, not empty.
  /// - Returns: slices that together are exactly the range, in order.
  package func read(_ target: StripeTarget, layout: StripeLayout, range: Range<Int>)
    async throws(StripeError) -> [Slice]
  {
    precondition(!range.isEmpty && range.lowerBound >= 0 && range.upperBound <= layout.byteCount)
    var plan = StripeRead(layout: layout, range: range) { [directory] in
      directory.isDown(target.devices[$0])
    }
    let outcome = await gather(&plan, target, layout)
    if Task.isCancelled { throw .cancelled }
    let rebuilt: [Int: Slice]
    switch plan.conclusion {
    case .complete:
      rebuilt = try rebuild(plan, outcome.slices)
    case .undecided, .impossible:
      if outcome.absentCount > layout.scheme.m { throw .notFound }
      throw .unreadable(
        missing: plan.failed.sorted().map { target.devices[$0] }, needed: layout.scheme.k,
        found: plan.sources.count + plan.zeros.count)
    }
    var result: [Slice] = []
    let size = layout.blockByteCount
    for index in plan.wanted.keys.sorted() {
      let low = max(range.lowerBound - index * size, 0)
      let high = min(range.upperBound - index * size, size)
      if let slice = rebuilt[index] {
        result.append(slice[low - plan.span.lowerBound..<high - plan.span.lowerBound])
      } else {
        let start = plan.arrived[index]!.lowerBound
        result.append(outcome.slices[index]![low - start..<high - start])
      }
    }
    return result
  }

  private struct Gathered {
    var slices: [Int: Slice] = [:]
    /// Devices that say they have no such block.
    var absentCount = 0
  }

  private enum Event: Sendable {
    case arrived(Int, Range<Int>, Slice)
    case failed(Int, isAbsent: Bool)
    case hedge
  }

  /// Runs the plan's reads until it is decided.
  private func gather(_ plan: inout StripeRead, _ target: StripeTarget, _ layout: StripeLayout) async
    -> Gathered
  {
    let first = plan.begin()
    let hedgeDelay = options.hedges ? latency.hedgeDelay() : nil
    // A group's body may not touch an inout parameter, so a copy goes in and comes back.
    let start = plan
    let (decided, gathered) = await withTaskGroup(of: Event.self) { group in
      var plan = start
      var gathered = Gathered()
      func launch(_ requests: [StripeRead.Request]) {
        for request in requests {
          group.addTask { [self] in
            await readBlock(target, layout, request)
          }
        }
      }
      launch(first)
      if let hedgeDelay {
        group.addTask { [self] in
          await driver.sleep(hedgeDelay)
          return .hedge
        }
      }
      while plan.conclusion == .undecided, let event = await group.next() {
        switch event {
        case .arrived(let index, let bytes, let slice):
          if (plan.arrived[index]?.count ?? 0) < bytes.count { gathered.slices[index] = slice }
          launch(plan.arrive(index, bytes))
        case .failed(let index, let isAbsent):
          if isAbsent { gathered.absentCount += 1 }
          launch(plan.fail(index))
        case .hedge:
          if Task.isCancelled { break }
          let requests = plan.hedge()
          if !requests.isEmpty { latency.recordHedge() }
          launch(requests)
        }
      }
      group.cancelAll()
      return (plan, gathered)
    }
    plan = decided
    return gathered
  }

  private func readBlock(
    _ target: StripeTarget, _ layout: StripeLayout, _ request: StripeRead.Request
  ) async -> Event {
    let index = request.index
    let device = target.devices[index]
    let started = driver.now
    do throws(WireError) {
      let (answer, body) = try await call(
        ReadBlock(
          device: device, key: target.block(index), offset: request.bytes.lowerBound,
          byteCount: request.bytes.count), to: device, deadline: options.readDeadline)
      guard answer.block.key == target.block(index), answer.block.layout == layout,
        let slice = body.first, body.count == 1, slice.count == request.bytes.count,
        slice.withBytes({ CRC32C.checksums(of: $0) }) == answer.checksums.values
      else {
        onCorruption?(device, target.block(index))
        return .failed(index, isAbsent: false)
      }
      latency.record(driver.now - started)
      return .arrived(index, request.bytes, slice)
    } catch {
      if error.refusalCode == .corrupt { onCorruption?(device, target.block(index)) }
      return .failed(
        index, isAbsent: error.refusalCode == .noSuchBlock)
    }
  }

  /// The wanted blocks that did not come, over the plan's span.
  private func rebuild(_ plan: StripeRead, _ slices: [Int: Slice]) throws(StripeError)
    -> [Int: Slice]
  {
    let missing = plan.toRebuild
    if missing.isEmpty { return [:] }
    rebuiltBlockCount += missing.count
    var rebuilt: [Int: Slice] = [:]
    for index in missing { rebuilt[index] = driver.buffers.slice(plan.span.count) }
    let present = plan.sources.map { index in
      let slice = slices[index]!
      let skip = plan.span.lowerBound - plan.arrived[index]!.lowerBound
      return (index: index, bytes: slice.withBytes { $0.baseAddress! + skip })
    }
    let wanted = missing.map { index in
      (index: index, into: rebuilt[index]!.withMutableBytes { $0.baseAddress! })
    }
    do throws(CodingError) {
      try StripeCoder.shared(plan.layout.scheme).rebuild(
        wanted: wanted, present: present, zeros: plan.zeros, byteCount: plan.span.count)
    } catch {
      throw .corrupt("\(error)")
    }
    // The pointers above are of these slices.
    withExtendedLifetime((slices, rebuilt)) {}
    return rebuilt
  }
}
