internal import Cluster
internal import Ring

/// Who works on a shard: writers and copies side by side, or one delete or fence alone. Loop-confined.
final class ShardGates: @unchecked Sendable {
  private final class Gatekeeper {
    var users = 0
    var isExclusive = false
    /// Users and waiters of both sorts.
    var references = 0
    let queue = WaitQueue()
  }

  private var keepers: [ShardKey: Gatekeeper] = [:]

  private func keeper(_ shard: ShardKey) -> Gatekeeper {
    let keeper = keepers[shard] ?? Gatekeeper()
    keepers[shard] = keeper
    keeper.references += 1
    return keeper
  }

  private func drop(_ keeper: Gatekeeper, _ shard: ShardKey) {
    keeper.references -= 1
    if keeper.references == 0 { keepers[shard] = nil } else { keeper.queue.wakeAll() }
  }

  func enter(_ shard: ShardKey) async {
    let keeper = keeper(shard)
    while keeper.isExclusive { await keeper.queue.wait() }
    keeper.users += 1
  }

  func leave(_ shard: ShardKey) {
    guard let keeper = keepers[shard] else { preconditionFailure("left a shard twice") }
    keeper.users -= 1
    drop(keeper, shard)
  }

  /// Keeps new users out, then waits until those inside are gone. Take several shards in ascending order.
  func enterAlone(_ shard: ShardKey) async {
    let keeper = keeper(shard)
    while keeper.isExclusive { await keeper.queue.wait() }
    keeper.isExclusive = true
    while keeper.users > 0 { await keeper.queue.wait() }
  }

  func leaveAlone(_ shard: ShardKey) {
    guard let keeper = keepers[shard] else { preconditionFailure("left a shard twice") }
    keeper.isExclusive = false
    drop(keeper, shard)
  }
}
