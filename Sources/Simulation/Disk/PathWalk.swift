import Glibc
internal import Ring

/// Finds files by path across a machine's mounted disks.
struct PathWalk {
  struct Place {
    let disk: SimulatedDisk
    /// Nil for a disk's root.
    let parent: Inode?
    let name: [UInt8]
    let inode: Inode?
  }

  private let machine: SimulatedMachine

  init(_ machine: SimulatedMachine) { self.machine = machine }

  private static func split(_ path: [UInt8]) -> [[UInt8]] {
    path.split(separator: UInt8(ascii: "/")).map { Array($0) }.filter { $0 != [0x2E] }
  }

  /// The names in `path`, which is written as Ring's `PathText` has it; empty ones and "." are left out.
  static func components(_ path: String) -> [[UInt8]] {
    split(PathText.bytes(path))
  }

  /// - Returns: where `path` leads; `inode` is nil when only the last name is missing.
  func find(_ path: String, followLast: Bool = true) throws(Refusal) -> Place {
    guard !path.isEmpty else { throw Refusal(ENOENT) }
    guard path.utf8.count < 4096 else { throw Refusal(ENAMETOOLONG) }
    guard !path.utf8.contains(0) else { throw Refusal(EINVAL) }
    // A relative path counts from "/": every process stands there.
    var ahead = Array(Self.components(path).reversed())
    var trail: [(name: [UInt8], disk: SimulatedDisk, inode: Inode)] = []
    var linkBudget = 40
    while let part = ahead.popLast() {
      if part == [0x2E, 0x2E] {
        _ = trail.popLast()
        continue
      }
      guard part.count <= 255 else { throw Refusal(ENAMETOOLONG) }
      let disk = trail.last?.disk ?? machine.disk
      let here = trail.last?.inode ?? disk.root
      guard let directory = here.directory else { throw Refusal(ENOTDIR) }
      if let mounted = machine.mounted(at: trail.map(\.name) + [part]) {
        trail.append((part, mounted, mounted.root))
        continue
      }
      guard let inode = directory.current[part] else {
        guard ahead.isEmpty else { throw Refusal(ENOENT) }
        return Place(disk: disk, parent: here, name: part, inode: nil)
      }
      if case .symbolicLink(let target) = inode.body, followLast || !ahead.isEmpty {
        linkBudget -= 1
        guard linkBudget > 0 else { throw Refusal(ELOOP) }
        if target.first == UInt8(ascii: "/") { trail = [] }
        ahead += Self.split(target).reversed()
        continue
      }
      if ahead.isEmpty { return Place(disk: disk, parent: here, name: part, inode: inode) }
      trail.append((part, disk, inode))
    }
    let disk = trail.last?.disk ?? machine.disk
    return Place(disk: disk, parent: nil, name: [], inode: trail.last?.inode ?? disk.root)
  }

  /// What must exist.
  func existing(_ path: String, followLast: Bool = true) throws(Refusal) -> (Place, Inode) {
    let place = try find(path, followLast: followLast)
    guard let inode = place.inode else { throw Refusal(ENOENT) }
    return (place, inode)
  }

  /// Makes the directories that lead to a mount point, durably.
  func makeMountPoint(_ point: [[UInt8]]) {
    var disk = machine.disk
    var inode = disk.root
    for (index, part) in point.enumerated() {
      if let mounted = machine.mounted(at: Array(point[...index])) {
        disk = mounted
        inode = mounted.root
        continue
      }
      guard let directory = inode.directory else { preconditionFailure("not a directory") }
      inode = directory.current[part] ?? disk.makeDurableDirectory(part, in: directory)
    }
  }

  /// Whether `inode` is the directory that `point` hides.
  func covers(_ point: [[UInt8]], _ inode: Inode) -> Bool {
    var here = machine.disk.root
    for (index, part) in point.enumerated() {
      guard let next = here.directory?.current[part] else { return false }
      let isLast = index == point.count - 1
      here = isLast ? next : machine.mounted(at: Array(point[...index]))?.root ?? next
    }
    return here === inode
  }
}
