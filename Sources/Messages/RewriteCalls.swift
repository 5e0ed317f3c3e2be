/// What a node answers that writes shards anew for the cluster. Methods 264, 265 and 269.
package import Cluster
internal import Coding
package import Ring
package import Wire

/// Has a node write blocks of one container: whole shards on other devices, or single blocks in place that were lost.
/// Each is read where it still can be, and otherwise rebuilt from others. Answered at once; ``RewriteStatus`` says how it goes.
/// Asking again for a job that is known changes nothing.
///
/// Refused: staleEpoch; unavailable when it has as many as it takes; malformed.
package struct RewriteShards: Call {
  package static let method: UInt16 = 264
  package typealias Answer = Done
  /// Named by the leader: the lease, or a number of its own for blocks that are mended in place.
  package var job: UInt64
  /// The leader's.
  package var epoch: UInt64
  /// The places of shards from which the targets' blocks are made, and where their devices are: all of them, in order.
  package var sources: [Source]
  package var targets: [Target]
  /// What the directory says is stored, ascending.
  package var stripes: [Stripe]
  package var right: SignedGrant
  /// Bytes that this node may read and write for all its jobs in a second; 0: as many as it can.
  package var byteRate: UInt64

  package init(
    job: UInt64, epoch: UInt64, sources: [Source], targets: [Target], stripes: [Stripe],
    right: SignedGrant, byteRate: UInt64
  ) {
    self.job = job
    self.epoch = epoch
    self.sources = sources
    self.targets = targets
    self.stripes = stripes
    self.right = right
    self.byteRate = byteRate
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(job)
    writer.varint(epoch)
    writer.list(sources)
    writer.list(targets)
    writer.list(stripes)
    writer.value(right)
    writer.varint(byteRate)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    job = try reader.varint()
    epoch = try reader.varint()
    sources = try reader.list(limit: 256)
    targets = try reader.list(limit: 256)
    stripes = try reader.list(limit: 1 << 16)
    right = try reader.value()
    byteRate = try reader.varint()
    let width = sources.count
    guard right.grant.scheme.width == width, !targets.isEmpty,
      targets.allSatisfy({ Int($0.shardIndex) < width }),
      Set(targets.map(\.shardIndex)).count == targets.count,
      stripes.allSatisfy({ $0.layout.scheme == right.grant.scheme })
    else { throw .invalid("rewrite") }
  }

  /// The key of the shard that a target is.
  package func shard(_ target: Target) -> ShardKey {
    ShardKey(
      container: right.grant.container, generation: target.place.generation,
      shardIndex: target.shardIndex)
  }

  package struct Source: Hashable, Sendable, WireValue {
    package var place: ShardPlace
    /// Where its node serves blocks; no host: nobody knows.
    package var address: SocketAddress
    /// Believed to be so, or in doubt: asked only when there is no other way.
    package var isDown: Bool
    /// Much slower than others of its kind: asked last of those that are not down.
    package var isSlow: Bool
    package init(place: ShardPlace, address: SocketAddress, isDown: Bool, isSlow: Bool = false) {
      self.place = place
      self.address = address
      self.isDown = isDown
      self.isSlow = isSlow
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(place)
      writer.string(address.host)
      writer.fixed(address.port)
      writer.bool(isDown)
      writer.bool(isSlow)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      place = try reader.value()
      address = SocketAddress(host: try reader.string(limit: 256), port: try reader.fixed())
      isDown = try reader.bool()
      isSlow = try reader.bool()
    }
  }

  package struct Target: Hashable, Sendable, WireValue {
    package var shardIndex: UInt8
    package var place: ShardPlace
    package var address: SocketAddress
    package init(shardIndex: UInt8, place: ShardPlace, address: SocketAddress) {
      self.shardIndex = shardIndex
      self.place = place
      self.address = address
    }
    package func encode(into writer: inout ByteWriter) {
      writer.fixed(shardIndex)
      writer.value(place)
      writer.string(address.host)
      writer.fixed(address.port)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      shardIndex = try reader.fixed()
      place = try reader.value()
      address = SocketAddress(host: try reader.string(limit: 256), port: try reader.fixed())
    }
  }

  package struct Stripe: Hashable, Sendable, WireValue {
    package var stripe: UInt64
    package var layout: StripeLayout
    package init(stripe: UInt64, layout: StripeLayout) {
      self.stripe = stripe
      self.layout = layout
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(stripe)
      writer.value(layout)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      stripe = try reader.varint()
      layout = try reader.value()
    }
  }
}

/// How jobs of ``RewriteShards`` and ``RepackContainer`` go. A node forgets them when it ends, and what is done after 256 others.
package struct RewriteStatus: Call {
  package static let method: UInt16 = 265
  package var jobs: [UInt64]
  package init(jobs: [UInt64]) { self.jobs = jobs }
  package func encode(into writer: inout ByteWriter) { writer.list(jobs) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    jobs = try reader.list(limit: 1024)
  }

  package struct Answer: WireValue {
    /// One for each that was asked for, in their order.
    package var jobs: [Job]
    package init(jobs: [Job]) { self.jobs = jobs }
    package func encode(into writer: inout ByteWriter) { writer.list(jobs) }
    package init(from reader: inout ByteReader) throws(ValueError) {
      jobs = try reader.list(limit: 1024)
    }
  }

  package enum State: UInt8, Sendable {
    case unknown = 0
    case running = 1
    /// Every block is on stable storage.
    case done = 2
    case failed = 3
    /// A block could neither be read nor made from others: no fault of where it was to go.
    case unreadable = 4
  }

  package struct Job: Hashable, Sendable, WireValue {
    package var state: State
    /// Stripes seen to, and all of them.
    package var stripesDone: UInt64
    package var stripeCount: UInt64
    package var bytesRead: UInt64
    package var bytesWritten: UInt64
    /// Why it failed, for people.
    package var reason: String
    package init(
      state: State, stripesDone: UInt64 = 0, stripeCount: UInt64 = 0, bytesRead: UInt64 = 0,
      bytesWritten: UInt64 = 0, reason: String = ""
    ) {
      self.state = state
      self.stripesDone = stripesDone
      self.stripeCount = stripeCount
      self.bytesRead = bytesRead
      self.bytesWritten = bytesWritten
      self.reason = reason
    }
    package func encode(into writer: inout ByteWriter) {
      writer.fixed(state.rawValue)
      writer.varint(stripesDone)
      writer.varint(stripeCount)
      writer.varint(bytesRead)
      writer.varint(bytesWritten)
      writer.string(reason)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      guard let known = State(rawValue: try reader.fixed()) else { throw .invalid("job state") }
      state = known
      stripesDone = try reader.varint()
      stripeCount = try reader.varint()
      bytesRead = try reader.varint()
      bytesWritten = try reader.varint()
      reason = try reader.string(limit: 4096)
    }
  }
}

/// Ends jobs whose lease has ended. Those that are not known, or are done, are passed over. Refused: staleEpoch.
package struct EndRewrites: Call {
  package static let method: UInt16 = 269
  package typealias Answer = Done
  /// The leader's.
  package var epoch: UInt64
  package var jobs: [UInt64]
  package init(epoch: UInt64, jobs: [UInt64]) {
    self.epoch = epoch
    self.jobs = jobs
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(epoch)
    writer.list(jobs)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    epoch = try reader.varint()
    jobs = try reader.list(limit: 1024)
  }
}
