/// How values become bytes, on the wire, in the metadata log and in records on disk: little-endian
/// fixed integers, LEB128 varints, length-prefixed bytes. Nothing is self-describing; a type that may
/// grow starts with a version.
///
/// What every value is made of is `@inlinable`: called across modules it would otherwise be generic code that finds its
/// types at run time, for each number. And therefore `public`: the compiler keeps no body of a `package` declaration for other
/// modules, `@inlinable` or not (Swift 6.3.1).

/// A value with one exact byte form.
public protocol WireValue: Sendable {
  func encode(into writer: inout ByteWriter)
  init(from reader: inout ByteReader) throws(ValueError)
}

/// Bytes that are no valid form of the value asked for.
public enum ValueError: Error, Equatable {
  /// The bytes end inside the value.
  case truncated
  /// A count, tag or number outside what the type allows.
  case invalid(String)
  /// Bytes are left over after the value.
  case trailing(byteCount: Int)
}

public struct ByteWriter: Sendable {
  @usableFromInline var storage: [UInt8] = []

  @inlinable public init(reserving byteCount: Int = 64) { storage.reserveCapacity(byteCount) }

  @inlinable public var bytes: [UInt8] { storage }
  @inlinable public var count: Int { storage.count }

  @inlinable public mutating func fixed<Integer: FixedWidthInteger>(_ value: Integer) {
    withUnsafeBytes(of: value.littleEndian) { storage.append(contentsOf: $0) }
  }
  /// Unsigned LEB128: 1 to 10 bytes.
  @inlinable public mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      storage.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    storage.append(UInt8(rest))
  }
  @inlinable public mutating func varint(_ value: Int) { varint(UInt64(value)) }
  @inlinable public mutating func varint(_ value: UInt32) { varint(UInt64(value)) }
  /// Zigzag LEB128.
  @inlinable public mutating func signed(_ value: Int64) {
    varint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
  }
  @inlinable public mutating func bool(_ value: Bool) { storage.append(value ? 1 : 0) }
  /// Bytes without a length.
  @inlinable public mutating func raw(_ value: some Collection<UInt8>) {
    storage.append(contentsOf: value)
  }
  /// A varint length, then the bytes.
  @inlinable public mutating func blob(_ value: some Collection<UInt8>) {
    varint(value.count)
    storage.append(contentsOf: value)
  }
  @inlinable public mutating func string(_ value: String) {
    var copy = value
    copy.withUTF8 { blob(UnsafeRawBufferPointer($0)) }
  }
  @inlinable public mutating func value(_ value: some WireValue) { value.encode(into: &self) }
  /// A varint count, then the elements.
  @inlinable public mutating func list(_ values: some Collection<some WireValue>) {
    varint(values.count)
    for value in values { value.encode(into: &self) }
  }
  @inlinable public mutating func optional(_ value: (some WireValue)?) {
    bool(value != nil)
    if let value { value.encode(into: &self) }
  }
  /// Overwrites bytes written before, for a checksum or length known only at the end.
  @inlinable public mutating func patch<Integer: FixedWidthInteger>(
    _ value: Integer, at offset: Int
  ) {
    withUnsafeBytes(of: value.littleEndian) { source in
      for (index, byte) in source.enumerated() { storage[offset + index] = byte }
    }
  }
}

public struct ByteReader: Sendable {
  @usableFromInline let bytes: [UInt8]
  @usableFromInline var place: Int
  @usableFromInline let end: Int

  @inlinable public init(_ bytes: [UInt8]) {
    self.bytes = bytes
    place = 0
    end = bytes.count
  }
  public init(_ bytes: UnsafeRawBufferPointer) { self.init(Array(bytes)) }
  public init(_ bytes: ArraySlice<UInt8>) { self.init(Array(bytes)) }

  /// Where the next value begins.
  @inlinable public var offset: Int { place }
  @inlinable public var remaining: Int { end - place }

  @inlinable public mutating func fixed<Integer: FixedWidthInteger>(
    _ type: Integer.Type = Integer.self
  )
    throws(ValueError) -> Integer
  {
    let size = MemoryLayout<Integer>.size
    guard remaining >= size else { throw .truncated }
    let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: Integer.self) }
    place += size
    return Integer(littleEndian: value)
  }
  /// `count` fixed numbers, one after the other. Not generic: a block's 256 checksums come this way, and what finds its type
  /// at run time took a tenth of all that a node did.
  package mutating func fixed32(count: Int) throws(ValueError) -> [UInt32] {
    guard count >= 0, count <= remaining / MemoryLayout<UInt32>.size else { throw .truncated }
    let byteCount = count * MemoryLayout<UInt32>.size
    let source = bytes
    let start = place
    place += byteCount
    return [UInt32](unsafeUninitializedCapacity: count) { values, initializedCount in
      source.withUnsafeBytes { source in
        for index in 0..<count {
          values.initializeElement(
            at: index,
            to: UInt32(
              littleEndian: source.loadUnaligned(
                fromByteOffset: start + index * MemoryLayout<UInt32>.size, as: UInt32.self)))
        }
      }
      initializedCount = count
    }
  }
  @inlinable public mutating func varint() throws(ValueError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      guard place < end else { throw .truncated }
      let byte = bytes[place]
      place += 1
      if shift == 63 && byte > 1 { throw .invalid("varint") }
      value |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { return value }
      shift += 7
      if shift > 63 { throw .invalid("varint") }
    }
  }
  /// A varint that must fit `Int` and not exceed `limit`.
  @inlinable public mutating func count(limit: Int = Int(Int32.max)) throws(ValueError) -> Int {
    let value = try varint()
    guard value <= UInt64(limit) else { throw .invalid("count") }
    return Int(value)
  }
  @inlinable public mutating func varint32() throws(ValueError) -> UInt32 {
    let value = try varint()
    guard let narrow = UInt32(exactly: value) else { throw .invalid("number") }
    return narrow
  }
  @inlinable public mutating func signed() throws(ValueError) -> Int64 {
    let value = try varint()
    return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }
  @inlinable public mutating func bool() throws(ValueError) -> Bool {
    switch try fixed(UInt8.self) {
    case 0: return false
    case 1: return true
    default: throw .invalid("bool")
    }
  }
  @inlinable public mutating func raw(_ count: Int) throws(ValueError) -> [UInt8] {
    guard count >= 0, remaining >= count else { throw .truncated }
    defer { place += count }
    return Array(bytes[place..<place + count])
  }
  @inlinable public mutating func blob(limit: Int = 64 << 20) throws(ValueError) -> [UInt8] {
    try raw(try count(limit: limit))
  }
  @inlinable public mutating func string(limit: Int = 1 << 16) throws(ValueError) -> String {
    guard let text = String(validating: try blob(limit: limit), as: UTF8.self) else {
      throw .invalid("UTF-8")
    }
    return text
  }
  @inlinable public mutating func value<Value: WireValue>(_ type: Value.Type = Value.self)
    throws(ValueError) -> Value
  {
    try Value(from: &self)
  }
  @inlinable public mutating func list<Value: WireValue>(
    _ type: Value.Type = Value.self, limit: Int = 1 << 20
  )
    throws(ValueError) -> [Value]
  {
    let total = try count(limit: limit)
    // Every element takes a byte at least, so a huge count in few bytes is refused before memory is taken.
    guard total <= remaining else { throw .truncated }
    // An element may take far more memory than bytes: room is made as they prove to be there.
    var values: [Value] = []
    values.reserveCapacity(min(total, 1024))
    for _ in 0..<total { values.append(try Value(from: &self)) }
    return values
  }
  @inlinable public mutating func optional<Value: WireValue>(_ type: Value.Type = Value.self)
    throws(ValueError) -> Value?
  {
    try bool() ? try Value(from: &self) : nil
  }
  /// Throws when bytes are left.
  @inlinable public func finish() throws(ValueError) {
    if remaining > 0 { throw .trailing(byteCount: remaining) }
  }
}

extension WireValue {
  @inlinable public var encoded: [UInt8] {
    var writer = ByteWriter()
    encode(into: &writer)
    return writer.bytes
  }

  /// Reads a value that must fill `bytes` exactly.
  @inlinable public init(decoding bytes: [UInt8]) throws(ValueError) {
    var reader = ByteReader(bytes)
    self = try Self(from: &reader)
    try reader.finish()
  }
}

extension UInt64: WireValue {
  public func encode(into writer: inout ByteWriter) { writer.varint(self) }
  public init(from reader: inout ByteReader) throws(ValueError) { self = try reader.varint() }
}

extension UInt32: WireValue {
  public func encode(into writer: inout ByteWriter) { writer.varint(self) }
  public init(from reader: inout ByteReader) throws(ValueError) { self = try reader.varint32() }
}

extension String: WireValue {
  public func encode(into writer: inout ByteWriter) { writer.string(self) }
  public init(from reader: inout ByteReader) throws(ValueError) { self = try reader.string() }
}
