/// What can be done to a world.
package enum FaultKind: UInt8, CaseIterable, Sendable {
  // Processes and machines.
  case kill
  case powerCut
  case pause
  case clockJump
  case clockDrift
  // Disks: counted when an operation or a byte was really hit.
  case readError
  case writeError
  case synchronizeError
  case nameError
  case slowOperation
  case lostWrite
  case misdirectedWrite
  case lyingSynchronize
  case bitFlip
  /// Bytes that became unreadable; each read that meets them is a `readError` too.
  case latentError
  /// Bytes changed, cut off or erased behind the kernel's back.
  case tampering
  case wipe
  case diskCrash
  /// An operation refused for want of space.
  case full
  /// An operation refused because the disk is read-only.
  case readOnly
  // Network.
  case cut
  case reset
  /// Connections that carry nothing any more, and nobody is told.
  case halfOpen
  case slowLink
  /// A connection refused though somebody listens.
  case refusal
}

/// How many faults of each kind have really hit.
package struct FaultCounts: Sendable, Equatable {
  private var counts = [Int](repeating: 0, count: FaultKind.allCases.count)

  package init() {}

  package subscript(kind: FaultKind) -> Int { counts[Int(kind.rawValue)] }

  package var total: Int { counts.reduce(0, +) }

  /// The kinds that occurred, in the order of the kinds.
  package var occurred: [(kind: FaultKind, count: Int)] {
    FaultKind.allCases.compactMap { self[$0] > 0 ? ($0, self[$0]) : nil }
  }

  mutating func count(_ kind: FaultKind) { counts[Int(kind.rawValue)] += 1 }
}
