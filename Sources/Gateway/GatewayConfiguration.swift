package import HTTP
package import Messages
package import Ring

/// What a gateway is told.
package struct GatewayConfiguration: Sendable {
  /// For logs and the Server field.
  package var name: String
  package var listen: SocketAddress
  /// What clients sign for.
  package var region = "us-east-1"
  /// Buckets may also be asked for as hosts below it; empty for none.
  package var domain = ""
  package var keys: [AccessKey]
  package var server = HTTPServerLimits()
  /// Which of the cluster's classes rules mean by the names that S3 has.
  package var storageClasses = Self.usualClasses
  /// Bytes that are read in a second to store them anew in other classes; nil: others do that.
  package var transitionRate: Int?

  /// Tiers whose objects clients expect to read without restoring them first.
  package static let usualClasses: [ObjectTier: String] = [
    .standardIA: "warm", .oneZoneIA: "warm", .glacierIR: "cold",
  ]
  package static let usualTransitionRate = 16 << 20

  package init(name: String, listen: SocketAddress, keys: [AccessKey]) {
    self.name = name
    self.listen = listen
    self.keys = keys
  }
}

/// Who may ask, and what proves it.
package struct AccessKey: Sendable, Equatable {
  /// 3 ... 128 bytes.
  package var name: String
  package var secret: String
  package init(name: String, secret: String) {
    self.name = name
    self.secret = secret
  }
}
