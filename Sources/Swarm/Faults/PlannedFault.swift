/// What can be done to a cluster.
package enum PlannedFaultKind: String, CaseIterable, Sendable {
  // Processes and machines.
  case killNode = "kill a node"
  case killNodeAtOperation = "kill a node at an operation"
  case killNodeAtStart = "kill a node while it starts"
  case cutNodePower = "cut a node's power"
  case cutNodePowerAtOperation = "cut a node's power at an operation"
  case cutNodePowerInSync = "cut a node's power in a sync"
  case cutAllPower = "cut all power"
  case cutRackPower = "cut a rack's power"
  case pauseNode = "pause a node"
  case stopNode = "stop a node"
  case killCoordinator = "kill a coordinator"
  case killLeader = "kill the leader"
  case pauseLeader = "pause the leader"
  case killCoordinatorAtOperation = "kill a coordinator at an operation"
  case cutCoordinatorPower = "cut a coordinator's power"
  case pauseCoordinator = "pause a coordinator"
  case stopCoordinator = "stop a coordinator"
  case wipeCoordinator = "wipe a coordinator"
  case damageCoordinatorStore = "damage a coordinator's store"
  case strayCoordinator = "start a second coordinator by mistake"
  case killClient = "kill a client"
  case pauseClient = "pause a client"
  // The network.
  case resetConnections = "reset connections"
  case cutLink = "cut a link"
  case cutOneWay = "cut a link one way"
  case isolate = "isolate a machine"
  case partition = "partition the network"
  case cutRackOff = "cut a rack off"
  case cutLeaderOff = "cut the leader off"
  case slowLink = "slow a link"
  case refuseConnections = "refuse connections"
  case forgetConnections = "forget connections"
  // Disks, without damage.
  case slowDisk = "slow a disk"
  case fullDisk = "fill a disk"
  case readErrors = "fail reads"
  case coordinatorDiskErrors = "fail a coordinator's disk"
  // Disks, with damage that is noticed.
  case writeErrors = "fail writes"
  case synchronizeErrors = "fail syncs"
  case readOnlyDisk = "make a disk read-only"
  case wipeDevice = "wipe a device"
  case wipeNode = "wipe a node"
  case holeInLog = "tear a hole into the log"
  // Disks, with silent damage.
  case flipBits = "flip bits"
  case badSectors = "make sectors unreadable"
  case lostWrites = "lose writes"
  case misdirectedWrites = "misdirect writes"
  case lyingSynchronizes = "lie about syncs"
  // Clocks.
  case jumpClock = "move a clock"
  case driftClock = "change a clock's rate"
  // The arbiter's register.
  case slowArbiter = "slow the arbiter"
  case unreachableArbiter = "make the arbiter unreachable"
  case failingArbiter = "fail the arbiter's requests"

  /// A daemon whose disk has this may refuse to start or to go on.
  var excusesRefusals: Bool {
    switch self {
    case .writeErrors, .synchronizeErrors, .coordinatorDiskErrors, .readOnlyDisk: true
    default: false
    }
  }

  /// Stored bytes may be gone or wrong afterwards, and nobody is told.
  var isSilentDamage: Bool {
    switch self {
    case .flipBits, .badSectors, .lostWrites, .misdirectedWrites, .lyingSynchronizes: true
    default: false
    }
  }

  /// A device loses its bytes or is given up, and that is noticed.
  var isLoss: Bool {
    switch self {
    case .writeErrors, .synchronizeErrors, .readOnlyDisk, .wipeDevice, .wipeNode, .holeInLog: true
    default: false
    }
  }

  /// Makes a node unreachable for longer than a new leader waits for it.
  var makesNodesAbsent: Bool {
    switch self {
    case .killNode, .killNodeAtOperation, .killNodeAtStart, .cutNodePower,
      .cutNodePowerAtOperation, .cutNodePowerInSync, .cutAllPower, .cutRackPower, .pauseNode,
      .stopNode, .cutLink, .cutOneWay, .isolate, .partition, .cutRackOff:
      true
    default: false
    }
  }

  /// Only where nodes are in racks: drawn apart.
  var isOfRacks: Bool { self == .cutRackPower || self == .cutRackOff }
}

/// One fault, drawn before the run. What it hits is drawn from `lot` when it is due, from what there is then, so that
/// faults dropped from a plan do not change what the others are.
package struct PlannedFault: Sendable {
  package var index: Int
  package var kind: PlannedFaultKind
  /// Since the faults began.
  package var time: Duration
  package var duration: Duration
  /// Where all that is left to choose comes from.
  package var lot: UInt64

  package var description: String { "\(kind.rawValue) for \(duration)" }
}
