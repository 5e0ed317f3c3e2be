package import Cluster
import Coding
package import Ring
import Wire

extension StripeIO {
  /// All data bytes of a stripe, padding included, when its blocks agree: one more than are needed is read, and is what the
  /// others make it. So what is coded anew is what was coded once.
  ///
  /// Any blocks do: data first, then parity, those of devices that are slow or failed lately last. Only where no more can be had
  /// than are needed, because blocks are gone or their devices down, is nothing compared.
  ///
  /// - Returns: `layout.blockByteCount` bytes for each data block that is stored, in order.
  /// - Throws: ``StripeError/corrupt(_:)`` when they contradict each other.
  package func readAgreeing(_ target: StripeTarget, layout: StripeLayout)
    async throws(StripeError) -> [Slice]
  {
    guard target.places.count == layout.scheme.width else {
      throw .corrupt("\(target.places.count) devices for a scheme of \(layout.scheme)")
    }
    let data = Array(0..<layout.dataBlockCount)
    let found = await blocks(data.count + 1, of: target, layout)
    if Task.isCancelled { throw .cancelled }
    // Where blocks are missing the others have to do.
    guard found.count > data.count else {
      return try await payloads(target, layout: layout, indices: data, lost: [])
    }
    let whole = try agreed(found, layout)
    rebuiltBlockCount += data.count { found[$0] == nil }
    return whole
  }

  /// The data blocks that all of `found` but one make, which is what they make it.
  private func agreed(_ found: [Int: Slice], _ layout: StripeLayout) throws(StripeError)
    -> [Slice]
  {
    let size = layout.blockByteCount
    let coder = StripeCoder.shared(layout.scheme)
    let doubted = found.keys.max()!
    let sources = found.keys.filter { $0 != doubted }.sorted()
    let made = (0..<layout.dataBlockCount).filter { found[$0] == nil || $0 == doubted }
    let aims = Set(made).union([doubted]).sorted()
    let results = aims.map { _ in driver.buffers.slice(size) }
    do throws(CodingError) {
      // Every slice is alive to the end of this scope, so the pointers are.
      try coder.rebuild(
        wanted: zip(aims, results).map { ($0, $1.withMutableBytes { $0.baseAddress! }) },
        present: sources.map { ($0, found[$0]!.withBytes { $0.baseAddress! }) },
        zeros: (0..<layout.scheme.k).filter { !layout.isStored($0) }, byteCount: size)
    } catch {
      throw .corrupt("\(error)")
    }
    withExtendedLifetime(found) {}
    let expected = results[aims.firstIndex(of: doubted)!]
    let sums = [expected, found[doubted]!].map { slice in
      slice.withBytes { CRC32C.checksums(of: $0) }
    }
    guard sums[0] == sums[1] else { throw .corrupt("its blocks contradict each other") }
    return (0..<layout.dataBlockCount).map { index in
      aims.firstIndex(of: index).map { results[$0] } ?? found[index]!
    }
  }

  /// As many blocks as are wanted, as their devices have them, or as there are.
  private func blocks(_ count: Int, of target: StripeTarget, _ layout: StripeLayout) async
    -> [Int: Slice]
  {
    let now = driver.now
    func isAvoided(_ index: Int) -> Bool {
      directory.isSlow(target.device(index)) || suspects.contains(target.device(index), now: now)
    }
    let living = layout.storedBlocks.filter { !directory.isDown(target.device($0)) }
    var next = (living.filter { !isAvoided($0) } + living.filter(isAvoided))[...]
    // One that did not answer is asked once more before the comparison is given up.
    var silent: [Int] = []
    var isSecondRound = false
    return await withTaskGroup(of: Event.self) { group in
      var found: [Int: Slice] = [:]
      var running = 0
      while true {
        while found.count + running < count, let index = next.popFirst() {
          running += 1
          group.addTask { [self] in
            await fetch(
              BlockRange(index: index, range: 0..<layout.blockByteCount), target, layout)
          }
        }
        guard running > 0, let event = await group.next() else { break }
        running -= 1
        switch event {
        case .arrived(let part, let bytes): found[part.index] = bytes
        case .failed(let part, .silent): silent.append(part.index)
        case .failed, .late: break
        }
        if running == 0, next.isEmpty, !isSecondRound, !Task.isCancelled {
          isSecondRound = true
          next = silent[...]
        }
      }
      return found
    }
  }
}
