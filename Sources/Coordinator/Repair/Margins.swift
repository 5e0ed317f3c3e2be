import Cluster
import Coding
import Messages
import Metadata

/// How many more shards containers can lose, as far as is known now: devices that are gone or silent, and blocks that are wrong
/// or gone on devices that are there.
struct Margins {
  var isMissing: (DeviceID) -> Bool
  /// By container; of shards that may be old ones.
  var wrongBlocks: [ContainerID: [BlockKey]]

  /// Shards of a container that cannot be read.
  func missingShards(of record: ContainerRecord) -> Int {
    record.places.count { isMissing($0.device) }
  }

  /// Blocks that are wrong on shards that can be read: of the stripe that has most.
  ///
  /// - Parameter stripes: those that count; nil: all.
  func worstDamage(of id: ContainerID, places: [ShardPlace], among stripes: Set<UInt64>? = nil)
    -> Int
  {
    guard let keys = wrongBlocks[id] else { return 0 }
    var counts: [UInt64: Set<UInt8>] = [:]
    for key in keys {
      let index = Int(key.shard.shardIndex)
      guard stripes?.contains(key.stripe) != false, index < places.count,
        places[index].generation == key.shard.generation,
        !isMissing(places[index].device)
      else { continue }
      counts[key.stripe, default: []].insert(key.shard.shardIndex)
    }
    return counts.values.map(\.count).max() ?? 0
  }

  /// -1: of some stripe too few blocks are left.
  func margin(of record: ContainerRecord) -> Int {
    max(
      -1,
      record.scheme.m - missingShards(of: record)
        - worstDamage(of: record.id, places: record.places))
  }
}

extension CoordinatorServer {
  /// As this coordinator sees it now; a leader also knows what comparisons with directories found.
  var margins: Margins {
    var wrong = nodes.wrongBlocks
    if let leadership {
      for (shard, missing) in leadership.repairs.missing {
        wrong[shard.container, default: []] += missing.stripes.map {
          BlockKey(shard: shard, stripe: $0)
        }
      }
    }
    return Margins(
      isMissing: { [nodes, leadership] in
        nodes.isLate($0) || leadership?.repairs.isLost($0) == true
          || leadership?.repairs.silentSince[$0] != nil
      }, wrongBlocks: wrong)
  }
}
