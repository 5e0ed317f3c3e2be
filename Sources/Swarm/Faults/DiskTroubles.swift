import Glibc  // Errors' numbers only.
internal import Simulation

/// What ails one disk at the moment. Several troubles add up. Loop-confined.
final class DiskTroubles: @unchecked Sendable {
  struct Trouble {
    var kind: PlannedFaultKind
    /// Of a hundred operations of its kind, how many are hit.
    var percent: Int
    /// For slow disks.
    var delay: ClosedRange<Int64> = 0...0
    var random: SimulationRandom
    /// Nil: until it is ended by hand.
    var left: Int?
  }

  private let world: SimulatedWorld
  let disk: SimulatedDisk
  private var active: [Int: Trouble] = [:]
  private var lastActive: Duration = .seconds(-1000)
  /// Whether the daemon that uses the disk has started.
  var isServing: () -> Bool = { true }
  /// How often each kind really hit an operation.
  var onHit: ((PlannedFaultKind) -> Void)?
  /// A sync of volumes began that will take so long.
  var onStall: ((_ fault: Int, Duration) -> Void)?

  init(_ world: SimulatedWorld, _ disk: SimulatedDisk) {
    self.world = world
    self.disk = disk
    disk.faults = { [weak self] access in self?.judge(access) ?? .none }
  }

  var areActive: Bool {
    disk.isReadOnly || active.values.contains { $0.kind.excusesRefusals }
  }
  /// Whether nothing at all ails it.
  var isWell: Bool { !disk.isReadOnly && active.isEmpty }
  /// Also when they ended a moment ago: who met one may only now say so.
  var wereActiveLately: Bool { areActive || world.now - lastActive < .seconds(10) }

  func begin(_ fault: Int, _ trouble: Trouble) { active[fault] = trouble }

  func end(_ fault: Int) {
    guard let trouble = active.removeValue(forKey: fault) else { return }
    if trouble.kind.excusesRefusals { lastActive = world.now }
  }

  private func judge(_ access: DiskAccess) -> DiskFault {
    if active.isEmpty { return .none }
    var fault = DiskFault()
    for number in active.keys.sorted() {
      guard hits(number, access) else { continue }
      let trouble = active[number]!
      switch trouble.kind {
      case .slowDisk:
        fault.delay += .nanoseconds(active[number]!.random.within(trouble.delay))
        continue
      case .cutNodePowerInSync:
        let stall = Duration.nanoseconds(active[number]!.random.within(trouble.delay))
        fault.delay += stall
        onStall?(number, stall)
        continue
      case .readErrors, .writeErrors, .synchronizeErrors, .coordinatorDiskErrors:
        fault.errno = EIO
      case .lostWrites, .lyingSynchronizes: fault.isLost = true
      case .misdirectedWrites:
        let shift = UInt64(1 + active[number]!.random.below(64)) * 4096
        fault.misdirectedOffset =
          access.offset >= shift && active[number]!.random.chance(1, in: 2)
          ? access.offset - shift : access.offset + shift
      default: continue
      }
      onHit?(trouble.kind)
    }
    return fault
  }

  private func isOfBlocks(_ path: String) -> Bool {
    path.contains("/volumes") || path.contains("/index")
  }

  private func hits(_ number: Int, _ access: DiskAccess) -> Bool {
    let trouble = active[number]!
    let isMeant =
      switch trouble.kind {
      case .slowDisk: true
      // Of a store that serves: at opening a sector that cannot be read is one that is lost.
      case .readErrors: access.kind == .read && access.path.contains("/volumes/") && isServing()
      case .writeErrors: access.kind == .write
      case .synchronizeErrors: access.kind == .synchronize
      case .coordinatorDiskErrors:
        [.open, .read, .write, .synchronize, .rename, .makeDirectory].contains(access.kind)
      // Files that say whose device it is are not among them: their loss is a refusal.
      case .lostWrites, .misdirectedWrites:
        access.kind == .write && access.offset != .max && isOfBlocks(access.path)
      case .lyingSynchronizes: access.kind == .synchronize && isOfBlocks(access.path)
      case .cutNodePowerInSync: access.kind == .synchronize && access.path.contains("/volumes/")
      default: false
      }
    guard isMeant, active[number]!.random.chance(trouble.percent, in: 100) else { return false }
    if let left = trouble.left {
      if left == 0 { return false }
      active[number]!.left = left - 1
    }
    return true
  }
}
