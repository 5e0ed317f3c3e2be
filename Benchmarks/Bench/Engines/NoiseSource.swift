import DataPath
import Ring

/// Bytes that do not compress and were never stored before: noise, with a number in each 4 KiB. Loop-confined.
final class NoiseSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let noise: Slice
  private let total: UInt64
  private let serial: UInt64
  private var offset: UInt64 = 0

  var byteCount: UInt64? { total }

  init(_ noise: Slice, byteCount: UInt64, serial: UInt64) {
    self.noise = noise
    total = byteCount
    self.serial = BenchRandom.mix(serial)
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int { fill(slice) }

  /// - Returns: how many bytes came; 0 at the end.
  func fill(_ slice: Slice) -> Int {
    let count = Int(min(UInt64(slice.count), total - offset))
    slice[0..<count].withMutableBytes { target in
      noise.withBytes { noise in
        var at = 0
        while at < count {
          let start = Int((offset + UInt64(at)) % UInt64(noise.count))
          let part = min(count - at, noise.count - start)
          UnsafeMutableRawBufferPointer(rebasing: target[at..<at + part]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: noise[start..<start + part]))
          at += part
        }
      }
      // Reads begin anywhere, so the marks are where the object's own 4 KiB begin.
      var mark = (offset + 4095) / 4096 * 4096
      while mark + 8 <= offset + UInt64(count) {
        target.storeBytes(
          of: BenchRandom.mix(serial ^ mark), toByteOffset: Int(mark - offset), as: UInt64.self)
        mark += 4096
      }
    }
    offset += UInt64(count)
    return count
  }

  func rewind() -> Bool {
    offset = 0
    return true
  }
}
