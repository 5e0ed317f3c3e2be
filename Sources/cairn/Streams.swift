import DataPath
import Ring

extension Driver {
  /// All of standard input.
  ///
  /// - Throws: EFBIG beyond `limit` bytes.
  func readStandardInput(limit: Int) async throws(RingError) -> [UInt8] {
    let input = File(driver: self, descriptor: 0, path: "standard input")
    let piece = buffers.slice(64 << 10)
    var bytes: [UInt8] = []
    while true {
      let count = try await input.readStream(into: piece)
      if count == 0 { return bytes }
      bytes += piece[0..<count].array
      guard bytes.count <= limit else {
        throw RingError(errno: Errno.fileTooBig, operation: "read", subject: input.path)
      }
    }
  }
}

/// A file as it stood when it was opened: one that is another at the end than at the start is refused, because what was
/// read is neither.
final class FileSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let progress: Progress
  private var offset: UInt64 = 0
  /// At the start.
  let status: FileStatus
  /// Nil for a file that says 0 and holds more, as those under /proc do.
  let byteCount: UInt64?
  /// What was read is no state that the file was ever in; to be read again from the start.
  private(set) var hasChanged = false

  private init(file: File, status: FileStatus, byteCount: UInt64?, progress: Progress) {
    self.file = file
    self.status = status
    self.byteCount = byteCount
    self.progress = progress
  }

  /// Close it after.
  static func open(_ path: String, progress: Progress, on driver: any Driver)
    async throws(RingError) -> FileSource
  {
    let file = try await File.open(path, OpenFlags.readOnly, on: driver)
    do throws(RingError) {
      let status = try await file.status()
      var byteCount: UInt64? = status.byteCount
      if status.byteCount == 0 {
        let probe = driver.buffers.slice(1)
        if try await file.read(into: probe, at: 0) > 0 { byteCount = nil }
      }
      return FileSource(file: file, status: status, byteCount: byteCount, progress: progress)
    } catch {
      await file.close()
      throw error
    }
  }

  func close() async { await file.close() }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let left = byteCount.map { $0 - offset } ?? .max
    let wanted = Int(min(UInt64(slice.count), left))
    if wanted == 0 { return 0 }
    let count: Int
    do throws(RingError) {
      count = try await file.read(into: slice[0..<wanted], at: offset)
      if count < wanted || UInt64(count) == left { try await compare() }
    } catch {
      throw .source(error.reason)
    }
    offset += UInt64(count)
    progress.add(count)
    if let byteCount, count < wanted {
      hasChanged = true
      throw .source("shrank while it was read, from \(byteCount) bytes to \(offset)")
    }
    if hasChanged { throw .source("changes while it is read") }
    return count
  }

  /// At the end: whether the file is still what it was at the start.
  private func compare() async throws(RingError) {
    let now = try await file.status()
    hasChanged = now.byteCount != status.byteCount || now.modified != status.modified
  }

  func rewind() -> Bool {
    progress.takeBack(offset)
    offset = 0
    hasChanged = false
    return true
  }
}

/// A pipe or terminal, read to its end.
final class StreamSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let progress: Progress
  let byteCount: UInt64? = nil

  init(file: File, progress: Progress) {
    self.file = file
    self.progress = progress
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    do throws(RingError) {
      let count = try await file.readStream(into: slice)
      progress.add(count)
      return count
    } catch {
      throw .source(error.reason)
    }
  }

  func rewind() -> Bool { false }
}

/// A few bytes in memory.
final class BytesSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let bytes: [UInt8]
  private var rest: ArraySlice<UInt8>
  let byteCount: UInt64?

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    rest = bytes[...]
    byteCount = UInt64(bytes.count)
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let part = rest.prefix(slice.count)
    slice.withMutableBytes { $0.copyBytes(from: part) }
    rest = rest.dropFirst(part.count)
    return part.count
  }

  func rewind() -> Bool {
    rest = bytes[...]
    return true
  }
}

/// A file written at the bytes' own places, in any order.
final class FileSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let first: UInt64
  private let progress: Progress
  let isOrdered = false

  /// - Parameter first: the object's byte that becomes the file's byte 0.
  init(file: File, first: UInt64, progress: Progress) {
    self.file = file
    self.first = first
    self.progress = progress
  }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    do throws(RingError) {
      try await file.write(slices, at: offset - first)
      progress.add(slices.reduce(0) { $0 + $1.count })
    } catch {
      throw .sink(error.reason)
    }
  }
}

/// Standard output, a device or a pipe: bytes in order.
final class StreamSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let progress: Progress?
  let isOrdered = true
  /// Whoever read our output has enough.
  private(set) var isReaderGone = false
  /// Whether anything was handed to it: that cannot be taken back.
  private(set) var hasBegun = false

  init(file: File, progress: Progress? = nil) {
    self.file = file
    self.progress = progress
  }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    hasBegun = true
    do throws(RingError) {
      try await file.write(slices, at: .max)
      progress?.add(slices.reduce(0) { $0 + $1.count })
    } catch {
      isReaderGone = error.errno == Errno.brokenPipe
      throw .sink(error.reason)
    }
  }
}

/// Memory, for link targets and other small things.
final class CollectingSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private let limit: Int
  let isOrdered = true
  private(set) var bytes: [UInt8] = []

  init(limit: Int) { self.limit = limit }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    for slice in slices {
      if bytes.count + slice.count > limit { throw .sink("larger than \(limit) bytes") }
      bytes += slice.array
    }
  }
}
