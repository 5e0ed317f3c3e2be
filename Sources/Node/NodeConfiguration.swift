package import Cluster
package import Ring
package import ShardStore
package import Wire

/// What a storage daemon is told.
package struct NodeConfiguration: Sendable {
  /// One device directory and how it is to be used.
  package struct Device: Sendable {
    package var path: String
    /// "nvme", "ssd", "hdd"…; free text until tiers are used.
    package var tier: String
    package var settings: StoreSettings
    /// The device that stood here and is given up: an empty path takes a new one in its place.
    package var replaces: DeviceID?
    /// The tuning profile that the settings come from, and why; for people. Empty: they come from none.
    package var profile = ""
    /// Where the settings differ from the profile, "key=value" each.
    package var deviations: [String] = []

    package init(
      path: String, tier: String, settings: StoreSettings, replaces: DeviceID? = nil
    ) {
      self.path = path
      self.tier = tier
      self.settings = settings
      self.replaces = replaces
    }
  }

  /// The operator's name: "n3".
  package var name: String
  /// Where to serve; port 0 takes a free one. The host is announced to the coordinators, unless it stands for all
  /// addresses (0.0.0.0 or ::): then peers reach the node where its heartbeats come from.
  package var listen: SocketAddress
  package var coordinators: [SocketAddress]
  package var key: ClusterKey
  package var security: TransportSecurity
  /// Identity and lease of the node.
  package var directory: String
  /// Failure domain path, widest first, the node itself left out. May be empty.
  package var domain: [String]
  package var devices: [Device]
  /// Bytes of requests' bodies, and of answers being read, that may be in memory at a time: each of them.
  package var bodyByteLimit = 32 << 20
  /// Connections of peers at a time; each that asks nothing holds about 2 KiB.
  package var connectionLimit = 131_072

  package init(
    name: String, listen: SocketAddress, coordinators: [SocketAddress], key: ClusterKey,
    security: TransportSecurity = .automatic, directory: String, domain: [String] = [],
    devices: [Device]
  ) {
    self.name = name
    self.listen = listen
    self.coordinators = coordinators
    self.key = key
    self.security = security
    self.directory = directory
    self.domain = domain
    self.devices = devices
  }
}
