import Coding
import Ring

/// The MD5s of all bodies that come in through a gateway. Their bytes wait until a digest must be known or too many of
/// them wait; then those of other bodies ride along in lanes beside it, which costs little more. Loop-confined.
final class DigestLanes: @unchecked Sendable {
  // Loop-confined.
  /// Those with bytes that wait, longest waiting first.
  private var waiting: [BodyDigest.State] = []
  /// Of the memory that they lie in.
  private var keptByteCount = 0
  /// Bodies under way.
  private var bodyCount = 0
  private let byteLimit: Int

  /// What the loop does at once of each body: 64 KiB take 0.15 ms.
  private static let stepByteCount = 64 << 10

  /// - Parameter byteLimit: of the memory that bytes which wait may keep.
  init(byteLimit: Int = 64 << 20) { self.byteLimit = byteLimit }

  /// Whether nobody reads, and nothing waits.
  var isIdle: Bool { bodyCount == 0 && waiting.isEmpty && keptByteCount == 0 }

  fileprivate func begin() { bodyCount += 1 }

  fileprivate func end(_ state: BodyDigest.State) {
    bodyCount -= 1
    keptByteCount -= state.keptByteCount
    waiting.removeAll { $0 === state }
  }

  fileprivate func wait(_ state: BodyDigest.State, _ bytes: Slice) async {
    if state.pieces.isEmpty { waiting.append(state) }
    keptByteCount -= state.keptByteCount
    state.add(bytes)
    keptByteCount += state.keptByteCount
    if bodyCount == 1 { return await settle(state) }
    while keptByteCount > byteLimit { step(waiting[0]) }
  }

  /// Takes all that waits of `state` into its digest.
  fileprivate func settle(_ state: BodyDigest.State) async {
    while !state.pieces.isEmpty {
      step(state)
      if !state.pieces.isEmpty { await Task.yield() }
    }
  }

  private func step(_ state: BodyDigest.State) {
    let count = min(state.pieces[0].count, Self.stepByteCount)
    let riding = waiting.lazy.filter { $0 !== state }.prefix(MD5Message.laneCount - 1)
    let parts = ([state] + riding).map { state in
      let piece = state.pieces[0]
      return (state: state, bytes: piece[0..<min(piece.count, count)])
    }
    withExtendedLifetime(parts) {
      MD5Message.update(parts.map { part in part.bytes.withBytes { (part.state.message, $0) } })
    }
    for part in parts {
      keptByteCount -= part.state.keptByteCount
      part.state.drop(part.bytes.count)
      keptByteCount += part.state.keptByteCount
    }
    waiting.removeAll { $0.pieces.isEmpty }
  }
}

/// The MD5 of one body. Loop-confined.
final class BodyDigest: @unchecked Sendable {
  // Loop-confined.
  fileprivate final class State: @unchecked Sendable {
    let message = MD5Message()
    /// What waits, in order.
    var pieces: [Slice] = []
    var keptByteCount: Int { pieces.reduce(0) { $0 + $1.buffer.byteCount } }

    func add(_ bytes: Slice) {
      if let last = pieces.last, last.isFollowed(by: bytes) {
        pieces[pieces.count - 1] = Slice(
          buffer: last.buffer, offset: last.offset, count: last.count + bytes.count)
      } else {
        pieces.append(bytes)
      }
    }

    func drop(_ count: Int) {
      if count == pieces[0].count {
        pieces.removeFirst()
      } else {
        pieces[0] = pieces[0][count..<pieces[0].count]
      }
    }
  }
  private let state = State()
  private let lanes: DigestLanes

  init(_ lanes: DigestLanes) {
    self.lanes = lanes
    lanes.begin()
  }

  deinit { lanes.end(state) }

  /// Before bytes are read into `slice`, where some that wait may lie.
  func prepare(for slice: Slice) async {
    guard let last = state.pieces.last, !last.isFollowed(by: slice),
      state.pieces.contains(where: { $0.buffer === slice.buffer })
    else { return }
    await lanes.settle(state)
  }

  /// The next bytes, which nobody writes to before ``prepare(for:)``, ``settle()`` or ``finish()`` has returned.
  func update(_ bytes: Slice) async {
    guard bytes.count > 0 else { return }
    await lanes.wait(state, bytes)
  }

  /// After this nothing waits.
  func settle() async { await lanes.settle(state) }

  /// 16 bytes; the last call.
  func finish() async -> [UInt8] {
    await lanes.settle(state)
    return state.message.finish()
  }
}

extension Slice {
  /// Whether `other` begins where this one ends.
  fileprivate func isFollowed(by other: Slice) -> Bool {
    buffer === other.buffer && offset + count == other.offset
  }
}
