import DataPath
import Ring

/// A file of known size. Reading stops at that size; a file that ends before it has shrunk, which is an error.
final class FileSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let progress: Progress
  private var offset: UInt64 = 0
  let byteCount: UInt64?

  init(file: File, byteCount: UInt64, progress: Progress) {
    self.file = file
    self.byteCount = byteCount
    self.progress = progress
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let wanted = Int(min(UInt64(slice.count), byteCount! - offset))
    if wanted == 0 { return 0 }
    let count: Int
    do throws(RingError) {
      count = try await file.read(into: slice[0..<wanted], at: offset)
    } catch {
      throw .source(error.reason)
    }
    offset += UInt64(count)
    if count < wanted {
      throw .source("shrank while it was read, from \(byteCount!) bytes to \(offset)")
    }
    progress.add(count)
    return count
  }

  func rewind() -> Bool {
    progress.takeBack(offset)
    offset = 0
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

/// Standard output: bytes in order.
final class StreamSink: ByteSink, Sendable {
  private let file: File
  let isOrdered = true

  init(file: File) { self.file = file }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    do throws(RingError) {
      try await file.write(slices, at: .max)
    } catch {
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
