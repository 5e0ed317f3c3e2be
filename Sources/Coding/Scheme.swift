/// A code: `k` data blocks and `m` parity blocks to a stripe, any `k` of which rebuild the rest.
/// `1+m` means copies, `k+0` no protection.
package struct Scheme: Hashable, Sendable, Comparable, CustomStringConvertible {
  /// The most blocks a stripe can have, so that a set of blocks fits one word.
  package static let largestWidth = 64

  package let k: Int
  package let m: Int

  /// Nil unless k >= 1, m >= 0 and k + m <= 64.
  package init?(k: Int, m: Int) {
    guard (1...Self.largestWidth).contains(k), (0...Self.largestWidth - k).contains(m) else {
      return nil
    }
    self.k = k
    self.m = m
  }

  /// Reads "6+3": two decimal numbers without sign, space or leading zero.
  package init?(_ text: String) {
    let parts = text.utf8.split(separator: UInt8(ascii: "+"), omittingEmptySubsequences: false)
    guard parts.count == 2, let k = Self.number(parts[0]), let m = Self.number(parts[1]) else {
      return nil
    }
    self.init(k: k, m: m)
  }

  private static func number(_ digits: Substring.UTF8View) -> Int? {
    guard (1...2).contains(digits.count) else { return nil }
    if digits.count == 2 && digits.first == UInt8(ascii: "0") { return nil }
    var value = 0
    for digit in digits {
      guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
      value = value * 10 + Int(digit - UInt8(ascii: "0"))
    }
    return value
  }

  /// Blocks in a full stripe.
  package var width: Int { k + m }

  package var description: String { "\(k)+\(m)" }

  /// By k, then by m.
  package static func < (left: Scheme, right: Scheme) -> Bool {
    (left.k, left.m) < (right.k, right.m)
  }
}
