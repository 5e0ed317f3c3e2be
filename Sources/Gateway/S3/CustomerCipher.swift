import Coding
import DataPath
import Ring

/// AES-256 in counter mode over an object's bytes, from any place: as many bytes as there were, and the same again for the way back.
///
/// It is AES-256-GCM (NIST SP 800-38D), whose ciphertext is counter mode, over units of 16 KiB with their numbers as nonces; tags are
/// not kept, as objects keep their size. What was changed on the way to a disk and back is noticed by the names of chunks.
final class CustomerCipher: @unchecked Sendable {
  // Loop-confined.
  private var cipher: AES256GCM
  private let opened: CustomerSeal.Opened
  /// What `cipher` is for, in an object of parts.
  private var partIndex: Int?
  private var scratch = [UInt8](repeating: 0, count: unitByteCount + AES256GCM.tagByteCount)

  static let unitByteCount = 16 << 10

  init(_ opened: CustomerSeal.Opened) {
    self.opened = opened
    cipher = AES256GCM(key: opened.key)
  }

  /// - Parameter offset: of the first byte in the object.
  func apply(to bytes: UnsafeMutableRawBufferPointer, at offset: UInt64) {
    guard let parts = opened.parts else { return applyOne(to: bytes, at: offset) }
    var done = 0
    while done < bytes.count {
      let place = offset + UInt64(done)
      guard let (index, range) = parts.part(at: place) else { return }
      if partIndex != index {
        cipher = AES256GCM(key: opened.part(parts.parts[index].nonce).key)
        partIndex = index
      }
      let count = Int(min(UInt64(bytes.count - done), range.upperBound - place))
      applyOne(
        to: UnsafeMutableRawBufferPointer(rebasing: bytes[done..<done + count]),
        at: place - range.lowerBound)
      done += count
    }
  }

  /// - Parameter offset: of the first byte in what has one key stream.
  private func applyOne(to bytes: UnsafeMutableRawBufferPointer, at offset: UInt64) {
    var done = 0
    while done < bytes.count {
      let place = offset + UInt64(done)
      let unit = UInt64(Self.unitByteCount)
      let start = Int(place % unit)
      let count = min(Self.unitByteCount - start, bytes.count - done)
      scratch.withUnsafeMutableBytes { scratch in
        // The bytes before are encrypted for nothing: the counter begins with the unit.
        scratch[..<start].initializeMemory(as: UInt8.self, repeating: 0)
        UnsafeMutableRawBufferPointer(rebasing: scratch[start..<start + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]))
        let end = start + count
        cipher.seal(
          UnsafeRawBufferPointer(rebasing: scratch[..<end]),
          into: UnsafeMutableRawBufferPointer(
            rebasing: scratch[..<(end + AES256GCM.tagByteCount)]),
          nonce: AES256GCM.Nonce(high: 0, low: place / unit))
        UnsafeMutableRawBufferPointer(rebasing: bytes[done..<done + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: scratch[start..<end]))
      }
      done += count
    }
  }
}

/// Encrypts what another source gives. Loop-confined.
final class CustomerSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let inner: any ByteSource
  private let cipher: CustomerCipher
  private var position: UInt64 = 0

  init(_ inner: any ByteSource, _ opened: CustomerSeal.Opened) {
    self.inner = inner
    cipher = CustomerCipher(opened)
  }
  var byteCount: UInt64? { inner.byteCount }
  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let count = try await inner.read(into: slice)
    slice[0..<count].withMutableBytes { cipher.apply(to: $0, at: position) }
    position += UInt64(count)
    return count
  }
  func rewind() -> Bool {
    guard inner.rewind() else { return false }
    position = 0
    return true
  }
}

/// Decrypts on the way to another sink. Loop-confined.
final class CustomerSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private let inner: any ByteSink
  private let cipher: CustomerCipher
  private let pool: BufferPool

  init(_ inner: any ByteSink, _ opened: CustomerSeal.Opened, pool: BufferPool) {
    self.inner = inner
    cipher = CustomerCipher(opened)
    self.pool = pool
  }
  var isOrdered: Bool { inner.isOrdered }
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    var place = offset
    var plain: [Slice] = []
    for slice in slices where slice.count > 0 {
      // Others may read the same bytes.
      let copy = pool.slice(slice.count)
      copy.withMutableBytes { bytes in
        slice.withBytes { bytes.copyMemory(from: $0) }
        cipher.apply(to: bytes, at: place)
      }
      place += UInt64(slice.count)
      plain.append(copy)
    }
    try await inner.write(plain, at: offset)
  }
}
