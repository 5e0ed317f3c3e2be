import Cluster
import Messages
import Ring

/// A container granted to this writer, and the stripes it has under way there. Loop-confined.
final class OpenContainer: @unchecked Sendable {
  // Loop-confined.
  let signed: SignedGrant
  var grant: Grant { signed.grant }
  private var nextStripe: UInt64
  private var nextOrdinal: UInt64
  private var bytesLeft: UInt64
  /// Of the grant's window.
  private(set) var ordinalsLeft = Int(Grant.ordinalCount)
  /// Given up after a device failed: takes no more stripes.
  var isDead = false
  /// In stripe order; the front ones leave when they are registered or have failed.
  var outstanding: [SealedStripe] = []
  var isRegistering = false
  let changed = WaitQueue()

  init(_ signed: SignedGrant) {
    self.signed = signed
    nextStripe = signed.grant.firstStripe
    nextOrdinal = signed.grant.firstOrdinal
    bytesLeft = signed.grant.byteLimit
  }

  var isUsable: Bool {
    !isDead && nextStripe < grant.endStripe && bytesLeft > 0
      && ordinalsLeft >= StorageClass.groupChunkLimit
  }

  func takeStripe() -> UInt64 {
    defer { nextStripe += 1 }
    return nextStripe
  }

  func takeOrdinals(_ count: Int, byteCount: Int) -> UInt64 {
    defer {
      nextOrdinal += UInt64(count)
      ordinalsLeft -= count
      bytesLeft -= min(bytesLeft, UInt64(byteCount))
    }
    return nextOrdinal
  }
}

/// A stripe that takes no more chunks. Loop-confined.
final class SealedStripe: @unchecked Sendable {
  // Loop-confined.
  enum State { case writing, acknowledged, failed }
  let record: StripeRecord
  /// In the record's order; their payloads are in the stripe's buffer.
  let groups: [EncodedGroup]
  /// Of their chunks.
  var handles: [ChunkHandle] { groups.flatMap(\.handles) }
  var state = State.writing

  init(record: StripeRecord, groups: [EncodedGroup]) {
    self.record = record
    self.groups = groups
  }
}
