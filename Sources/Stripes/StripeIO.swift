package import Cluster
import Messages
package import Ring
package import Wire

/// Where devices are, and which are believed down: the client's cached map, or the coordinator's own.
package protocol DeviceDirectory: AnyObject, Sendable {
  /// Where the node that holds the device serves blocks; nil when nobody knows the device.
  func address(of device: DeviceID) -> SocketAddress?
  /// A hint: such a device is asked last.
  func isDown(_ device: DeviceID) -> Bool
  /// A hint: much slower than others of its kind, so asked last too.
  func isSlow(_ device: DeviceID) -> Bool
  /// Its failure domain path, widest first, the node's name last; empty when nobody knows.
  func place(of device: DeviceID) -> [String]
  /// For error messages: the name of the node that holds it.
  func nodeName(of device: DeviceID) -> String
}

extension DeviceDirectory {
  package func isSlow(_ device: DeviceID) -> Bool { false }
  package func place(of device: DeviceID) -> [String] { [] }
}

/// One stripe of a container, and where its shards are.
package struct StripeTarget: Hashable, Sendable {
  package var container: ContainerID
  /// k + m, by shard index.
  package var places: [ShardPlace]
  package var stripe: UInt64

  package init(container: ContainerID, places: [ShardPlace], stripe: UInt64) {
    self.container = container
    self.places = places
    self.stripe = stripe
  }

  package func device(_ index: Int) -> DeviceID { places[index].device }
  package func shard(_ index: Int) -> ShardKey {
    ShardKey(
      container: container, generation: places[index].generation, shardIndex: UInt8(index))
  }
  package func block(_ index: Int) -> BlockKey { BlockKey(shard: shard(index), stripe: stripe) }
}

/// A device that did not acknowledge its block.
package struct DeviceFailure: Sendable, Equatable {
  package var device: DeviceID
  package var error: WireError
  package init(device: DeviceID, error: WireError) {
    self.device = device
    self.error = error
  }
}

package enum StripeError: Error, Equatable {
  /// Fewer than k blocks could be had. `missing`: the devices that did not give theirs.
  case unreadable(missing: [DeviceID], needed: Int, found: Int)
  /// So many devices say that there is no such block that it was dropped: resolve again.
  case notFound
  /// The bytes contradict what the directory says of them.
  case corrupt(String)
  case cancelled
}

/// Writes and reads stripes across nodes. Loop-confined.
///
/// `StripeIO+Write.swift` codes a stripe and stores its blocks; `StripeIO+Read.swift` reads a range of it,
/// `ReadPlan.swift` decides what to ask for when blocks are missing or slow, `ReadPreference.swift` what to ask for first; `StripeIO+Doubt.swift` finds the blocks to blame when
/// bytes are wrong under a right CRC; `ReadLatency.swift` says when one is slow,
/// `ReadHistory.swift` how each device answers, `Suspects.swift` which devices did not answer lately; `StripeIO+Shards.swift` fences and lists.
package final class StripeIO: @unchecked Sendable {
  // Loop-confined.
  package struct Options: Sendable {
    /// For one block, from the call to the answer.
    package var readDeadline: Duration
    /// Whether a slow block is rebuilt from the others.
    package var hedges: Bool
    /// Which blocks are asked for first.
    package var policy: ReadPolicy
    package init(
      readDeadline: Duration = .seconds(10), hedges: Bool = true, policy: ReadPolicy = .dataFirst
    ) {
      self.readDeadline = readDeadline
      self.hedges = hedges
      self.policy = policy
    }
  }

  let driver: any Driver
  let client: WireClient
  let directory: any DeviceDirectory
  let options: Options
  /// For one block, from the call to the answer.
  package var readDeadline: Duration { options.readDeadline }
  var latency = ReadLatency()
  var suspects = Suspects()
  var history = ReadHistory()
  /// Counts up from read to read.
  var readCount: UInt64 = 0

  /// Told of every block whose bytes were wrong.
  package var onCorruption: ((DeviceID, BlockKey) -> Void)?
  /// Blocks that had to be rebuilt because a device did not give them.
  package internal(set) var rebuiltBlockCount = 0

  package init(
    driver: any Driver, client: WireClient, directory: any DeviceDirectory,
    options: Options = Options()
  ) {
    self.driver = driver
    self.client = client
    self.directory = directory
    self.options = options
  }

  /// Sends one call to the node that holds `device`.
  func call<Request: Call>(
    _ request: Request, body: [Slice] = [], bodySums: [UInt32]? = nil, to device: DeviceID,
    deadline: Duration
  ) async throws(WireError) -> (answer: Request.Answer, body: [Slice], bodySums: [UInt32]) {
    guard let address = directory.address(of: device) else {
      throw .unreachable("no node holds device \(device)")
    }
    return try await client.call(
      request, body: body, bodySums: bodySums, at: address, deadline: deadline)
  }
}
