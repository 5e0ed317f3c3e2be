internal import Cluster
internal import Coding
internal import Ring
internal import Wire

/// How far the scrub is, and which blocks are known to be wrong: `scrub` in the device's directory, replaced as a whole now
/// and then. It is a note, never the truth: without it the round begins anew, and the blocks it names are read before they
/// are believed to be wrong.
///
///     8 bytes  "CAIRNSCR"
///     4 bytes  version: 1
///     8 bytes  device id
///     varints  last round begun; last round ended; when they began and ended, milliseconds since 1970; volume and unit of
///              4 KiB where the round goes on; last volume of the round; bytes read in it, bytes to read; blocks found
///              damaged in it, and in all
///     list     damaged blocks (block key)
///     list     suspected blocks (block key)
///     4 bytes  CRC32C of all before
struct ScrubNote: Equatable, Sendable {
  var device: DeviceID
  /// Number of the last round that began, from 1; 0 while there was none.
  var round: UInt64 = 0
  /// Of the last round that read everything.
  var finishedRound: UInt64 = 0
  /// By the wall clock.
  var beganMilliseconds: UInt64 = 0
  var finishedMilliseconds: UInt64 = 0
  /// What lies before is read.
  var volume: UInt32 = 0
  var unit: UInt32 = 0
  /// Volumes made later are for the next round.
  var lastVolume: UInt32 = 0
  var doneByteCount: UInt64 = 0
  var totalByteCount: UInt64 = 0
  var foundInRound: UInt64 = 0
  var foundInAll: UInt64 = 0
  var damaged: [BlockKey] = []
  var suspected: [BlockKey] = []

  var isRunning: Bool { round > finishedRound }

  static let name = "/scrub"
  private static let magic: UInt64 = 0x5243_534E_5249_4143  // "CAIRNSCR"
  private static let version: UInt32 = 1

  init(device: DeviceID) { self.device = device }

  var encoded: [UInt8] {
    var writer = ByteWriter(reserving: 128 + 32 * (damaged.count + suspected.count))
    writer.fixed(Self.magic)
    writer.fixed(Self.version)
    writer.value(device)
    for value in [round, finishedRound, beganMilliseconds, finishedMilliseconds] {
      writer.varint(value)
    }
    for value in [volume, unit, lastVolume] { writer.varint(value) }
    for value in [doneByteCount, totalByteCount, foundInRound, foundInAll] {
      writer.varint(value)
    }
    writer.list(damaged)
    writer.list(suspected)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  /// Nil when the bytes are no note of this device.
  init?(decoding bytes: [UInt8], device: DeviceID) {
    guard bytes.count >= 24 else { return nil }
    var reader = ByteReader(bytes[0..<bytes.count - 4])
    var tail = ByteReader(bytes[(bytes.count - 4)...])
    do throws(ValueError) {
      guard try tail.fixed(UInt32.self) == CRC32C.checksum(Array(bytes[0..<bytes.count - 4])),
        try reader.fixed(UInt64.self) == Self.magic, try reader.fixed(UInt32.self) == Self.version,
        try reader.value(DeviceID.self) == device
      else { return nil }
      self.device = device
      round = try reader.varint()
      finishedRound = try reader.varint()
      beganMilliseconds = try reader.varint()
      finishedMilliseconds = try reader.varint()
      volume = try reader.varint32()
      unit = try reader.varint32()
      lastVolume = try reader.varint32()
      doneByteCount = try reader.varint()
      totalByteCount = try reader.varint()
      foundInRound = try reader.varint()
      foundInAll = try reader.varint()
      damaged = try reader.list(limit: DamagedBlocks.limit)
      suspected = try reader.list(limit: DamagedBlocks.limit)
      try reader.finish()
    } catch {
      return nil
    }
    // Sums of these must not overflow, whatever wrote them.
    guard finishedRound <= round,
      [round, beganMilliseconds, finishedMilliseconds, doneByteCount, totalByteCount, foundInAll]
        .allSatisfy({ $0 < sequenceLimit }), foundInRound <= foundInAll
    else { return nil }
  }
}

/// How the scrub of a device stands.
package struct ScrubState: Equatable, Sendable {
  /// Number of the last round that began, from 1; 0: none did.
  package var round: UInt64
  /// Of the last round that read everything; below `round` while one is under way.
  package var finishedRound: UInt64
  /// Milliseconds since 1970, by the node's clock: when `round` began and when `finishedRound` ended.
  package var beganMilliseconds: UInt64
  package var finishedMilliseconds: UInt64
  /// Of `round`: bytes read, headers included, and what lived when it began.
  package var doneByteCount: UInt64
  package var totalByteCount: UInt64
  /// Blocks found damaged in `round`, and in all rounds of this device.
  package var foundInRound: UInt64
  package var foundInAll: UInt64

  package var isRunning: Bool { round > finishedRound }
}
