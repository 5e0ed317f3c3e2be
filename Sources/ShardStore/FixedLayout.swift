internal import Cluster
internal import Coding

/// Little-endian integers at fixed places of headers and entries, which end in a CRC32C of all before.
extension UnsafeRawBufferPointer {
  func integer<Integer: FixedWidthInteger>(at offset: Int, _ type: Integer.Type = Integer.self)
    -> Integer
  {
    Integer(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }

  /// Whether the last four bytes are the checksum of the others.
  var isSealed: Bool {
    integer(at: count - 4, UInt32.self)
      == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: self[0..<count - 4]))
  }
}

extension UnsafeMutableRawBufferPointer {
  func put(_ value: some FixedWidthInteger, at offset: Int) {
    storeBytes(of: value.littleEndian, toByteOffset: offset, as: type(of: value))
  }

  /// Writes the checksum of all but the last four bytes there.
  func seal() {
    put(CRC32C.checksum(UnsafeRawBufferPointer(rebasing: self[0..<count - 4])), at: count - 4)
  }
}

extension ContainerID {
  /// Nil when the top byte names no kind.
  init?(raw: UInt64) {
    guard let kind = ContainerKind(rawValue: UInt8(raw >> 56)) else { return nil }
    self.init(kind, raw & (1 << 56 - 1))
  }
}

/// Sequences at or above this were never given: at a million a second they last 100,000 years.
let sequenceLimit: UInt64 = 1 << 62
