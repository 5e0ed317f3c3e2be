import Ring

// Keys and paths are bytes to the cluster and the kernel, so they are cut and compared by bytes here. As a `String` sees
// it, "é" in one code point equals "é" in two, and a slash before a combining mark is no slash.

let slash = UInt8(ascii: "/")

/// What comes after the last slash but a trailing one.
func lastComponent(of path: String) -> String {
  path.utf8.split(separator: slash).last.map { String(Substring($0)) } ?? ""
}

func endsInSlash(_ text: String) -> Bool { text.utf8.last == slash }

/// `name` below `prefix`, which may be empty or end in a slash.
func joined(_ prefix: String, _ name: String) -> String {
  prefix.isEmpty || endsInSlash(prefix) ? prefix + name : prefix + "/" + name
}

/// Without trailing slashes, but "/" stays.
func withoutTrailingSlashes(_ path: String) -> String {
  var bytes = Array(path.utf8)
  while bytes.count > 1 && bytes.last == slash { bytes.removeLast() }
  return String(decoding: bytes, as: UTF8.self)
}

/// `cairn://BUCKET/KEY`; the key may be empty or a prefix.
struct Location: Equatable {
  var bucket: String
  var key: String

  static let scheme = "cairn://"

  /// - Parameter word: from the command line, in the form of ``PathText``. A key that `put -r` made of a name that is no
  ///   UTF-8 can be given as `ls` prints it.
  /// - Throws: a ``Failure/usage(_:)`` for what is no location, or names no bucket that there can be.
  init(_ word: String) throws(Failure) {
    guard let text = String(validating: PathText.bytes(word), as: UTF8.self) else {
      throw .usage("key is not UTF-8: \(word)")
    }
    guard text.utf8.starts(with: Self.scheme.utf8) else {
      throw .usage("not a cairn://BUCKET/KEY location: \(text)")
    }
    let rest = text.utf8.dropFirst(Self.scheme.utf8.count)
    let cut = rest.firstIndex(of: slash) ?? rest.endIndex
    bucket = String(decoding: rest[..<cut], as: UTF8.self)
    key = String(decoding: rest[cut...].dropFirst(), as: UTF8.self)
    if bucket.isEmpty { throw .usage("no bucket in location: \(text)") }
    try NameKind.bucket.check(bucket, shown: text)
  }

  init(bucket: String, key: String) {
    self.bucket = bucket
    self.key = key
  }

  static func == (a: Self, b: Self) -> Bool {
    a.bucket.utf8.elementsEqual(b.bucket.utf8) && a.key.utf8.elementsEqual(b.key.utf8)
  }

  /// A location that names one object.
  static func object(_ text: String) throws(Failure) -> Location {
    let location = try Location(text)
    try checkKey(location.key, shown: text)
    return location
  }

  /// Keys are 1 to 1,024 bytes of UTF-8. The rule that `key` breaks, for people; nil when it breaks none.
  static func brokenRule(key: String) -> String? {
    if key.isEmpty { return "empty key" }
    return key.utf8.count > 1024 ? "key is \(key.utf8.count) bytes long, 1024 are allowed" : nil
  }

  /// - Throws: a ``Failure/usage(_:)``.
  static func checkKey(_ key: String, shown: String) throws(Failure) {
    if let rule = brokenRule(key: key) { throw .usage("\(rule): \(shown)") }
  }

  /// A bucket, bare or as "cairn://BUCKET".
  static func bucketName(_ text: String) throws(Failure) -> String {
    guard text.utf8.starts(with: scheme.utf8) else {
      try NameKind.bucket.check(text)
      return text
    }
    let location = try Location(text)
    if !location.key.isEmpty { throw .usage("a bucket is wanted, not a key: \(text)") }
    return location.bucket
  }

  /// For `cp` and `mv`: a location without a key or with one that ends in a slash gets the last name of `source`.
  func completed(by source: Location) -> Location {
    guard key.isEmpty || endsInSlash(key) else { return self }
    var whole = self
    whole.key += lastComponent(of: source.key)
    return whole
  }

  /// What keys below this one begin with; with an empty key all do.
  var prefix: String { key.isEmpty || endsInSlash(key) ? key : key + "/" }

  /// Whether `other` is this or below it.
  func holds(_ other: Location) -> Bool {
    bucket.utf8.elementsEqual(other.bucket.utf8)
      && (key.utf8.elementsEqual(other.key.utf8) || other.key.utf8.starts(with: prefix.utf8))
  }

  var text: String { Self.scheme + bucket + "/" + key }
}
