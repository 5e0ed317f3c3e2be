/// What stays when a process ends: an address on the network, and disks.
package final class SimulatedMachine: @unchecked Sendable {
  // Loop-confined.
  package let name: String
  /// Its name on the network; "127.0.0.1", "::1" and "localhost" mean the machine itself, unless they
  /// are some machine's host. Change it before the first process listens or connects.
  package var host: String
  /// False from ``powerCut()`` until a process starts here again.
  package private(set) var isOn = true
  private let world: SimulatedWorld
  /// Mount point, as path components, and disk; the root is first.
  private(set) var mounts: [(point: [[UInt8]], disk: SimulatedDisk)]
  private var nextPort: UInt16 = 32768

  init(name: String, world: SimulatedWorld) {
    self.name = name
    self.world = world
    host = name
    mounts = [([], world.disk(name))]
  }

  /// The disk that holds "/".
  package var disk: SimulatedDisk { mounts[0].disk }

  /// Makes `disk` appear at `path`, which is made as a directory where it is missing.
  package func mount(_ path: String, _ disk: SimulatedDisk) {
    let point = PathWalk.components(path)
    precondition(!point.isEmpty && !mounts.contains { $0.point == point })
    PathWalk(self).makeMountPoint(point)
    mounts.append((point, disk))
  }

  func mounted(at point: [[UInt8]]) -> SimulatedDisk? {
    mounts.first { $0.point == point }?.disk
  }

  /// The disk whose mount point is the longest prefix of `path`, going by the text alone.
  func disk(holding path: String) -> SimulatedDisk {
    if mounts.count == 1 { return disk }
    let parts = PathWalk.components(path)
    var best = mounts[0]
    for mount in mounts where mount.point.count > best.point.count {
      if parts.starts(with: mount.point) { best = mount }
    }
    return best.disk
  }

  func uses(_ disk: SimulatedDisk) -> Bool { mounts.contains { $0.disk === disk } }

  /// Power fails: its processes end, its disks lose what the fault model lets them lose, its peers hear
  /// nothing (their connections are half open until they time out or the machine is back).
  package func powerCut() {
    world.note(name, "power cut")
    world.count(.powerCut)
    isOn = false
    for process in world.processes where process.isAlive && process.machine === self {
      process.end(silently: true)
    }
    for mount in mounts { mount.disk.losePower() }
  }

  func switchOn() {
    guard !isOn else { return }
    isOn = true
    world.network.wake()
  }

  func takePort(isUsed: (UInt16) -> Bool) -> UInt16? {
    for _ in 0..<28_000 {
      let port = nextPort
      nextPort = nextPort == 60_999 ? 32768 : nextPort + 1
      if !isUsed(port) { return port }
    }
    return nil
  }
}
