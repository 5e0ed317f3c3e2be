package import Cluster
package import Wire

/// How much survives how many losses, and what is being done about it. Only the leader answers. Its cost follows the number
/// of containers.
package struct GetRepairStatus: Call {
  package static let method: UInt16 = 528
  package init() {}
  package func encode(into writer: inout ByteWriter) {}
  package init(from reader: inout ByteReader) throws(ValueError) {}

  package struct Answer: Hashable, Sendable, WireValue {
    /// Containers by their margin: how many more failure domains may be lost before bytes are. Ascending; -1: fewer shards
    /// are left than are needed.
    package var margins: [Margin]
    /// Shards on devices that are gone, as this leader sees it.
    package var lostShards: UInt64
    /// Shards on devices that do not answer, and may come back.
    package var silentShards: UInt64
    /// Shards to be taken from devices that are drained.
    package var drainedShards: UInt64
    /// Bytes still to be written.
    package var bytesLeft: UInt64
    /// Bytes written for it in a second, lately.
    package var byteRate: UInt64
    /// Containers that have too few failure domains to go to.
    package var waitingContainers: UInt64
    /// Containers to be packed anew because they have another scheme than they are to have.
    package var repackContainers: UInt64
    /// Bytes to be written for that.
    package var repackBytes: UInt64
    /// Bytes in containers of which nothing is alive, as of the last look through each.
    package var deadBytes: UInt64
    /// Containers with so many of these that they are to be packed anew.
    package var collectContainers: UInt64
    /// Blocks that nodes found damaged.
    package var damagedBlocks: UInt64
    /// Whether links or checkpoints of the log are on devices that are gone.
    package var isLogHurt: Bool
    package var devices: [Device]
    package var rewrites: [Rewrite]

    package init() {
      margins = []
      lostShards = 0
      silentShards = 0
      drainedShards = 0
      bytesLeft = 0
      byteRate = 0
      waitingContainers = 0
      repackContainers = 0
      repackBytes = 0
      deadBytes = 0
      collectContainers = 0
      damagedBlocks = 0
      isLogHurt = false
      devices = []
      rewrites = []
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(margins)
      writer.varint(lostShards)
      writer.varint(silentShards)
      writer.varint(drainedShards)
      writer.varint(bytesLeft)
      writer.varint(byteRate)
      writer.varint(waitingContainers)
      writer.varint(repackContainers)
      writer.varint(repackBytes)
      writer.varint(deadBytes)
      writer.varint(collectContainers)
      writer.varint(damagedBlocks)
      writer.bool(isLogHurt)
      writer.list(devices)
      writer.list(rewrites)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      margins = try reader.list()
      lostShards = try reader.varint()
      silentShards = try reader.varint()
      drainedShards = try reader.varint()
      bytesLeft = try reader.varint()
      byteRate = try reader.varint()
      waitingContainers = try reader.varint()
      repackContainers = try reader.varint()
      repackBytes = try reader.varint()
      deadBytes = try reader.varint()
      collectContainers = try reader.varint()
      damagedBlocks = try reader.varint()
      isLogHurt = try reader.bool()
      devices = try reader.list()
      rewrites = try reader.list()
    }
  }

  package struct Margin: Hashable, Sendable, WireValue {
    /// -1: bytes are lost.
    package var losses: Int
    package var containerCount: UInt64
    package init(losses: Int, containerCount: UInt64) {
      self.losses = losses
      self.containerCount = containerCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.fixed(UInt8(clamping: losses + 1))
      writer.varint(containerCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      losses = Int(try reader.fixed(UInt8.self)) - 1
      containerCount = try reader.varint()
    }
  }

  /// A device whose shards are to be elsewhere, or may soon be.
  package struct Device: Hashable, Sendable, WireValue {
    package enum State: UInt8, Sendable {
      /// Does not answer; rebuilt elsewhere when that lasts.
      case silent = 0
      case lost = 1
      case draining = 2
    }
    package var id: DeviceID
    package var node: String
    package var state: State
    /// For how long it does not answer.
    package var silentMilliseconds: UInt64
    /// Containers that have a shard on it.
    package var containerCount: UInt64
    package init(
      id: DeviceID, node: String, state: State, silentMilliseconds: UInt64, containerCount: UInt64
    ) {
      self.id = id
      self.node = node
      self.state = state
      self.silentMilliseconds = silentMilliseconds
      self.containerCount = containerCount
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(id)
      writer.string(node)
      writer.fixed(state.rawValue)
      writer.varint(silentMilliseconds)
      writer.varint(containerCount)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      id = try reader.value()
      node = try reader.string()
      guard let known = State(rawValue: try reader.fixed()) else { throw .invalid("state") }
      state = known
      silentMilliseconds = try reader.varint()
      containerCount = try reader.varint()
    }
  }

  /// A lease under way.
  package struct Rewrite: Hashable, Sendable, WireValue {
    package var container: ContainerID
    package var worker: String
    package var targets: [DeviceID]
    package var progress: RewriteStatus.Job
    package init(
      container: ContainerID, worker: String, targets: [DeviceID], progress: RewriteStatus.Job
    ) {
      self.container = container
      self.worker = worker
      self.targets = targets
      self.progress = progress
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(container)
      writer.string(worker)
      writer.list(targets)
      writer.value(progress)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      container = try reader.value()
      worker = try reader.string()
      targets = try reader.list()
      progress = try reader.value()
    }
  }
}

/// Says what devices are for: healthy ones take new data, draining ones are emptied, retired ones count as lost.
///
/// Refused: noSuchDevice; tooLittleLeft when what is left could not hold what they have, or shards would be lost that
/// nothing can rebuild, and `isForced` is not set.
package struct SetDevices: Call {
  package static let method: UInt16 = 529
  package typealias Answer = Done
  package var devices: [DeviceID]
  package var state: DeviceState
  package var isForced: Bool

  package init(devices: [DeviceID], state: DeviceState, isForced: Bool) {
    self.devices = devices
    self.state = state
    self.isForced = isForced
  }
  package func encode(into writer: inout ByteWriter) {
    writer.list(devices)
    writer.fixed(state.rawValue)
    writer.bool(isForced)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    devices = try reader.list(limit: 1024)
    guard let known = DeviceState(rawValue: try reader.fixed()) else { throw .invalid("state") }
    state = known
    isForced = try reader.bool()
  }
}
