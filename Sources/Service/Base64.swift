/// Base64 with the usual alphabet and padding (RFC 4648, 4).
package enum Base64 {
  private static let digits = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  package static func encode(_ bytes: [UInt8]) -> String {
    var out: [UInt8] = []
    out.reserveCapacity((bytes.count + 2) / 3 * 4)
    var index = 0
    while index < bytes.count {
      let count = min(3, bytes.count - index)
      var word = UInt32(bytes[index]) << 16
      if count > 1 { word |= UInt32(bytes[index + 1]) << 8 }
      if count > 2 { word |= UInt32(bytes[index + 2]) }
      for place in 0..<4 {
        out.append(
          place <= count
            ? digits[Int(word >> UInt32(18 - 6 * place) & 63)] : UInt8(ascii: "="))
      }
      index += 3
    }
    return String(decoding: out, as: UTF8.self)
  }

  /// Nil for anything but whole groups of four with the right padding, whose unused bits are zero.
  package static func decode(_ text: String) -> [UInt8]? {
    let text = Array(text.utf8)
    guard text.count.isMultiple(of: 4) else { return nil }
    let padding = text.suffix(2).count { $0 == UInt8(ascii: "=") }
    if padding == 2 && text[text.count - 2] != UInt8(ascii: "=") { return nil }
    if padding == 1 && text[text.count - 1] != UInt8(ascii: "=") { return nil }
    var out: [UInt8] = []
    out.reserveCapacity(text.count / 4 * 3)
    var word: UInt32 = 0
    var count = 0
    for byte in text.dropLast(padding) {
      guard let value = value(byte) else { return nil }
      word = word << 6 | UInt32(value)
      count += 1
      if count == 4 {
        out.append(UInt8(word >> 16))
        out.append(UInt8(word >> 8 & 255))
        out.append(UInt8(word & 255))
        word = 0
        count = 0
      }
    }
    switch count {
    case 0: return padding == 0 ? out : nil
    case 2:
      guard padding == 2, word & 15 == 0 else { return nil }
      out.append(UInt8(word >> 4))
    case 3:
      guard padding == 1, word & 3 == 0 else { return nil }
      out.append(UInt8(word >> 10 & 255))
      out.append(UInt8(word >> 2 & 255))
    default: return nil
    }
    return out
  }

  private static func value(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
