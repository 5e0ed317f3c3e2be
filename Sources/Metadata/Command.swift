package import Cluster
package import Coding
package import Messages
package import Wire

/// One entry of the metadata log. A command's log position names what it makes: sessions, uploads, grants,
/// containers, pages and object versions are numbered by it.
package enum Command: Hashable, Sendable, WireValue {
  /// What a client asked for, carried out once however often it is in the log.
  case client(
    session: UInt64, sequence: UInt64, lowestUnanswered: UInt64, command: ClientCommand)
  /// The first command of all. `scheme`: of classes that have none of their own. `created`: milliseconds since 1970. -> done
  case found(clusterID: UInt64, scheme: Scheme, created: UInt64)
  /// -> number(session)
  case openSession(client: String)
  /// Ends the session's uploads and grants with it. Refused: noSuchSession. -> done
  case closeSession(session: UInt64)
  /// As closeSession; sessions that are gone already are passed over. -> done
  case expireSessions([UInt64])
  /// Registers or changes a node. The map's epoch becomes this position when anything changes. A device that is
  /// listed already keeps its state, unless it is retired here; one that another node listed moves to this
  /// node. A device that is no longer listed counts as lost until it is again. -> done
  case setNode(NodeRecord)
  /// Refused: noSuchDevice. -> done
  case setDeviceState(DeviceID, DeviceState)
  /// Does at most `limit` steps of returning what trash holds (1 ... 65,536). -> number(trash entries left)
  case returnEdges(limit: UInt32)
  /// Condemns those of the containers that have no edge and no live grant; others are passed over. -> done
  case dropContainers([ContainerID])
  /// The nodes have deleted these containers' shards: forgets them. Those not condemned, or whose directory is
  /// not emptied yet, are passed over. -> done
  case forgetContainers([ContainerID])
  /// The nodes have dropped what these ended grants left unregistered. -> done
  case clearEndedGrants([UInt64])
  /// Adds to the cluster's time, which is the leaders' monotonic clocks joined. -> done
  case advanceTime(milliseconds: UInt64)
  /// A lease to write shards of a container anew elsewhere; seals it. Refused: failed when it is open, condemned,
  /// forgotten or under a lease already, or a shard is elsewhere than said; unavailable when a device takes no new data;
  /// malformed. -> number(lease), the generation of what is written
  case beginRewrite(ContainerID, moves: [ShardMove])
  /// A lease to write all of a container anew, its groups packed for `scheme`, to these devices by shard; seals it.
  /// `isThinned`: groups that nothing leads to leave its directory in the same step. Refused: failed when it is open, condemned,
  /// forgotten or under a lease already, cannot have that scheme, or has too many edges to be thinned; unavailable when a
  /// device takes no new data; malformed. -> number(lease), the generation of what is written
  case beginRepack(ContainerID, scheme: Scheme, devices: [DeviceID], isThinned: Bool)
  /// All shards of the lease are whole on their devices. Refused: grantEnded; unavailable when one of these is
  /// lost meanwhile. -> done
  case commitRewrite(ContainerID, lease: UInt64)
  /// Gives a lease up; one that has ended is passed over. -> done
  case endRewrite(ContainerID, lease: UInt64)
  /// The devices have dropped these shards, or are gone for good. -> done
  case clearDoomedShards([DoomedShard])

  /// The scheme of classes without one of their own from here on. Containers that there are get it when they are packed anew.
  /// -> done
  case setScheme(Scheme)
  /// Ends multipart uploads as if they were aborted; those that are gone are passed over. -> done
  case expireMultiparts([MultipartRow])
  /// Versions that their buckets' rules let go; those that are not as they were, or are locked, stay. -> done
  case expireVersions([ExpiredVersion])
  /// Another class for a bucket without objects and multipart uploads. Refused: noSuchBucket, noSuchClass, bucketNotEmpty. -> done
  case setBucketClass(bucket: String, storageClass: String)
  /// A class is made, or the one of that name becomes this. Refused: invalidName, malformed, unavailable (there are too many).
  /// -> number(the class's)
  case defineClass(StorageClass)
  /// A change of key domains or their keys; ``KeyChange`` says what each refuses and answers.
  case changeKeys(KeyChange)

  private static let version: UInt8 = 2

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(Self.version)
    switch self {
    case .client(let session, let sequence, let lowestUnanswered, let command):
      writer.fixed(UInt8(1))
      writer.varint(session)
      writer.varint(sequence)
      writer.varint(lowestUnanswered)
      writer.value(command)
    case .found(let clusterID, let scheme, let created):
      writer.fixed(UInt8(2))
      writer.fixed(clusterID)
      writer.value(scheme)
      writer.varint(created)
    case .openSession(let client):
      writer.fixed(UInt8(3))
      writer.string(client)
    case .closeSession(let session):
      writer.fixed(UInt8(4))
      writer.varint(session)
    case .expireSessions(let sessions):
      writer.fixed(UInt8(5))
      writer.list(sessions)
    case .setNode(let node):
      writer.fixed(UInt8(6))
      writer.value(node)
    case .setDeviceState(let device, let state):
      writer.fixed(UInt8(7))
      writer.value(device)
      writer.fixed(state.rawValue)
    case .returnEdges(let limit):
      writer.fixed(UInt8(8))
      writer.varint(limit)
    case .dropContainers(let containers):
      writer.fixed(UInt8(9))
      writer.list(containers)
    case .forgetContainers(let containers):
      writer.fixed(UInt8(10))
      writer.list(containers)
    case .clearEndedGrants(let grants):
      writer.fixed(UInt8(11))
      writer.list(grants)
    case .advanceTime(let milliseconds):
      writer.fixed(UInt8(12))
      writer.varint(milliseconds)
    case .beginRewrite(let container, let moves):
      writer.fixed(UInt8(13))
      writer.value(container)
      writer.list(moves)
    case .commitRewrite(let container, let lease):
      writer.fixed(UInt8(14))
      writer.value(container)
      writer.varint(lease)
    case .endRewrite(let container, let lease):
      writer.fixed(UInt8(15))
      writer.value(container)
      writer.varint(lease)
    case .clearDoomedShards(let shards):
      writer.fixed(UInt8(16))
      writer.list(shards)
    case .beginRepack(let container, let scheme, let devices, let isThinned):
      writer.fixed(UInt8(17))
      writer.value(container)
      writer.value(scheme)
      writer.list(devices)
      writer.bool(isThinned)
    case .setScheme(let scheme):
      writer.fixed(UInt8(18))
      writer.value(scheme)
    case .expireMultiparts(let rows):
      writer.fixed(UInt8(22))
      writer.list(rows)
    case .expireVersions(let versions):
      writer.fixed(UInt8(35))
      writer.list(versions)
    case .setBucketClass(let bucket, let storageClass):
      writer.fixed(UInt8(19))
      writer.string(bucket)
      writer.string(storageClass)
    case .changeKeys(let change):
      writer.fixed(UInt8(36))
      writer.value(change)
    case .defineClass(let storageClass):
      writer.fixed(UInt8(20))
      writer.value(storageClass)
    }
  }

  package init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == Self.version else { throw .invalid("command version") }
    switch try reader.fixed(UInt8.self) {
    case 1:
      self = .client(
        session: try reader.varint(), sequence: try reader.varint(),
        lowestUnanswered: try reader.varint(), command: try reader.value())
    case 2:
      self = .found(
        clusterID: try reader.fixed(), scheme: try reader.value(), created: try reader.varint())
    case 3: self = .openSession(client: try reader.string())
    case 4: self = .closeSession(session: try reader.varint())
    case 5: self = .expireSessions(try reader.list())
    case 6: self = .setNode(try reader.value())
    case 7:
      let device: DeviceID = try reader.value()
      guard let state = DeviceState(rawValue: try reader.fixed()) else { throw .invalid("state") }
      self = .setDeviceState(device, state)
    case 8: self = .returnEdges(limit: try reader.varint32())
    case 9: self = .dropContainers(try reader.list())
    case 10: self = .forgetContainers(try reader.list())
    case 11: self = .clearEndedGrants(try reader.list())
    case 12: self = .advanceTime(milliseconds: try reader.varint())
    case 13: self = .beginRewrite(try reader.value(), moves: try reader.list())
    case 14: self = .commitRewrite(try reader.value(), lease: try reader.varint())
    case 15: self = .endRewrite(try reader.value(), lease: try reader.varint())
    case 16: self = .clearDoomedShards(try reader.list())
    case 17:
      self = .beginRepack(
        try reader.value(), scheme: try reader.value(),
        devices: try reader.list(limit: Scheme.largestWidth), isThinned: try reader.bool())
    case 18: self = .setScheme(try reader.value())
    case 22: self = .expireMultiparts(try reader.list())
    case 35: self = .expireVersions(try reader.list(limit: 4096))
    case 19:
      self = .setBucketClass(
        bucket: try reader.string(limit: 4096), storageClass: try reader.string(limit: 4096))
    case 20: self = .defineClass(try reader.value())
    case 36: self = .changeKeys(try reader.value())
    default: throw .invalid("command")
    }
  }
}

/// The content of one link stripe: commands at consecutive log positions.
package struct LogBatch: Hashable, Sendable, WireValue {
  /// Of the leader that wrote it.
  package var epoch: UInt64
  /// The position of the first command; the others count up. Positions start at 1.
  package var firstPosition: UInt64
  /// Stripes of this link below this number were acknowledged when the batch was written.
  package var acknowledged: UInt64
  /// The leader's wall clock, since 1970.
  package var wallMilliseconds: UInt64
  package var commands: [Command]

  package static let commandLimit = 1 << 16
  private static let version: UInt8 = 1

  package init(
    epoch: UInt64, firstPosition: UInt64, acknowledged: UInt64, wallMilliseconds: UInt64,
    commands: [Command]
  ) {
    self.epoch = epoch
    self.firstPosition = firstPosition
    self.acknowledged = acknowledged
    self.wallMilliseconds = wallMilliseconds
    self.commands = commands
  }

  /// Of the last command; `firstPosition - 1` when there is none.
  package var lastPosition: UInt64 { firstPosition + UInt64(commands.count) - 1 }

  package func encode(into writer: inout ByteWriter) {
    writer.fixed(Self.version)
    writer.varint(epoch)
    writer.varint(firstPosition)
    writer.varint(acknowledged)
    writer.varint(wallMilliseconds)
    writer.list(commands)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == Self.version else { throw .invalid("batch version") }
    epoch = try reader.varint()
    firstPosition = try reader.varint()
    acknowledged = try reader.varint()
    wallMilliseconds = try reader.varint()
    commands = try reader.list(limit: Self.commandLimit)
    // Container numbers, which are positions, have 56 bits.
    guard firstPosition > 0, firstPosition < 1 << 55 else { throw .invalid("batch position") }
  }

  /// The batch as a link stripe holds it: one group frame with codec raw, so that it can be compressed and
  /// encrypted as data can.
  package var framed: [UInt8] {
    let payload = encoded
    return GroupHeader(
      codec: .raw, chunkCount: 1, plainByteCount: payload.count, payloadByteCount: payload.count
    ).encoded + payload
  }

  /// - Parameter framed: a stripe's data bytes; what follows the frame is ignored.
  package init(framed: [UInt8]) throws(ValueError) {
    let header = try GroupHeader(decoding: framed)
    guard header.isPlain else { throw .invalid("batch codec") }
    let end = GroupHeader.byteCount + Int(header.payloadByteCount)
    guard framed.count >= end else { throw .truncated }
    try self.init(decoding: Array(framed[GroupHeader.byteCount..<end]))
  }
}
