import CURing
import Glibc

/// What the loop knows of open files by their numbers, up to a limit: whether the kernel's table of registered files
/// holds it, at the place of its own number, whether it goes past the page cache, and whether what it sends need not be
/// copied.
struct FileTable {
  private let marks: UnsafeMutablePointer<UInt8>
  private let count: UInt32
  private(set) var isRegistered = false

  private static let registered: UInt8 = 1
  private static let direct: UInt8 = 2
  private static let copyless: UInt8 = 4

  init(limit: UInt32) {
    count = UInt32(min(Int(limit), HostProcess.openFileLimit))
    marks = .allocate(capacity: max(1, Int(count)))
    marks.initialize(repeating: 0, count: Int(count))
  }

  func free() { marks.deallocate() }

  /// - Returns: false when the kernel has no such table.
  mutating func register(_ ring: UnsafeMutablePointer<io_uring>) -> Bool {
    isRegistered = count > 0 && io_uring_register_files_sparse(ring, count) == 0
    return isRegistered
  }

  @inline(__always)
  private func holds(_ descriptor: Int32, _ mark: UInt8) -> Bool {
    UInt32(bitPattern: descriptor) < count && marks[Int(descriptor)] & mark != 0
  }

  @inline(__always)
  func isDirect(_ descriptor: Int32) -> Bool { holds(descriptor, Self.direct) }

  @inline(__always)
  func isCopyless(_ descriptor: Int32) -> Bool { holds(descriptor, Self.copyless) }

  @inline(__always)
  func isRegistered(_ descriptor: Int32) -> Bool { holds(descriptor, Self.registered) }

  /// Lets the operation refer to its file by the kernel's table, where it is there.
  @inline(__always)
  func use(_ entry: Entry, _ descriptor: Int32) {
    if isRegistered(descriptor) {
      entry.pointee.flags |= UInt8(truncatingIfNeeded: 1 << IOSQE_FIXED_FILE_BIT)
    }
  }

  /// From here on the kernel's table refers to the file too: it stays open until ``leave(_:)``.
  func enter(
    _ descriptor: Int32, isDirect: Bool = false, isCopyless: Bool = false,
    isRegistered: Bool = true,
    _ ring: UnsafeMutablePointer<io_uring>
  ) {
    guard UInt32(bitPattern: descriptor) < count else { return }
    var mark = (isDirect ? Self.direct : 0) | (isCopyless ? Self.copyless : 0)
    if self.isRegistered && isRegistered {
      var descriptor = descriptor
      if io_uring_register_files_update(ring, UInt32(descriptor), &descriptor, 1) == 1 {
        mark |= Self.registered
      }
    }
    marks[Int(descriptor)] = mark
  }

  func leave(_ descriptor: Int32) {
    if UInt32(bitPattern: descriptor) < count { marks[Int(descriptor)] = 0 }
  }
}

extension EventLoop {
  func enterFile(_ descriptor: Int32) {
    state.pointee.files.enter(descriptor, isDirect: true, &state.pointee.ring)
  }

  func enterConnection(_ descriptor: Int32, peer: SocketAddress?) {
    let isRemote = copiesNothingOnLoopback || peer?.isLoopback == false
    state.pointee.files.enter(
      descriptor, isCopyless: isRemote && features.contains(.zeroCopySend),
      isRegistered: registersSockets, &state.pointee.ring)
  }

  /// Before the close: what was submitted until now still finds the file, nothing after.
  func leaveTable(_ descriptor: Int32) {
    let wasRegistered = state.pointee.files.isRegistered(descriptor)
    state.pointee.files.leave(descriptor)
    guard wasRegistered else { return }
    let entry = nextEntry()
    io_uring_prep_close_direct(entry, UInt32(descriptor))
    entry.pointee.user_data = Tag.ignored.rawValue
  }
}
