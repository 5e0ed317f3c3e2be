internal import Cluster
internal import Messages
internal import Wire

/// Checks the right to write. A grant's signature costs a few microseconds, so verified ones are remembered.
/// Loop-confined.
final class GrantChecker: @unchecked Sendable {
  private let key: [UInt8]
  private var verified: Set<SignedGrant> = []
  /// In order of arrival, a ring.
  private var ring: [SignedGrant] = []
  private var next = 0
  private static let limit = 1024

  init(_ key: ClusterKey) { self.key = key.subkey("grant") }

  /// - Throws: `badGrant` unless `right` covers this block on this device.
  func check(_ right: WriteRight, for block: BlockDescription, on device: DeviceID)
    throws(Refusal)
  {
    let shard = block.key.shard
    switch right {
    case .leader(let epoch):
      guard shard.container.kind != .data else {
        throw Refusal(.badGrant, "data needs a grant")
      }
      guard epoch == block.epoch else {
        throw Refusal(.badGrant, "the block's epoch is \(block.epoch), the leader's \(epoch)")
      }
    case .grant(let signed):
      let grant = signed.grant
      guard shard.container.kind == .data else {
        throw Refusal(.badGrant, "only the leader writes links")
      }
      guard grant.container == shard.container, grant.generation == shard.generation else {
        throw Refusal(.badGrant, "the grant is for another container")
      }
      guard grant.scheme == block.layout.scheme, Int(shard.shardIndex) < grant.devices.count,
        grant.devices[Int(shard.shardIndex)] == device
      else { throw Refusal(.badGrant, "the grant puts this shard on another device") }
      guard block.key.stripe >= grant.firstStripe, block.key.stripe < grant.endStripe else {
        throw Refusal(.badGrant, "the stripe is outside the grant's window")
      }
      guard isGenuine(signed) else { throw Refusal(.badGrant, "the grant's signature is wrong") }
    }
  }

  /// - Throws: `badGrant` unless the grant was signed with the cluster's key.
  func check(_ signed: SignedGrant) throws(Refusal) {
    guard isGenuine(signed) else { throw Refusal(.badGrant, "the grant's signature is wrong") }
  }

  private func isGenuine(_ signed: SignedGrant) -> Bool {
    if verified.contains(signed) { return true }
    guard signed.isValid(key: key) else { return false }
    verified.insert(signed)
    if ring.count < Self.limit {
      ring.append(signed)
    } else {
      verified.remove(ring[next])
      ring[next] = signed
      next = (next + 1) % Self.limit
    }
    return true
  }
}
