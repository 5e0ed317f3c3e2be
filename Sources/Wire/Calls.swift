package import Ring

/// One request or answer: a small encoded message and, beside it, bulk bytes that are never copied.
package struct Packet: Sendable {
  /// At most ``WireLimits/messageByteCount``.
  package var message: [UInt8]
  /// At most ``WireLimits/bodyByteCount`` in all; sent in order, received as one slice.
  package var body: [Slice]
  /// CRC32C of each 4 KiB of the body, the last part perhaps shorter. Who sends and knows them spares both ends a pass over
  /// the bytes; of what was received they are computed from the bytes that came. Nil: not known.
  package var bodySums: [UInt32]?

  package init(message: [UInt8] = [], body: [Slice] = [], bodySums: [UInt32]? = nil) {
    self.message = message
    self.body = body
    self.bodySums = bodySums
  }

  package var bodyByteCount: Int { body.reduce(0) { $0 + $1.count } }
}

package enum WireLimits {
  package static let messageByteCount = 4 << 20
  package static let bodyByteCount = 2 << 20
}

/// Why a call has no answer.
package enum WireError: Error, Equatable {
  /// The request never left, or surely was not carried out: safe to send again.
  case unreachable(String)
  /// The connection ended after the request left: whether it was carried out is unknown.
  case disconnected(String)
  /// No answer within the deadline: whether it was carried out is unknown.
  case deadline
  /// The peer does not hold our cluster key, or we do not hold its.
  case wrongKey
  /// The peer speaks no version that we do.
  case version(String)
  /// The peer broke the protocol: a bad checksum, an oversized frame, an answer nobody asked for.
  case malformed(String)
  /// The peer carried out nothing and said why. `code` is one of Messages' `RefusalCode`s.
  case refused(code: UInt16, reason: String)
  case cancelled
}

/// What a server's handler throws to refuse a request; the caller sees ``WireError/refused``.
package struct Refusal: Error, Equatable, Sendable {
  package var code: UInt16
  package var reason: String
  package init(code: UInt16, reason: String) {
    self.code = code
    self.reason = reason
  }
}

/// Who is at the other end of a connection that proved the cluster's key.
package struct Peer: Sendable {
  package var address: SocketAddress
  /// What the peer calls itself in the handshake: "node n3", "client", "coordinator c1".
  package var name: String
  /// Unique among the connections of this process.
  package var connection: UInt64
  package init(address: SocketAddress, name: String, connection: UInt64) {
    self.address = address
    self.name = name
    self.connection = connection
  }
}
