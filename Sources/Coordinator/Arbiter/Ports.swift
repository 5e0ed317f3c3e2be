package import Cluster
package import Coding
package import Messages
import Metadata
package import Ring
package import Wire

/// A container of the log's own, kept as copies: a link, or a part of a checkpoint.
package struct LogContainer: Hashable, Sendable {
  package var container: ContainerID
  package var generation: UInt64
  /// 1+m.
  package var scheme: Scheme
  package var devices: [DeviceID]
}

extension RootRecord.Link {
  var place: LogContainer {
    LogContainer(
      container: container, generation: generation, scheme: scheme, devices: devices)
  }
}

extension RootRecord.Checkpoint.Part {
  var place: LogContainer {
    LogContainer(
      container: container, generation: generation, scheme: scheme, devices: devices)
  }
}

extension RootRecord {
  /// Everything that the log is in: links, then the parts of the checkpoint.
  package var logContainers: [LogContainer] {
    links.map(\.place) + (checkpoint?.containers ?? []).map(\.place)
  }
  /// All that it is on.
  package var logDevices: Set<DeviceID> { Set(logContainers.flatMap(\.devices)) }
}

/// A device that did not store a block of the log.
package struct LinkFailure: Sendable, Equatable {
  package var device: DeviceID
  package var error: WireError
  package init(device: DeviceID, error: WireError) {
    self.device = device
    self.error = error
  }
}

/// Why a stripe of the log cannot be had.
package enum LinkReadError: Error, Equatable {
  /// No device that may have it answers: these.
  case unreachable([DeviceID])
  /// Devices answered, and none has it whole.
  case lost(String)
}

/// What the arbiter and the log ask of nodes: over the wire, or of a model in tests.
package protocol NodePort: AnyObject, Sendable {
  func holdLease(_ request: HoldLease, at address: SocketAddress, deadline: Duration) async
    -> Result<HoldLease.Answer, WireError>
  /// Stores one stripe of a link on every device of it. Empty when all have it on stable storage.
  ///
  /// - Parameters:
  ///   - bytes: 1 ... one block's worth.
  ///   - acknowledged: stripes of this link below it are acknowledged.
  func write(
    _ link: LogContainer, stripe: UInt64, bytes: [UInt8], acknowledged: UInt64, epoch: UInt64,
    deadline: Duration
  ) async -> [LinkFailure]
  /// A stripe's bytes, from any copy.
  func read(_ link: LogContainer, stripe: UInt64, layout: StripeLayout) async
    -> Result<[UInt8], LinkReadError>
  /// Fences one shard of a link and lists it.
  func fence(_ link: LogContainer, shard: Int, epoch: UInt64, deadline: Duration) async
    -> Result<ShardListing, WireError>
  func list(_ link: LogContainer, shard: Int, deadline: Duration) async
    -> Result<ShardListing, WireError>
}
