package import Wire

/// A storage node, for life: drawn at random when its first data directory is made.
package struct NodeID: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  package var raw: UInt64
  package init(_ raw: UInt64) { self.raw = raw }
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) { raw = try reader.fixed() }
  package var description: String { "n-" + hexadecimal(raw) }
}

/// One incarnation of a device: drawn at random when the device is formatted, so a wiped device comes
/// back as another.
package struct DeviceID: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  package var raw: UInt64
  package init(_ raw: UInt64) { self.raw = raw }
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }
  package func encode(into writer: inout ByteWriter) { writer.fixed(raw) }
  package init(from reader: inout ByteReader) throws(ValueError) { raw = try reader.fixed() }
  package var description: String { "d-" + hexadecimal(raw) }
  /// Reads what ``description`` shows; nil when it is something else.
  package init?(_ text: String) {
    guard text.utf8.count == 18, text.hasPrefix("d-"),
      let raw = UInt64(text.dropFirst(2), radix: 16)
    else { return nil }
    self.raw = raw
  }
}

package enum ContainerKind: UInt8, Sendable {
  case data = 0
  case link = 1
  case checkpoint = 2
}

/// A container of one kind; numbers of a kind are given once.
package struct ContainerID: Hashable, Comparable, Sendable, WireValue, CustomStringConvertible {
  /// Kind in the top byte, number below.
  package var raw: UInt64

  /// - Parameter number: below 2^56.
  package init(_ kind: ContainerKind, _ number: UInt64) {
    precondition(number < 1 << 56)
    raw = UInt64(kind.rawValue) << 56 | number
  }
  package var number: UInt64 { raw & (1 << 56 - 1) }
  package var kind: ContainerKind { ContainerKind(rawValue: UInt8(raw >> 56))! }
  package static func < (a: Self, b: Self) -> Bool { a.raw < b.raw }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(raw >> 56))
    writer.varint(number)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    let tag: UInt8 = try reader.fixed()
    let number = try reader.varint()
    guard let kind = ContainerKind(rawValue: tag), number < 1 << 56 else {
      throw .invalid("container")
    }
    self.init(kind, number)
  }
  package var description: String { "\(["c", "l", "p"][Int(kind.rawValue)])-\(number)" }
}

/// One shard of one container generation.
package struct ShardKey: Hashable, Comparable, Sendable, WireValue {
  package var container: ContainerID
  package var generation: UInt64
  /// 0 ..< k + m.
  package var shardIndex: UInt8

  package init(container: ContainerID, generation: UInt64, shardIndex: UInt8) {
    self.container = container
    self.generation = generation
    self.shardIndex = shardIndex
  }
  package static func < (a: Self, b: Self) -> Bool {
    (a.container.raw, a.generation, a.shardIndex) < (b.container.raw, b.generation, b.shardIndex)
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(container)
    writer.varint(generation)
    writer.fixed(shardIndex)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    container = try reader.value()
    generation = try reader.varint()
    shardIndex = try reader.fixed()
  }
}

/// One block: a row of a shard.
package struct BlockKey: Hashable, Comparable, Sendable, WireValue {
  package var shard: ShardKey
  package var stripe: UInt64

  package init(shard: ShardKey, stripe: UInt64) {
    self.shard = shard
    self.stripe = stripe
  }
  package static func < (a: Self, b: Self) -> Bool {
    a.shard == b.shard ? a.stripe < b.stripe : a.shard < b.shard
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(shard)
    writer.varint(stripe)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    shard = try reader.value()
    stripe = try reader.varint()
  }
}

/// 16 lower-case digits.
func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}
