import Coding
import Ring

/// The head that `verify` puts before each block it writes, by which the block is known again:
///
///     offset  bytes
///          0      8  "CAIRNBCH"
///          8      8  where the block stands in the job's space
///         16      8  the job's seed
///         24      4  bytes of the block
///         28      4  CRC32C of all behind the head
enum ContentCheck {
  static let leastByteCount = 512
  private static let headByteCount = 32
  private static let magic: UInt64 = 0x4843_424E_5249_4143  // "CAIRNBCH"

  static func stamp(_ block: Slice, offset: UInt64, seed: UInt64, serial: UInt64) {
    block.withMutableBytes { bytes in
      // Else a block that was not written the second time would pass.
      bytes.storeBytes(of: serial, toByteOffset: headByteCount, as: UInt64.self)
      bytes.storeBytes(of: magic, toByteOffset: 0, as: UInt64.self)
      bytes.storeBytes(of: offset, toByteOffset: 8, as: UInt64.self)
      bytes.storeBytes(of: seed, toByteOffset: 16, as: UInt64.self)
      bytes.storeBytes(of: UInt32(bytes.count), toByteOffset: 24, as: UInt32.self)
      bytes.storeBytes(of: sum(UnsafeRawBufferPointer(bytes)), toByteOffset: 28, as: UInt32.self)
    }
  }

  /// What is wrong with a block; nil when it is right.
  static func fault(in block: Slice, offset: UInt64, seed: UInt64) -> String? {
    block.withBytes { bytes in
      guard bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self) == magic else {
        return "bench has written no block there"
      }
      guard bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == offset,
        bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self) == seed,
        bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self) == UInt32(bytes.count)
      else { return "another block stands there" }
      guard bytes.loadUnaligned(fromByteOffset: 28, as: UInt32.self) == sum(bytes) else {
        return "its bytes are not those that were written"
      }
      return nil
    }
  }

  private static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[headByteCount...]))
  }
}
