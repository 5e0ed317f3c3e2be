import Cluster
import Messages
import Ring
import Simulation
import Testing

@testable import Coordinator

struct NodeTableTests {
  @Test("damaged blocks are those that the last hello of each node that is up names")
  func damage() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let table = NodeTable(driver: world.process("c1"))
      func key(_ stripe: UInt64) -> BlockKey {
        BlockKey(
          shard: ShardKey(container: ContainerID(.data, 1), generation: 1, shardIndex: 0),
          stripe: stripe)
      }
      func hello(_ node: UInt64, damaged: [UInt64], suspected: [UInt64] = [], of device: UInt64) {
        let hello = Hello(
          clusterID: 1, node: NodeID(node), name: "n\(node)", host: "n\(node)", port: 7, domain: [],
          devices: [
            DeviceReport(
              id: DeviceID(node * 10), capacity: 1, used: 0, linkBytes: 0, free: 1, logFree: 1,
              tier: "", isFailed: false, isRetired: false, damagedCount: UInt64(damaged.count))
          ], highestEpoch: 0, corruptBlocks: 0,
          damage: [
            DeviceDamage(
              device: DeviceID(device), damaged: damaged.map(key), suspected: suspected.map(key))
          ])
        #expect(table.note(hello, from: SocketAddress(host: "n\(node)", port: 7)) == nil)
      }
      func named(_ blocks: [(DeviceID, BlockKey)]) -> [String] {
        blocks.map { "\($0.0.raw)/\($0.1.stripe)" }
      }
      hello(2, damaged: [9, 5], of: 20)
      hello(1, damaged: [3], suspected: [8, 7], of: 10)
      // What a node says of another's device is nothing.
      hello(3, damaged: [4], of: 10)
      #expect(named(table.damagedBlocks) == ["10/3", "20/5", "20/9"])
      #expect(named(table.suspectedBlocks) == ["10/7", "10/8"])
      hello(2, damaged: [6], of: 20)
      hello(1, damaged: [], of: 10)
      #expect(named(table.damagedBlocks) == ["20/6"])
      #expect(table.suspectedBlocks.isEmpty)
      await world.sleep(.seconds(6))
      #expect(table.damagedBlocks.isEmpty)
    }
  }
}
