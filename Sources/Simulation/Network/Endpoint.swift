import Glibc
internal import Ring

/// One end of a connection: TCP as far as a program can see it.
final class Endpoint {
  let number: UInt64
  let machine: SimulatedMachine
  private let network: SimulatedNetwork
  private(set) var peer: Endpoint?
  private var pipe: Pipe?

  // Receiving.
  private var arrivedChunks: [ByteChunk] = []
  private var firstChunk = 0
  private var chunkOffset = 0
  private var arrivedCount = 0
  private var hasPeerEnded = false
  private var unannouncedCount = 0
  private struct Receive {
    var pending: PendingOperation
    var slice: Slice
    var waitForAll: Bool
    var outcome: Outcome<Slice>?
  }
  private var receives: [Receive] = []

  // Sending.
  private var window: Int
  private let capacity: Int
  private var hasEnded = false
  private var sends: [(pending: PendingOperation, cursor: GatherCursor, byteCount: Int)] = []

  /// The errno that ended the connection.
  private var failure: Int32?
  private var isFailureReported = false
  /// The peer has reset the connection and listens no more.
  private var isPeerGone = false
  private var isReceiveShut = false
  private var isClosing = false
  private var isClosed = false

  init(number: UInt64, machine: SimulatedMachine, network: SimulatedNetwork) {
    self.number = number
    self.machine = machine
    self.network = network
    capacity = (16 << 10) << network.chance.below(6)
    window = capacity
  }

  func join(_ peer: Endpoint) {
    self.peer = peer
    window = peer.capacity
    pipe = Pipe(network: network, sender: self, receiver: peer)
  }

  /// Breaks the reference cycle between the two ends.
  func unlink() {
    pipe?.clear()
    peer = nil
  }

  var host: String { machine.host }
  var peerHost: String { peer?.host ?? "" }
  var outgoing: Pipe { pipe! }

  // MARK: What programs do

  /// - Parameter outcome: told of the part of the slice that was filled.
  func receive(
    _ pending: PendingOperation, _ slice: Slice, waitForAll: Bool, _ outcome: Outcome<Slice>? = nil
  ) {
    receives.append(
      Receive(pending: pending, slice: slice, waitForAll: waitForAll, outcome: outcome))
    pending.withdraw = { [unowned pending] in
      self.receives.removeAll { $0.pending === pending }
      self.closeIfIdle()
    }
    serveReceives()
  }

  func send(_ pending: PendingOperation, _ slices: [Slice]) {
    let total = slices.reduce(0) { $0 + $1.count }
    var byteCount = total
    if total > 1, network.chance.chance(network.shortSendsPerThousand, in: 1000) {
      byteCount = 1 + network.chance.below(total)
    }
    sends.append((pending, GatherCursor(slices), byteCount))
    pending.withdraw = { [unowned pending] in
      self.sends.removeAll { $0.pending === pending }
      self.closeIfIdle()
    }
    serveSends()
  }

  /// - Returns: the operation's answer.
  func shutdown() -> Int32 {
    if failure != nil { return -ENOTCONN }
    isReceiveShut = true
    finishSending()
    serveReceives()
    serveSends()
    return 0
  }

  func close() {
    isClosing = true
    closeIfIdle()
  }

  private func closeIfIdle() {
    guard isClosing, !isClosed, receives.isEmpty, sends.isEmpty else { return }
    isClosed = true
    if failure == nil {
      if arrivedCount > 0 { outgoing.push(.reset) } else { finishSending() }
    }
    forgetIfOver()
  }

  /// The process has died, or the machine (`silently`).
  func end(silently: Bool) {
    guard !isClosed else { return }
    let wasOpen = failure == nil
    isClosed = true
    isClosing = true
    if wasOpen && !silently {
      if network.chance.chance(1, in: 2) { outgoing.clear() }
      outgoing.push(.reset)
    }
    if silently { outgoing.clear() }
    forgetIfOver()
  }

  private func finishSending() {
    guard !hasEnded else { return }
    hasEnded = true
    outgoing.push(.end)
  }

  // MARK: What the network does

  func arrived(_ content: Pipe.Content) {
    if isClosed {
      answerForNobody(content)
      forgetIfOver()
      return
    }
    guard failure == nil else { return answerForNobody(content) }
    switch content {
    case .bytes(let bytes):
      arrivedChunks.append(bytes)
      arrivedCount += bytes.count
      serveReceives()
    case .end:
      hasPeerEnded = true
      serveReceives()
    case .reset:
      isPeerGone = true
      fail(ECONNRESET)
    case .window(let count):
      window += count
      serveSends()
    }
  }

  /// Bytes for a connection that this side knows no more are answered with a reset.
  private func answerForNobody(_ content: Pipe.Content) {
    switch content {
    case .bytes: if !isPeerGone { outgoing.push(.reset) }
    case .reset: isPeerGone = true
    case .end, .window: return
    }
  }

  /// Ends the connection on this side with an error.
  func fail(_ errno: Int32) {
    guard failure == nil else { return }
    failure = errno
    pipe?.clear()
    if network.chance.chance(1, in: 2) { dropArrived() }
    serveReceives()
    serveSends()
    forgetIfOver()
  }

  private func dropArrived() {
    arrivedChunks = []
    firstChunk = 0
    chunkOffset = 0
    arrivedCount = 0
  }

  /// Once both ends are done, nothing of the connection is left.
  private func forgetIfOver() {
    guard let peer, isClosed, peer.isClosed else { return }
    // What is on its way to a closed end changes nothing any more.
    network.drop(self)
    network.drop(peer)
    peer.unlink()
    unlink()
  }

  // MARK: Moving bytes

  private func serveReceives() {
    while let first = receives.first {
      let (pending, slice, waitForAll) = (first.pending, first.slice, first.waitForAll)
      let wanted = slice.count - pending.progress
      var part = min(wanted, arrivedCount)
      if part > 1, !waitForAll, network.chance.chance(1, in: 4) {
        part = 1 + network.chance.below(part)
      }
      if part > 0 { take(part, into: slice[pending.progress..<slice.count]) }
      pending.progress += part
      let isDone = pending.progress == slice.count || (pending.progress > 0 && !waitForAll)
      let answer: Int32
      if isDone {
        answer = Int32(clamping: pending.progress)
      } else if let failure {
        // What came before the error is given first.
        answer = pending.progress > 0 ? Int32(clamping: pending.progress) : -failure
        if pending.progress == 0 { isFailureReported = true }
      } else if hasPeerEnded || isReceiveShut {
        answer = Int32(clamping: pending.progress)
      } else {
        return
      }
      receives.removeFirst()
      first.outcome?.value = slice[0..<pending.progress]
      if pending.progress > 0 {
        slice[0..<pending.progress].withBytes { pending.process.world.mix(sample: $0) }
      }
      pending.decide(answer, after: network.chance.within(500...8_000))
    }
    closeIfIdle()
  }

  private func take(_ count: Int, into slice: Slice) {
    slice.withMutableBytes { target in
      var done = 0
      while done < count {
        let chunk = arrivedChunks[firstChunk]
        let part = min(chunk.count - chunkOffset, count - done)
        (target.baseAddress! + done).copyMemory(from: chunk.base + chunkOffset, byteCount: part)
        done += part
        chunkOffset += part
        if chunkOffset == chunk.count {
          firstChunk += 1
          chunkOffset = 0
        }
      }
    }
    if firstChunk == arrivedChunks.count {
      arrivedChunks.removeAll(keepingCapacity: true)
      firstChunk = 0
    } else if firstChunk > 32 {
      arrivedChunks.removeFirst(firstChunk)
      firstChunk = 0
    }
    arrivedCount -= count
    unannouncedCount += count
    // Announced in quarters, as TCP avoids silly windows; a sender that waits for the last byte
    // of its window always has a reader with more than three quarters still to read.
    if unannouncedCount * 4 >= capacity && failure == nil {
      outgoing.push(.window(unannouncedCount))
      unannouncedCount = 0
    }
  }

  private func serveSends() {
    while !sends.isEmpty {
      let pending = sends[0].pending
      let byteCount = sends[0].byteCount
      if failure != nil || hasEnded {
        sends.removeFirst()
        if pending.progress > 0, network.chance.chance(1, in: 2) {
          pending.decide(Int32(clamping: pending.progress))
        } else if let failure, !isFailureReported {
          isFailureReported = true
          pending.decide(-failure)
        } else {
          pending.decide(-EPIPE)
        }
        continue
      }
      while pending.progress < byteCount, window > 0 {
        var part = min(byteCount - pending.progress, window)
        // Segments of any size: from one byte to 64 KiB.
        part = min(
          part, network.chance.chance(1, in: 8) ? 1 + network.chance.below(part) : 64 << 10)
        let bytes = network.chunks.take(part)
        sends[0].cursor.copy(into: bytes.base, byteCount: part)
        pending.progress += part
        window -= part
        outgoing.push(.bytes(bytes))
      }
      guard pending.progress == byteCount else { return }
      sends.removeFirst()
      pending.decide(Int32(clamping: byteCount), after: network.chance.within(500...8_000))
    }
    closeIfIdle()
  }
}
