import Ring
import Service

/// Who won an epoch: `PREFIX/epoch`. Written once by each claim, unlike any other; the holder's transactions compare
/// it.
struct EtcdClaim: Equatable, Sendable {
  /// Of the cluster's key: two clusters that were given one prefix find each other out.
  var cluster: String
  var epoch: UInt64
  /// The operator's name for the coordinator.
  var holder: String
  var address: SocketAddress
  /// Of the process, drawn at its start.
  var instance: String

  var encoded: [UInt8] {
    Array(
      JSON.object([
        ("cluster", .string(cluster)), ("epoch", .string(String(epoch))),
        ("holder", .string(holder)), ("address", .string(address.description)),
        ("instance", .string(instance)),
      ]).text.utf8)
  }

  init(cluster: String, epoch: UInt64, holder: String, address: SocketAddress, instance: String) {
    self.cluster = cluster
    self.epoch = epoch
    self.holder = holder
    self.address = address
    self.instance = instance
  }

  /// Nil when it is none of ours.
  init?(decoding bytes: [UInt8]) {
    guard let json = try? JSON(parsing: bytes), let cluster = json["cluster"]?.string,
      let epoch = json["epoch"]?.whole, epoch < 1 << 62, let holder = json["holder"]?.string,
      let address = json["address"]?.string.flatMap({ SocketAddress($0) }),
      let instance = json["instance"]?.string
    else { return nil }
    self.init(
      cluster: cluster, epoch: epoch, holder: holder, address: address, instance: instance)
  }
}

/// That an epoch's holder lives: `PREFIX/lease`. Written by each renewal; each different from those before; a standby watches it.
struct EtcdRenewal: Equatable, Sendable {
  var epoch: UInt64
  var count: UInt64
  /// The holder gave it up and answers nothing any more.
  var isReleased = false

  var encoded: [UInt8] {
    Array(
      JSON.object([
        ("epoch", .string(String(epoch))), ("renewal", .string(String(count))),
        ("released", .bool(isReleased)),
      ]).text.utf8)
  }

  init(epoch: UInt64, count: UInt64, isReleased: Bool = false) {
    self.epoch = epoch
    self.count = count
    self.isReleased = isReleased
  }

  init?(decoding bytes: [UInt8]) {
    guard let json = try? JSON(parsing: bytes), let epoch = json["epoch"]?.whole,
      let count = json["renewal"]?.whole, let isReleased = json["released"]?.bool
    else { return nil }
    self.init(epoch: epoch, count: count, isReleased: isReleased)
  }
}
