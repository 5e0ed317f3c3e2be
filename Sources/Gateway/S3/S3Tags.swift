import Messages
import Service

/// Tags of an object or a bucket, in the order in which they came; no two have one key.
struct S3Tags: Equatable {
  var pairs: [Pair] = []
  struct Pair: Equatable {
    var key: String
    var value: String
  }

  static let objectLimit = 10
  static let bucketLimit = 50
  static let documentByteLimit = 256 << 10
  /// What the names of attributes begin with that hold tags.
  static let attributePrefix = "x-amz-tag:"

  init() {}

  /// The `x-amz-tagging` of a request: coded as the query of an address.
  init(header text: String) throws(S3Error) {
    let malformed = S3Error(
      .invalidArgument,
      "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."
    ).with("ArgumentName", "x-amz-tagging").with("ArgumentValue", text)
    for item in text.utf8.split(separator: UInt8(ascii: "&")) {
      let sides = item.split(
        separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = URLCoding.decode(sides[0], plusIsSpace: true),
        let value = sides.count == 2 ? URLCoding.decode(sides[1], plusIsSpace: true) : [],
        let key = String(validating: name, as: UTF8.self),
        let text = String(validating: value, as: UTF8.self)
      else { throw malformed }
      guard !pairs.contains(where: { $0.key.utf8.elementsEqual(key.utf8) }) else {
        throw malformed
      }
      pairs.append(Pair(key: key, value: text))
    }
    try check(limit: Self.objectLimit)
  }

  /// A `Tagging` document.
  init(document: [UInt8], limit: Int) throws(S3Error) {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(document, root: "Tagging")
    } catch {
      throw S3Error(.malformedXML)
    }
    let sets = tree.all("TagSet")
    guard sets.count == 1, tree.children.count == 1 else { throw S3Error(.malformedXML) }
    try self.init(set: sets[0], limit: limit)
  }

  /// The children of a `TagSet`.
  init(set: XMLTree, limit: Int) throws(S3Error) {
    for item in set.children {
      guard item.name == "Tag", let key = item.value("Key"), let value = item.value("Value"),
        item.children.count == 2
      else { throw S3Error(.malformedXML) }
      pairs.append(Pair(key: key, value: value))
    }
    try check(limit: limit)
  }

  /// S3's rules: how many, how long, which characters, each key once.
  private func check(limit: Int) throws(S3Error) {
    guard pairs.count <= limit else {
      throw S3Error(
        .badRequest,
        limit == Self.objectLimit
          ? "Object tags cannot be greater than \(limit)"
          : "Bucket tag count cannot be greater than \(limit)")
    }
    var seen: Set<[UInt8]> = []
    for pair in pairs {
      try Self.check(pair)
      guard seen.insert(Array(pair.key.utf8)).inserted else {
        throw S3Error(.invalidTag, "Cannot provide multiple Tags with the same key")
          .with("TagKey", pair.key)
      }
    }
  }

  static func check(_ pair: Pair) throws(S3Error) {
    guard (1...128).contains(pair.key.unicodeScalars.count), isPlain(pair.key) else {
      throw S3Error(.invalidTag, "The TagKey you have provided is invalid")
        .with("TagKey", pair.key)
    }
    guard pair.value.unicodeScalars.count <= 256, isPlain(pair.value) else {
      throw S3Error(.invalidTag, "The TagValue you have provided is invalid")
        .with("TagKey", pair.key).with("TagValue", pair.value)
    }
    guard !pair.key.lowercased().hasPrefix("aws:") else {
      throw S3Error(.invalidTag, "System tags cannot be added/updated by requester")
        .with("TagKey", pair.key)
    }
  }

  private static func isPlain(_ text: String) -> Bool {
    text.unicodeScalars.allSatisfy { scalar in
      switch scalar.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter,
        .decimalNumber, .letterNumber, .otherNumber, .spaceSeparator, .nonspacingMark, .spacingMark:
        true
      default: "+-=._:/@".unicodeScalars.contains(scalar)
      }
    }
  }

  // MARK: How they are kept

  /// From among an object's attributes.
  init(_ attributes: ObjectAttributes) {
    for attribute in attributes.user where attribute.name.hasPrefix(Self.attributePrefix) {
      pairs.append(
        Pair(
          key: String(attribute.name.dropFirst(Self.attributePrefix.count)),
          value: attribute.value))
    }
  }
  var attributes: [ObjectAttributes.UserAttribute] {
    pairs.map { .init(name: Self.attributePrefix + $0.key, value: $0.value) }
      .sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  /// What GetObjectTagging and its kin answer.
  var document: [UInt8] {
    var xml = XMLText("Tagging")
    write(into: &xml)
    return xml.finish()
  }
  func write(into xml: inout XMLText) {
    xml.group("TagSet") { xml in
      for pair in pairs {
        xml.group("Tag") {
          $0.element("Key", pair.key)
          $0.element("Value", pair.value)
        }
      }
    }
  }
}
