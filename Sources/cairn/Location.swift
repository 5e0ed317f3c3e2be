import Ring

/// What comes after the last slash but a trailing one. By bytes: a slash before a combining mark is another `Character`.
func lastComponent(of path: String) -> String {
  path.utf8.split(separator: UInt8(ascii: "/")).last.map { String(Substring($0)) } ?? ""
}

/// `cairn://BUCKET/KEY`; the key may be empty or a prefix.
struct Location: Equatable {
  var bucket: String
  var key: String

  static let scheme = "cairn://"

  init(_ text: String) throws(Failure) {
    guard text.hasPrefix(Self.scheme) else {
      throw .usage("not a cairn://BUCKET/KEY location: \(text)")
    }
    let rest = text.dropFirst(Self.scheme.count)
    let cut = rest.firstIndex(of: "/") ?? rest.endIndex
    bucket = String(rest[..<cut])
    key = cut == rest.endIndex ? "" : String(rest[rest.index(after: cut)...])
    if PathText.holdsEscapes(text) { throw .failed("key is not UTF-8", text) }
    if bucket.isEmpty { throw .usage("no bucket in location: \(text)") }
  }

  /// A location that names one object.
  static func object(_ text: String) throws(Failure) -> Location {
    let location = try Location(text)
    try checkKey(location.key, shown: text)
    return location
  }

  /// Keys are 1 to 1,024 bytes of UTF-8.
  static func checkKey(_ key: String, shown: String) throws(Failure) {
    if key.isEmpty { throw .failed("empty key", shown) }
    if key.utf8.count > 1024 {
      throw .failed("key is \(key.utf8.count) bytes long, 1024 are allowed", shown)
    }
  }

  /// `put` and `get` also take bare "BUCKET" and "cairn://BUCKET" where a bucket is meant.
  static func bucketName(_ text: String) throws(Failure) -> String {
    guard text.hasPrefix(scheme) else { return text }
    let location = try Location(text)
    if !location.key.isEmpty { throw .usage("a bucket is wanted, not a key: \(text)") }
    return location.bucket
  }

  var text: String { Self.scheme + bucket + "/" + key }
}
