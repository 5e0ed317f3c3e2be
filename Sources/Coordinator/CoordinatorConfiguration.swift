package import Cluster
package import Coding
package import Ring
package import Wire

/// What a coordinator is told at its start.
package struct CoordinatorConfiguration: Sendable {
  /// The operator's name: "c1".
  package var name: String
  /// Where it listens.
  package var address: SocketAddress
  /// `arbiter/` and `state/` are kept below it. Losing it loses nothing.
  package var dataDirectory: String
  package var key: ClusterKey
  package var security: TransportSecurity = .automatic
  /// Without one no key domain can be made or opened.
  package var masterKeys = KeyProviderChoice.none
  /// Of the default class of a cluster that is founded here; an existing one has its own.
  package var scheme: Scheme
  /// A new cluster is founded when so many nodes have said hello.
  package var expectedNodes: Int

  package var lease = LeaseTiming()
  /// A node silent for longer counts as down.
  package var nodeSilence = Duration.seconds(5)
  /// When nodes say hello again.
  package var helloInterval = Duration.seconds(1)
  /// A session silent for longer is expired.
  package var sessionLifetime = Duration.seconds(30)
  /// Between the moment when a container is condemned and the deletion of its blocks, so that readers
  /// who have just resolved it come through.
  package var deletionGrace = Duration.seconds(30)
  /// A multipart upload that was begun longer ago is expired.
  package var multipartLifetime = Duration.seconds(7 * 86_400)
  /// How often they are looked at.
  package var multipartInterval = Duration.seconds(60)
  /// How often buckets' lifecycle rules are carried out.
  package var lifecycleInterval = Duration.seconds(3600)
  /// How often all that devices hold is compared with what is known.
  package var inventoryInterval = Duration.seconds(3600)
  /// A device that has not stored a block of the log by then is given up by the log.
  package var slowLogDevice = Duration.seconds(3)
  /// How long take-over waits for one more device of the open link when others answered.
  package var fenceBound = Duration.seconds(2)
  /// How often the state's store is flushed when it changed; what is not is replayed at the next start.
  package var flushInterval = Duration.seconds(60)
  /// Which devices new containers go to.
  package var placement = PlacementPolicy.emptiest
  /// A device with less room takes no new container.
  package var leastFree: UInt64 = 64 << 20
  /// Size at which a link of the log is followed by the next.
  package var linkByteLimit = 64 << 20
  package var linkStripeLimit: UInt64 = 4096
  /// A checkpoint is written when sealed links have so many bytes, and twice as many as the last checkpoint,
  /// or when there are so many of them.
  package var checkpointLogBytes = 256 << 20
  package var checkpointLinkCount = 64
  /// What a device that does not answer holds is rebuilt elsewhere after so long.
  package var rebuildAfter = Duration.seconds(600)
  /// The same where everything in a rack (the widest part of a domain's path) is silent: most likely it comes back.
  package var rackRebuildAfter = Duration.seconds(3600)
  /// Containers that are not as they would be made now are made so once there have been failure domains for it so long.
  package var repackAfter = Duration.seconds(600)
  /// A container of whose data a smaller share is alive is packed anew without the dead; 0: none is.
  package var collectBelow = 0.8
  /// Dead bytes with which a container is left as it is all the same.
  package var leastDead: UInt64 = 1 << 20
  /// Containers that each node writes anew at a time.
  package var rewritesPerNode = 2
  /// Bytes that each node reads and writes in a second for that; 0: as many as it can.
  package var repairByteRate: UInt64 = 64 << 20
  /// Whether shards move from full devices to empty ones.
  package var balances = true
  /// Bytes above its due with which a device is left alone.
  package var leastImbalance: UInt64 = 64 << 20
  /// Log batches under way at once.
  package var logWindow = 2

  package init(
    name: String, address: SocketAddress, dataDirectory: String, key: ClusterKey, scheme: Scheme,
    expectedNodes: Int
  ) {
    self.name = name
    self.address = address
    self.dataDirectory = dataDirectory
    self.key = key
    self.scheme = scheme
    self.expectedNodes = expectedNodes
  }
}
