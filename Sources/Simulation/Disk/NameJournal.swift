/// Names made, removed and renamed on one disk since they were last made durable.
///
/// A change becomes durable as one piece (a rename never leaves both names or none), and only together
/// with the earlier changes of the same names and the same files; changes that share neither are
/// independent of each other. That allows more outcomes than a journalling file system, which keeps a
/// prefix of all.
struct NameJournal {
  struct Assignment {
    let directory: Inode
    let name: [UInt8]
    /// Nil: the name is gone.
    let inode: Inode?
  }

  struct Change {
    let sequence: UInt64
    let assignments: [Assignment]
    /// Files whose names these are, replaced ones included.
    let inodes: [Inode]
    /// A sync of this directory makes it durable; one of `source` only with luck.
    let target: Inode
    let source: Inode?
  }

  private struct Place: Hashable {
    let directory: ObjectIdentifier
    let name: [UInt8]
  }

  private(set) var pending: [Change] = []
  private(set) var sequence: UInt64 = 0

  /// Shows the change to the running system and remembers it.
  mutating func apply(
    _ assignments: [Assignment], inodes: [Inode], target: Inode, source: Inode? = nil
  ) {
    sequence += 1
    for assignment in assignments {
      let entries = assignment.directory.directory!
      if let old = entries.current[assignment.name] {
        old.nameCount -= 1
      }
      entries.current[assignment.name] = assignment.inode
      assignment.inode?.nameCount += 1
    }
    for inode in inodes { inode.releaseIfUnreachable() }
    pending.append(
      Change(
        sequence: sequence, assignments: assignments, inodes: inodes, target: target,
        source: source))
  }

  private static func makeDurable(_ change: Change) {
    for assignment in change.assignments {
      assignment.directory.directory!.durable[assignment.name] = assignment.inode
    }
  }

  /// Makes durable the changes up to `limit` that `isWanted` picks, and what they build on.
  mutating func synchronize(upTo limit: UInt64, _ isWanted: (Change) -> Bool) {
    var places = Set<Place>()
    var inodes = Set<ObjectIdentifier>()
    var chosen = Set<UInt64>()
    for change in pending.reversed() where change.sequence <= limit {
      let isNeeded =
        change.inodes.contains { inodes.contains(ObjectIdentifier($0)) }
        || change.assignments.contains {
          places.contains(Place(directory: ObjectIdentifier($0.directory), name: $0.name))
        }
      guard isNeeded || isWanted(change) else { continue }
      chosen.insert(change.sequence)
      for inode in change.inodes { inodes.insert(ObjectIdentifier(inode)) }
      for assignment in change.assignments {
        places.insert(
          Place(directory: ObjectIdentifier(assignment.directory), name: assignment.name))
      }
    }
    guard !chosen.isEmpty else { return }
    var rest: [Change] = []
    for change in pending {
      if chosen.contains(change.sequence) { Self.makeDurable(change) } else { rest.append(change) }
    }
    pending = rest
  }

  /// Power is lost: each change is kept or lost.
  mutating func crash(_ random: inout SimulationRandom) {
    let whole = random.below(4)
    var lostPlaces = Set<Place>()
    var lostInodes = Set<ObjectIdentifier>()
    for change in pending {
      let buildsOnLost =
        change.inodes.contains { lostInodes.contains(ObjectIdentifier($0)) }
        || change.assignments.contains {
          lostPlaces.contains(Place(directory: ObjectIdentifier($0.directory), name: $0.name))
        }
      let isKept = whole == 1 || (whole > 1 && random.chance(1, in: 2))
      if isKept && !buildsOnLost {
        Self.makeDurable(change)
      } else {
        for inode in change.inodes { lostInodes.insert(ObjectIdentifier(inode)) }
        for assignment in change.assignments {
          lostPlaces.insert(
            Place(directory: ObjectIdentifier(assignment.directory), name: assignment.name))
        }
      }
    }
    pending = []
  }
}
