/// CRC-64 of NVM Express, by tables of eight bytes at a time: ISA-L has it from 2.31 on, Debian 12 has 2.30.
enum CRC64NVME {
  private static let polynomial: UInt64 = 0x9A6C_9329_AC4B_C9B5

  /// `tables[i * 256 + b]`: byte `b`, followed by `i` zero bytes.
  private static let tables: [UInt64] = {
    var tables = [UInt64](repeating: 0, count: 8 * 256)
    for byte in 0..<256 {
      var value = UInt64(byte)
      for _ in 0..<8 { value = value & 1 == 0 ? value >> 1 : value >> 1 ^ polynomial }
      tables[byte] = value
    }
    for place in 256..<8 * 256 {
      let before = tables[place - 256]
      tables[place] = before >> 8 ^ tables[Int(before & 0xFF)]
    }
    return tables
  }()

  static func checksum(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> UInt64 {
    tables.withUnsafeBufferPointer { tables in
      var register = ~seed
      var offset = 0
      while offset + 8 <= bytes.count {
        let word =
          register
          ^ UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        register = 0
        for place in 0..<8 {
          register ^= tables[(7 - place) << 8 | Int(word >> UInt64(8 * place) & 0xFF)]
        }
        offset += 8
      }
      while offset < bytes.count {
        register = register >> 8 ^ tables[Int((register ^ UInt64(bytes[offset])) & 0xFF)]
        offset += 1
      }
      return ~register
    }
  }
}
