package import Wire

/// What S3 calls the storage classes of objects besides STANDARD, the class of their bucket. In the order in which objects may go from
/// one to another: never back.
package enum ObjectTier: UInt8, CaseIterable, Comparable, Sendable, WireValue {
  case standardIA = 1
  case intelligentTiering = 2
  case oneZoneIA = 3
  case glacierIR = 4
  case glacier = 5
  case deepArchive = 6

  package var name: String {
    switch self {
    case .standardIA: "STANDARD_IA"
    case .intelligentTiering: "INTELLIGENT_TIERING"
    case .oneZoneIA: "ONEZONE_IA"
    case .glacierIR: "GLACIER_IR"
    case .glacier: "GLACIER"
    case .deepArchive: "DEEP_ARCHIVE"
    }
  }
  package init?(name: String) {
    guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = found
  }

  /// The user attribute that says which tier a version was moved to. The state machine alone sets it: what is written anew, or
  /// copied, has none.
  package static let attributeName = "storage-class"

  /// Of a version with these attributes; nil: it is as it was written.
  package init?(of attributes: ObjectAttributes) {
    guard let found = attributes.user.first(where: { $0.name == Self.attributeName }) else {
      return nil
    }
    self.init(name: found.value)
  }

  package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  package func encode(into writer: inout ByteWriter) { writer.fixed(rawValue) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard let found = Self(rawValue: try reader.fixed()) else { throw .invalid("tier") }
    self = found
  }
}

extension ObjectAttributes {
  /// As they are without the word that the version was moved.
  package var withoutTier: ObjectAttributes {
    var attributes = self
    attributes.user.removeAll { $0.name == ObjectTier.attributeName }
    return attributes
  }
}
