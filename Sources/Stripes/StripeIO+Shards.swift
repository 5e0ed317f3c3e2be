import Cluster
package import Messages
package import Wire

extension StripeIO {
  /// Raises the leader's epoch at one shard's device and lists what it holds; see ``FenceShard``.
  package func fence(_ target: StripeTarget, shardIndex: Int, epoch: UInt64, deadline: Duration)
    async throws(WireError) -> ShardListing
  {
    let device = target.device(shardIndex)
    return try await call(
      FenceShard(device: device, shard: target.shard(shardIndex), epoch: epoch), to: device,
      deadline: deadline
    ).answer
  }

  /// What one shard's device holds of it.
  package func list(_ target: StripeTarget, shardIndex: Int, deadline: Duration)
    async throws(WireError) -> ShardListing
  {
    let device = target.device(shardIndex)
    return try await call(
      ListShard(device: device, shard: target.shard(shardIndex)), to: device, deadline: deadline
    ).answer
  }
}
