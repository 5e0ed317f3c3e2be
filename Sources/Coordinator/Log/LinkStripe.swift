import Cluster
import Coding
import Messages
import Metadata
import Wire

/// What one stripe of a link holds: a copy of the root record in stripe 0, a batch in each other. Both are one
/// group frame; a root begins with its magic, a batch with its version, which is a small number.
enum LinkStripe: Sendable {
  case root(RootRecord)
  case batch(LogBatch)

  /// - Parameter framed: the stripe's data bytes.
  init(framed: [UInt8]) throws(ValueError) {
    let header = try GroupHeader(decoding: framed)
    guard header.isPlain else { throw .invalid("link stripe codec") }
    let end = GroupHeader.byteCount + Int(header.payloadByteCount)
    guard framed.count >= end else { throw .truncated }
    if framed[GroupHeader.byteCount..<end].starts(with: Array("CnRt".utf8)) {
      self = .root(try RootRecord(decoding: Array(framed[GroupHeader.byteCount..<end])))
    } else {
      self = .batch(try LogBatch(framed: framed))
    }
  }

  /// What `byteCount` bytes of a stripe occupy on a device: most are small, and then it is mostly header and padding.
  static func storedByteCount(_ byteCount: Int, _ scheme: Scheme) -> Int {
    storedByteCount(StripeLayout.smallest(for: byteCount, scheme: scheme))
  }
  static func storedByteCount(_ layout: StripeLayout) -> Int {
    StripeLayout.unit + layout.blockByteCount
  }

  static func framed(_ root: RootRecord) -> [UInt8] {
    let payload = root.encoded
    return GroupHeader(
      codec: .raw, chunkCount: 1, plainByteCount: payload.count, payloadByteCount: payload.count
    ).encoded + payload
  }
}
