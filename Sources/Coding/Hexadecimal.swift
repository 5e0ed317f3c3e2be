/// Lower-case hexadecimal digits, two for each byte.
package func hexText(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(
    decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

/// The bytes of hexadecimal digits of either case; nil unless all of it is pairs of them.
package func hexBytes(_ text: some StringProtocol) -> [UInt8]? {
  let digits = text.utf8.map { byte -> UInt8? in
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
  guard digits.count.isMultiple(of: 2), digits.allSatisfy({ $0 != nil }) else { return nil }
  return stride(from: 0, to: digits.count, by: 2).map { digits[$0]! << 4 | digits[$0 + 1]! }
}
