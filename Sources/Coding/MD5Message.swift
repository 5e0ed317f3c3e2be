internal import CCrypto
internal import CDigest

/// The MD5 (RFC 1321) of bytes that come in pieces; a name, not protection. Several messages advance side by side where
/// the processor has AVX2: one alone is bound by what each step waits for.
package final class MD5Message: @unchecked Sendable {
  // Confined to its user.
  private let context: UnsafeMutablePointer<MD5_CTX>

  package init() {
    context = .allocate(capacity: 1)
    context.initialize(to: MD5_CTX())
    MD5_Init(context)
  }

  deinit { context.deallocate() }

  package func update(_ bytes: UnsafeRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    MD5_Update(context, base, bytes.count)
  }

  /// The 16 bytes of the digest of all bytes so far; the last call.
  package func finish() -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: 16) { target, count in
      MD5_Final(target.baseAddress, context)
      count = 16
    }
  }

  /// What ``update(_:lanes:)`` gains most from.
  package static let laneCount = max(1, Int(cairn_md5_lane_count()))

  private static let blockByteCount = 64

  /// Whole blocks of a message that wait for a lane.
  private struct Run {
    var message: MD5Message
    var base: UnsafeRawPointer
    var byteCount: Int
    var blockCount: Int { byteCount / blockByteCount }
  }

  /// The next bytes of each of several messages, none of them twice.
  ///
  /// - Parameter lanes: how many may run at once; 1: one after the other. At most ``laneCount``.
  package static func update(
    _ pieces: [(message: MD5Message, bytes: UnsafeRawBufferPointer)], lanes: Int = laneCount
  ) {
    precondition((1...laneCount).contains(lanes))
    guard pieces.count > 1, lanes > 1 else {
      for piece in pieces { piece.message.update(piece.bytes) }
      return
    }
    var runs: [Run] = []
    for (message, bytes) in pieces {
      // What is left of a block comes first.
      let partial = Int(message.context.pointee.num)
      let head = partial == 0 ? 0 : min(blockByteCount - partial, bytes.count)
      message.update(UnsafeRawBufferPointer(rebasing: bytes[..<head]))
      let rest = bytes.count - head
      guard rest > 0, let base = bytes.baseAddress else { continue }
      runs.append(Run(message: message, base: base + head, byteCount: rest))
    }
    // The longest begin, so that few are left alone at the end.
    runs.sort { $0.byteCount < $1.byteCount }
    var active: [Run] = []
    while true {
      while active.count < lanes, let next = runs.popLast() { active.append(next) }
      guard active.count > 1, let least = active.map(\.blockCount).min() else { break }
      if least > 0 { advance(&active, by: least) }
      active.removeAll { run in
        guard run.blockCount == 0 else { return false }
        run.message.update(UnsafeRawBufferPointer(start: run.base, count: run.byteCount))
        return true
      }
    }
    for run in active {
      run.message.update(UnsafeRawBufferPointer(start: run.base, count: run.byteCount))
    }
  }

  private static func advance(_ runs: inout [Run], by blockCount: Int) {
    let byteCount = blockCount * blockByteCount
    withUnsafeTemporaryAllocation(of: UnsafeMutablePointer<UInt32>?.self, capacity: runs.count) {
      states in
      withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: runs.count) { inputs in
        for (index, run) in runs.enumerated() {
          // A, B, C and D are the structure's first four words.
          states.initializeElement(
            at: index,
            to: UnsafeMutableRawPointer(run.message.context)
              .assumingMemoryBound(to: UInt32.self))
          inputs.initializeElement(at: index, to: run.base)
        }
        cairn_md5_lanes(states.baseAddress, inputs.baseAddress, runs.count, blockCount)
      }
    }
    for index in runs.indices {
      let context = runs[index].message.context
      // Their number of bits, in two words.
      let bits = UInt64(context.pointee.Nh) << 32 | UInt64(context.pointee.Nl)
      let sum = bits &+ UInt64(byteCount) << 3
      context.pointee.Nl = UInt32(truncatingIfNeeded: sum)
      context.pointee.Nh = UInt32(truncatingIfNeeded: sum >> 32)
      runs[index].base += byteCount
      runs[index].byteCount -= byteCount
    }
  }
}
