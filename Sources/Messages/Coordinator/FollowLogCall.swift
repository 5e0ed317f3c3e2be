package import Wire

/// What a standby asks the leader, to follow the log: how far it may apply it, and which links it is made of.
/// Refused: notLeader.
package struct FollowLog: Call {
  package static let method: UInt16 = 541
  /// Of the root record that the asker has: its cluster, epoch and version; 0 for none.
  package var clusterID: UInt64
  package var rootEpoch: UInt64
  package var rootVersion: UInt64

  package init(clusterID: UInt64, rootEpoch: UInt64, rootVersion: UInt64) {
    self.clusterID = clusterID
    self.rootEpoch = rootEpoch
    self.rootVersion = rootVersion
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(clusterID)
    writer.varint(rootEpoch)
    writer.varint(rootVersion)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    clusterID = try reader.fixed()
    rootEpoch = try reader.varint()
    rootVersion = try reader.varint()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// What is acknowledged, and applied by the leader.
    package var position: UInt64
    /// The root record's bytes, when it is another than the asker's.
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
