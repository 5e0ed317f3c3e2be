package import Wire

/// What a standby asks the leader, to follow the log: how far it may apply it, and which links it is made of.
/// Refused: notLeader.
package struct FollowLog: Call {
  package static let method: UInt16 = 541
  /// Of the newest root record that the asker has; 0 for none.
  package var rootVersion: UInt64

  package init(rootVersion: UInt64) { self.rootVersion = rootVersion }
  package func encode(into writer: inout ByteWriter) { writer.varint(rootVersion) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    rootVersion = try reader.varint()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// What is acknowledged, and applied by the leader.
    package var position: UInt64
    /// The root record's bytes, when it is newer than the asker's.
    package var root: [UInt8]

    package init(position: UInt64, root: [UInt8]) {
      self.position = position
      self.root = root
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(position)
      writer.blob(root)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      position = try reader.varint()
      root = try reader.blob(limit: 1 << 21)
    }
  }
}
