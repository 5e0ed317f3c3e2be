package import Wire

/// A version that a bucket's rules let go.
package struct ExpiredVersion: Hashable, Sendable, WireValue {
  package enum Action: UInt8, Sendable {
    /// It is the current one: deleted as by a delete that names no version.
    case delete = 0
    /// It is not current: taken away.
    case remove = 1
    /// It is a delete marker, and taken away when nothing else is left of its key.
    case removeLoneMarker = 2
  }
  package var bucket: String
  /// The bucket's: one made anew under the name is another.
  package var bucketIdentity: UInt64
  package var key: String
  package var identity: UInt64
  package var action: Action

  package init(
    bucket: String, bucketIdentity: UInt64, key: String, identity: UInt64, action: Action
  ) {
    self.bucket = bucket
    self.bucketIdentity = bucketIdentity
    self.key = key
    self.identity = identity
    self.action = action
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(bucket)
    writer.varint(bucketIdentity)
    writer.string(key)
    writer.varint(identity)
    writer.fixed(action.rawValue)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bucket = try reader.string(limit: 4096)
    bucketIdentity = try reader.varint()
    key = try reader.string(limit: 4096)
    identity = try reader.varint()
    guard let action = Action(rawValue: try reader.fixed()) else { throw .invalid("action") }
    self.action = action
  }
}
