import Coding
import Messages
import Ring
import TestSupport

@testable import DataPath

/// Bytes that look random, quickly.
func noise(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
  var word = random.next() | 1
  return [UInt8](unsafeUninitializedCapacity: count + 8) { target, filled in
    let raw = UnsafeMutableRawBufferPointer(target)
    var offset = 0
    while offset < count {
      word = word &* 0x5851_F42D_4C95_7F2D &+ 0x1405_7B7E_F767_814F
      raw.storeBytes(of: word ^ word >> 29, toByteOffset: offset, as: UInt64.self)
      offset += 8
    }
    filled = count
  }
}

/// Bytes that compress to about a third: words of a few, at random.
func shrinking(_ count: Int, _ random: inout SeededGenerator) -> [UInt8] {
  let words = (0..<64).map { _ in noise(Int(random.next() % 9) + 2, &random) }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count + 16)
  while bytes.count < count { bytes += words[Int(random.next() % 64)] }
  return Array(bytes.prefix(count))
}

/// A group's frame; raw where it does not shrink.
///
/// - Parameter key: nil: it is not sealed.
func framed(
  _ contents: [[UInt8]], _ codec: Codec, _ coder: GroupCodec, _ key: DataKey? = nil,
  nonce: UInt64 = 0
) -> (frame: [UInt8], codec: Codec) {
  let plain = contents.flatMap { $0 }
  var payload = [UInt8](repeating: 0, count: max(0, plain.count - 1))
  let count = plain.withUnsafeBytes { from in
    payload.withUnsafeMutableBytes { coder.compress(from, into: $0, codec: codec, level: 1) }
  }
  if let count { payload.removeLast(payload.count - count) } else { payload = plain }
  let used = count == nil ? .raw : codec
  var header = GroupHeader(
    codec: used, chunkCount: contents.count, plainByteCount: plain.count,
    payloadByteCount: payload.count)
  guard let key else { return (header.encoded + payload, used) }
  header.payloadByteCount += UInt32(AES256GCM.tagByteCount)
  header.seal = .init(keyID: key.id, nonce: .init(high: 0, low: nonce))
  var sealed = [UInt8](repeating: 0, count: payload.count + AES256GCM.tagByteCount)
  payload.withUnsafeBytes { from in
    sealed.withUnsafeMutableBytes { coder.seal(from, into: $0, header: header, key: key) }
  }
  return (header.encoded + sealed, used)
}

/// Gives its bytes in pieces of odd sizes, and may misbehave.
final class TestSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  let bytes: [UInt8]
  let byteCount: UInt64?
  private var offset = 0
  private var random: SeededGenerator
  /// Gives no more than these, then fails.
  var failsAfter: Int?
  /// Ends after these, whatever `byteCount` says.
  var endsAfter: Int?
  var canRewind = true
  /// Before each read.
  var pause: (@Sendable () async -> Void)?

  init(_ bytes: [UInt8], isSized: Bool = true, seed: UInt64 = 1) {
    self.bytes = bytes
    byteCount = isSized ? UInt64(bytes.count) : nil
    random = SeededGenerator(seed: seed)
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    await pause?()
    if let failsAfter, offset >= failsAfter { throw .source("vanished") }
    let end = min(bytes.count, failsAfter ?? .max, endsAfter ?? .max)
    let most = random.next() % 4 == 0 ? Int(random.next() % 5000) + 1 : slice.count
    let count = min(most, slice.count, end - offset)
    slice[0..<count].withMutableBytes { $0.copyBytes(from: bytes[offset..<offset + count]) }
    offset += count
    return count
  }

  func rewind() -> Bool {
    guard canRewind else { return false }
    offset = 0
    return true
  }
}

/// Collects what is written and checks that nothing is written twice.
final class TestSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  let isOrdered: Bool
  private let first: UInt64
  private(set) var bytes: [UInt8]
  private var written: [Range<Int>] = []
  private(set) var problems: [String] = []
  private var next: UInt64
  private var isWriting = false
  private let driver: any Driver
  var failsAfter: Int?

  init(_ range: Range<UInt64>, isOrdered: Bool, driver: any Driver) {
    self.isOrdered = isOrdered
    self.driver = driver
    first = range.lowerBound
    next = first
    bytes = [UInt8](repeating: 0, count: range.count)
  }

  var writtenCount: Int { written.reduce(0) { $0 + $1.count } }
  var isComplete: Bool { written.reduce(0) { $0 + $1.count } == bytes.count }

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    if isOrdered && (offset != next || isWriting) { problems.append("out of order at \(offset)") }
    isWriting = true
    await driver.sleep(.microseconds(Int64(driver.random() % 300)))
    isWriting = false
    if let failsAfter, offset - first >= UInt64(failsAfter) { throw .sink("disk full") }
    var place = Int(offset - first)
    for slice in slices {
      let part = slice.array
      guard place + part.count <= bytes.count else {
        problems.append("past the end")
        return
      }
      let range = place..<place + part.count
      if written.contains(where: { $0.overlaps(range) }) { problems.append("twice at \(place)") }
      written.append(range)
      bytes.replaceSubrange(range, with: part)
      place += part.count
    }
    next = offset + UInt64(place) - (offset - first)
  }
}
