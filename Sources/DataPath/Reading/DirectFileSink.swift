package import Ring

/// Puts an object's bytes into a file past the page cache, in any order. Loop-confined.
///
/// The kernel's copy into the page cache costs more CPU than everything else a reader of large objects does: `cp` of 1 GB took
/// 1.0 to 1.9 CPU-s where `dd oflag=direct` took 0.2. So bytes are gathered in aligned windows, and each window is
/// written when it is full; that copy stays in the processor's cache.
package final class DirectFileSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private struct Window {
    var bytes: Slice
    var filled = 0
  }

  private let file: File
  private let first: UInt64
  private let byteCount: UInt64
  private let onWritten: (Int) -> Void
  /// Those that have some of their bytes, by number.
  private var windows: [UInt64: Window] = [:]
  package let isOrdered = false

  /// From this size on it is worth it.
  package static let leastByteCount: UInt64 = 4 << 20
  private static let windowByteCount = 1 << 20
  /// What any device wants lengths and offsets to be multiples of.
  private static let alignment = 4096

  /// - Parameters:
  ///   - file: from ``open(_:_:mode:on:)``, empty.
  ///   - range: of the object; its first byte becomes the file's byte 0. Each of its bytes is to be written once.
  ///   - onWritten: told how many bytes went into the file.
  package init(file: File, range: Range<UInt64>, onWritten: @escaping (Int) -> Void) {
    self.file = file
    first = range.lowerBound
    byteCount = UInt64(range.count)
    self.onWritten = onWritten
  }

  /// Opens a file for this sink. On a file system without direct I/O it goes through the page cache after all.
  package static func open(_ path: String, _ flags: Int32, mode: UInt32, on driver: any Driver)
    async throws(RingError) -> File
  {
    do throws(RingError) {
      return try await File.open(path, flags | OpenFlags.direct, mode: mode, on: driver)
    } catch {
      guard error.errno == Errno.invalid else { throw error }
      // The refused open may have made the file.
      return try await File.open(
        path, flags & ~OpenFlags.exclusive, mode: mode, on: driver)
    }
  }

  package func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    let total = slices.reduce(UInt64(0)) { $0 + UInt64($1.count) }
    guard offset >= first, offset - first <= byteCount, total <= byteCount - (offset - first) else {
      throw .sink("bytes outside the range")
    }
    var place = offset - first
    for slice in slices {
      var used = 0
      while used < slice.count {
        let number = place / UInt64(Self.windowByteCount)
        let start = Int(place % UInt64(Self.windowByteCount))
        let count = min(slice.count - used, Self.windowByteCount - start)
        var window =
          windows[number] ?? Window(bytes: file.driver.buffers.slice(Self.windowByteCount))
        slice[used..<used + count].withBytes { from in
          window.bytes[start..<start + count].withMutableBytes { $0.copyMemory(from: from) }
        }
        window.filled += count
        used += count
        place += UInt64(count)
        if window.filled == wantedByteCount(number) {
          windows[number] = nil
          try await store(window, number)
        } else {
          windows[number] = window
        }
      }
    }
  }

  /// Cuts off the padding. Call once, after the last write.
  package func finish() async throws(DataPathError) {
    guard windows.isEmpty else { throw .sink("bytes are missing") }
    guard !byteCount.isMultiple(of: UInt64(Self.alignment)) else { return }
    do throws(RingError) {
      try await file.truncate(to: byteCount)
    } catch {
      throw .sink(error.reason)
    }
  }

  /// Of the file, in this window.
  private func wantedByteCount(_ number: UInt64) -> Int {
    Int(min(UInt64(Self.windowByteCount), byteCount - number * UInt64(Self.windowByteCount)))
  }

  private func store(_ window: Window, _ number: UInt64) async throws(DataPathError) {
    let padded = (window.filled + Self.alignment - 1) / Self.alignment * Self.alignment
    window.bytes[window.filled..<padded].withMutableBytes { rest in
      _ = rest.initializeMemory(as: UInt8.self, repeating: 0)
    }
    do throws(RingError) {
      try await file.write(
        [window.bytes[0..<padded]], at: number * UInt64(Self.windowByteCount))
    } catch {
      throw .sink(error.reason)
    }
    onWritten(window.filled)
  }
}
