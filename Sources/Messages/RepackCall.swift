/// What a node answers that packs a whole container anew for the cluster. Method 270.
package import Cluster
internal import Coding
package import Ring
package import Wire

/// A stripe of a new generation: which bytes of the present one make it up.
package struct RepackedStripe: Hashable, Sendable, WireValue {
  package var stripe: UInt64
  package var layout: StripeLayout
  /// One after the other they are its data bytes.
  package var parts: [Part]

  package init(stripe: UInt64, layout: StripeLayout, parts: [Part]) {
    self.stripe = stripe
    self.layout = layout
    self.parts = parts
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(stripe)
    writer.value(layout)
    writer.list(parts)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    stripe = try reader.varint()
    layout = try reader.value()
    parts = try reader.list(limit: 1 << 16)
    var byteCount = 0
    for part in parts { byteCount += part.range.count }
    guard byteCount == layout.byteCount else { throw .invalid("stripe's parts") }
  }

  package struct Part: Hashable, Sendable, WireValue {
    package var stripe: UInt64
    /// Of its data bytes.
    package var range: Range<Int>
    package init(stripe: UInt64, range: Range<Int>) {
      self.stripe = stripe
      self.range = range
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(stripe)
      writer.varint(range.lowerBound)
      writer.varint(range.count)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      stripe = try reader.varint()
      // No stripe has more.
      let limit = Scheme.largestWidth << 20
      let first = try reader.count(limit: limit)
      range = first..<first + (try reader.count(limit: limit))
    }
  }
}

/// Has a node write a whole container anew, as another generation with its groups packed otherwise: another scheme, other
/// stripes. Answered at once; ``RewriteStatus`` says how it goes. Asking again for a job that is known changes nothing.
///
/// Refused: staleEpoch; unavailable when it has as many as it takes; malformed.
package struct RepackContainer: Call {
  package static let method: UInt16 = 270
  package typealias Answer = Done
  /// The lease.
  package var job: UInt64
  /// The leader's.
  package var epoch: UInt64
  /// The present places and where their devices are, in order.
  package var sources: [RewriteShards.Source]
  /// What the directory says is stored, ascending.
  package var stripes: [RewriteShards.Stripe]
  /// Where the nodes of the right's devices serve blocks, in order.
  package var targets: [SocketAddress]
  /// What is to be written, ascending.
  package var repacked: [RepackedStripe]
  /// To write the new generation.
  package var right: SignedGrant
  /// Bytes that this node may read and write for all its jobs in a second; 0: as many as it can.
  package var byteRate: UInt64

  package init(
    job: UInt64, epoch: UInt64, sources: [RewriteShards.Source], stripes: [RewriteShards.Stripe],
    targets: [SocketAddress], repacked: [RepackedStripe], right: SignedGrant, byteRate: UInt64
  ) {
    self.job = job
    self.epoch = epoch
    self.sources = sources
    self.stripes = stripes
    self.targets = targets
    self.repacked = repacked
    self.right = right
    self.byteRate = byteRate
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(job)
    writer.varint(epoch)
    writer.list(sources)
    writer.list(stripes)
    writer.varint(targets.count)
    for target in targets {
      writer.string(target.host)
      writer.fixed(target.port)
    }
    writer.list(repacked)
    writer.value(right)
    writer.varint(byteRate)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    job = try reader.varint()
    epoch = try reader.varint()
    sources = try reader.list(limit: 256)
    stripes = try reader.list(limit: 1 << 16)
    targets = []
    for _ in 0..<(try reader.count(limit: 256)) {
      targets.append(
        SocketAddress(host: try reader.string(limit: 256), port: try reader.fixed()))
    }
    repacked = try reader.list(limit: 1 << 16)
    right = try reader.value()
    byteRate = try reader.varint()
    var byteCounts: [UInt64: Int] = [:]
    for stripe in stripes {
      guard stripe.layout.scheme.width == sources.count,
        byteCounts.updateValue(stripe.layout.byteCount, forKey: stripe.stripe) == nil
      else { throw .invalid("repack") }
    }
    guard targets.count == right.grant.devices.count, !repacked.isEmpty,
      repacked.allSatisfy({ stripe in
        stripe.layout.scheme == right.grant.scheme
          && stripe.parts.allSatisfy { $0.range.upperBound <= byteCounts[$0.stripe] ?? -1 }
      })
    else { throw .invalid("repack") }
  }

  /// Where the new generation is to be.
  package var places: [ShardPlace] {
    [ShardPlace](right.grant.devices, generation: right.grant.generation)
  }
}
