import Coding
import DataPath
import Ring

/// Bytes of an object as a source, decrypted where a client's key opened it, and their digests on the way. Loop-confined.
final class FoundSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let backend: any ObjectBackend
  private let object: FoundObject
  private let range: Range<UInt64>
  private let opened: CustomerSeal.Opened?
  private let pool: BufferPool
  private let kind: RunningDigest.Kind?
  private var offset: UInt64
  private var md5 = RunningDigest(.md5)
  private var checksum: RunningDigest?

  /// - Parameter kind: of a checksum beside the MD5.
  init(
    _ backend: any ObjectBackend, _ object: FoundObject, _ range: Range<UInt64>,
    _ opened: CustomerSeal.Opened?, _ kind: RunningDigest.Kind?, pool: BufferPool
  ) {
    self.backend = backend
    self.object = object
    self.range = range
    self.opened = opened
    self.kind = kind
    self.pool = pool
    offset = range.lowerBound
    checksum = kind.map { RunningDigest($0) }
  }

  var byteCount: UInt64? { UInt64(range.count) }

  /// Of all bytes, when they were read; once.
  func finish() -> (md5: [UInt8], checksum: [UInt8]) { (md5.finish(), checksum?.finish() ?? []) }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let next = min(range.upperBound, offset + UInt64(slice.count))
    guard offset < next else { return 0 }
    var sink: any ByteSink = SliceSink(slice, first: offset, isOrdered: true)
    if let opened { sink = CustomerSink(sink, opened, pool: pool) }
    do throws(BackendError) {
      try await backend.read(object, offset..<next, into: sink)
    } catch {
      throw error == .changed ? .changed : .source("the bytes to copy cannot be read: \(error)")
    }
    let count = Int(next - offset)
    slice[0..<count].withBytes { bytes in
      md5.update(bytes)
      checksum?.update(bytes)
    }
    offset = next
    return count
  }

  func rewind() -> Bool {
    offset = range.lowerBound
    md5 = RunningDigest(.md5)
    checksum = kind.map { RunningDigest($0) }
    return true
  }
}
