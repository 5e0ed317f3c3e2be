import Coding
import Ring

/// A frame waiting to leave.
struct OutgoingFrame {
  var kind: FrameKind
  var method: UInt16 = 0
  var id: UInt64 = 0
  var packet = Packet()
  /// Whoever waits for the answer to this request.
  var call: PendingCall?
  /// The connection that the call belongs to as long as this frame is its own.
  unowned var link: ClientLink?

  var byteCount: Int { FrameHeader.byteCount + packet.message.count + packet.bodyByteCount }
}

/// Sends a connection's frames in order. Everything queued when the connection can send again goes
/// out in one operation: headers and messages gathered in one buffer, bodies from where they lie.
///
/// A task of its own sends, while there is something to send: a caller that is cancelled never cuts a frame in two.
final class FrameWriter: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private let stream: any ByteStream
  private let version: UInt8
  private var queue: [OutgoingFrame] = []
  private var batch: [OutgoingFrame] = []
  private var isClosed = false
  private var sending: SpawnedTask?
  /// The task that sends, while it has nothing to send.
  private var resting: UnsafeContinuation<Bool, Never>?
  /// Told when a send fails.
  unowned var link: Link?
  private var staging: Buffer?
  /// Woken when the queue has become shorter.
  private let drain = WaitQueue()
  private(set) var queuedByteCount = 0
  private(set) var sentByteCount: UInt64 = 0

  /// Once this much is gathered, it is sent.
  private static let batchByteCount = 256 << 10
  private static let batchSliceCount = 256
  private static let stagingByteCount = 16 << 10

  init(driver: any Driver, stream: any ByteStream, version: UInt8) {
    self.driver = driver
    self.stream = stream
    self.version = version
  }

  var isIdle: Bool { sending == nil || resting != nil }

  func push(_ frame: OutgoingFrame) {
    if isClosed { return }
    queuedByteCount += frame.byteCount
    queue.append(frame)
    if sending == nil {
      sending = driver.spawn("wire send") { [self] in await sendAll() }
    } else if let resting {
      self.resting = nil
      resting.resume(returning: true)
    }
  }

  /// Ends the task if it has nothing to send: the connection has fallen silent.
  func dismiss() {
    guard let resting else { return }
    self.resting = nil
    leave()
    resting.resume(returning: false)
  }

  /// What the task leaves behind; from here on a new one may send.
  private func leave() {
    sending = nil
    queue = []
    batch = []
    drain.wakeAll()
  }

  /// Drops what has not left and releases who waits.
  func close() {
    isClosed = true
    queue = []
    queuedByteCount = 0
    dismiss()
    drain.wakeAll()
  }

  /// After ``close()``: cuts short what is being sent, and waits until nothing is.
  func end() async {
    let sending = sending
    sending?.cancel()
    await sending?.wait()
  }

  /// Waits until fewer than `byteCount` bytes are queued.
  func waitUntilBelow(_ byteCount: Int) async {
    while queuedByteCount >= byteCount && !isClosed { await drain.wait() }
  }

  func waitUntilIdle() async {
    while !isIdle && !isClosed { await drain.wait() }
  }

  private func sendAll() async {
    do throws(WireError) {
      repeat {
        while !queue.isEmpty {
          let slices = gather()
          if slices.isEmpty { continue }
          try await stream.send(slices)
          // References to the bodies end here, not when the next frame leaves.
          batch.removeAll(keepingCapacity: true)
          if !drain.isEmpty { drain.wakeAll() }
        }
        // The pool keeps it for whoever sends next, so that thousands of idle connections hold none.
        staging = nil
      } while await rest()
    } catch {
      link?.end(error)
      leave()
    }
  }

  /// - Returns: false when the task has left.
  private func rest() async -> Bool {
    guard !isClosed, link?.isBusy == true else {
      leave()
      return false
    }
    return await withUnsafeContinuation {
      resting = $0
      drain.wakeAll()
    }
  }

  private func gather() -> [Slice] {
    let now = driver.now
    var used = 0
    var headByteCount = 0
    var byteCount = 0
    var sliceCount = 1
    batch.removeAll(keepingCapacity: true)
    for frame in queue {
      if byteCount >= Self.batchByteCount || sliceCount >= Self.batchSliceCount { break }
      used += 1
      queuedByteCount -= frame.byteCount
      if let call = frame.call {
        // It has been sent elsewhere since, because the peer goes away.
        if call.id != frame.id || call.link !== frame.link { continue }
        // Nobody waits for it any more, and nothing of it has left.
        if call.isOver {
          call.link?.forget(call)
          continue
        }
        call.hasLeft = true
      }
      headByteCount += FrameHeader.byteCount + frame.packet.message.count
      byteCount += frame.byteCount
      sliceCount += frame.packet.body.isEmpty ? 0 : frame.packet.body.count + 1
      batch.append(frame)
    }
    if used == queue.count {
      queue.removeAll(keepingCapacity: queue.capacity <= 1024)
    } else {
      queue.removeFirst(used)
    }
    if batch.isEmpty { return [] }

    let heads = takeStaging(headByteCount)
    var slices: [Slice] = []
    slices.reserveCapacity(sliceCount)
    var offset = 0
    var segment = 0
    for frame in batch {
      encode(frame, at: heads.base + offset, now: now)
      offset += FrameHeader.byteCount + frame.packet.message.count
      if frame.packet.body.isEmpty { continue }
      slices.append(Slice(buffer: heads, offset: segment, count: offset - segment))
      slices.append(contentsOf: frame.packet.body)
      segment = offset
    }
    if segment < offset {
      slices.append(Slice(buffer: heads, offset: segment, count: offset - segment))
    }
    sentByteCount &+= UInt64(byteCount)
    return slices
  }

  /// Memory nobody else refers to: after a zero-copy send the kernel may still read the last one.
  private func takeStaging(_ byteCount: Int) -> Buffer {
    if byteCount > Self.stagingByteCount { return driver.buffers.take(byteCount) }
    // No local name for it here: that would be a second reference.
    if staging != nil, staging!.byteCount >= byteCount, isKnownUniquelyReferenced(&staging) {
      return staging!
    }
    let fresh = driver.buffers.take(byteCount)
    staging = fresh
    return fresh
  }

  private func encode(_ frame: OutgoingFrame, at target: UnsafeMutableRawPointer, now: Duration) {
    var header = FrameHeader(version: version, kind: frame.kind)
    header.method = frame.method
    header.id = frame.id
    header.messageByteCount = frame.packet.message.count
    header.bodyByteCount = frame.packet.bodyByteCount
    if let call = frame.call {
      header.deadlineMilliseconds = milliseconds(call.deadline - now)
    }
    var checksum: UInt32 = 0
    if header.messageByteCount > 0 {
      frame.packet.message.withUnsafeBytes { bytes in
        checksum = CRC32C.checksum(bytes, seed: checksum)
        (target + FrameHeader.byteCount).copyMemory(
          from: bytes.baseAddress!, byteCount: bytes.count)
      }
    }
    if let sums = frame.packet.bodySums {
      checksum = CRC32C.joined(checksum, units: sums, byteCount: header.bodyByteCount)
    } else {
      for slice in frame.packet.body where slice.count > 0 {
        checksum = slice.withBytes { CRC32C.checksum($0, seed: checksum) }
      }
    }
    header.contentChecksum = checksum
    header.encode(into: target)
  }
}

/// Rounded up, at least 1, at most what the header holds.
func milliseconds(_ duration: Duration) -> UInt32 {
  let (seconds, attoseconds) = duration.components
  if seconds >= 4_000_000 { return 4_000_000_000 }
  let total = seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
  return UInt32(max(1, total))
}
