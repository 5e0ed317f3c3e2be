/// What buckets may be called: S3's rules.
package enum BucketName {
  /// The first rule that `name` breaks, for people; nil when it is a bucket's name.
  package static func brokenRule(_ name: String) -> String? {
    let bytes = Array(name.utf8)
    guard (3...63).contains(bytes.count) else {
      return "a bucket's name has 3 to 63 characters, not \(bytes.count)"
    }
    func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      isDigit(byte) || (byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z"))
    }
    let dot = UInt8(ascii: ".")
    guard bytes.allSatisfy({ isAlphanumeric($0) || $0 == dot || $0 == UInt8(ascii: "-") }) else {
      return "a bucket's name has only a to z, 0 to 9, '.' and '-'"
    }
    guard isAlphanumeric(bytes[0]), isAlphanumeric(bytes[bytes.count - 1]) else {
      return "a bucket's name begins and ends with a letter or digit"
    }
    let labels = bytes.split(separator: dot, omittingEmptySubsequences: false)
    if labels.contains(where: \.isEmpty) { return "a bucket's name has no two dots in a row" }
    if labels.count == 4 && labels.allSatisfy({ $0.count <= 3 && $0.allSatisfy(isDigit) }) {
      return "a bucket's name is no IP address"
    }
    for prefix in ["xn--", "sthree-"] where name.hasPrefix(prefix) {
      return "a bucket's name does not begin with '\(prefix)'"
    }
    for suffix in ["-s3alias", "--ol-s3", "--x-s3"] where name.hasSuffix(suffix) {
      return "a bucket's name does not end in '\(suffix)'"
    }
    return nil
  }
}
