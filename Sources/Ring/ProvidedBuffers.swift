import CURing
import Glibc
import Synchronization

/// Memory lent to the kernel, which takes a piece of it when a connection has something to say, so that thousands of
/// connections wait with none. A piece comes back when the last slice of it goes.
final class ProvidedBuffers: @unchecked Sendable {
  // Sound: the ring's entries and its tail are written under `lock`; the rest is constant.
  private let lock = Mutex<Void>(())
  private let ring: UnsafeMutablePointer<io_uring_buf_ring>
  private let ringByteCount: Int
  private let base: UnsafeMutableRawPointer
  private let count: Int

  static let group: UInt16 = 0
  static let byteCount = 4096

  /// - Returns: nil when the kernel has no such thing.
  init?(_ uring: UnsafeMutablePointer<io_uring>, count: Int) {
    precondition(count > 0 && count <= 32768 && count.nonzeroBitCount == 1)
    ringByteCount = (count * MemoryLayout<io_uring_buf>.stride + 4095) / 4096 * 4096
    let byteCount = ringByteCount + count * Self.byteCount
    // Not touched before the kernel fills it: a process with few connections never has all of it.
    let memory = mmap(
      nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let memory, memory != MAP_FAILED else { return nil }
    self.count = count
    ring = memory.assumingMemoryBound(to: io_uring_buf_ring.self)
    base = memory + ringByteCount
    var registration = io_uring_buf_reg()
    registration.ring_addr = UInt64(UInt(bitPattern: memory))
    registration.ring_entries = UInt32(count)
    registration.bgid = Self.group
    // What is thrown away here is freed by `deinit`, every field being set.
    guard io_uring_register_buf_ring(uring, &registration, 0) == 0 else { return nil }
    cairn_provide_none(ring)
    for id in 0..<count { provide(id) }
  }

  deinit { munmap(UnsafeMutableRawPointer(ring), ringByteCount + count * Self.byteCount) }

  private func provide(_ id: Int) {
    cairn_provide(ring, base, UInt32(Self.byteCount), UInt32(count), UInt32(id))
  }

  /// The piece that a completion names.
  func take(_ flags: UInt32) -> Buffer? {
    guard flags & IORING_CQE_F_BUFFER != 0 else { return nil }
    let id = Int(flags >> UInt32(IORING_CQE_BUFFER_SHIFT))
    return Buffer(
      providedBy: self, base: base + id * Self.byteCount, byteCount: Self.byteCount)
  }

  func giveBack(_ piece: UnsafeMutableRawPointer) {
    lock.withLock { _ in provide((piece - base) / Self.byteCount) }
  }
}
