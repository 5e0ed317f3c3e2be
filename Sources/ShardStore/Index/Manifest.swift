internal import Cluster
internal import Coding
internal import Glibc
internal import Ring
internal import Wire

/// What the runs cover: `index/manifest`, replaced as a whole. Without it, or when anything in it does not hold, the
/// index is made anew from the volumes.
///
///     8 bytes  "CAIRNIDX"
///     4 bytes  version: 1
///     8 bytes  device id
///     varints  covered sequence; next sequence; next volume number; next run number; highest leader epoch
///     varint   runs, newest first; each: number (varint), entries (varint)
///     varint   volumes, ascending by number; each: number (varint), id (8 bytes), complete (1 byte), then the
///              tally as varints: end, first sequence, last sequence, cut, live blocks, live bytes, live link bytes,
///              dead blocks, punched bytes, delete records, epoch
///     4 bytes  CRC32C of all before
struct Manifest: Equatable, Sendable {
  struct RunLine: Equatable, Sendable, WireValue {
    var number: UInt32
    var entryCount: UInt64

    init(number: UInt32, entryCount: UInt64) {
      self.number = number
      self.entryCount = entryCount
    }
    func encode(into writer: inout ByteWriter) {
      writer.varint(number)
      writer.varint(entryCount)
    }
    init(from reader: inout ByteReader) throws(ValueError) {
      number = try reader.varint32()
      entryCount = try reader.varint()
    }
  }

  struct VolumeLine: Equatable, Sendable, WireValue {
    var number: UInt32
    var id: UInt64
    /// Sealed, and every record of it is covered: recovery need not read it.
    var isComplete: Bool
    var tally: VolumeTally

    init(number: UInt32, id: UInt64, isComplete: Bool, tally: VolumeTally) {
      self.number = number
      self.id = id
      self.isComplete = isComplete
      self.tally = tally
    }
    func encode(into writer: inout ByteWriter) {
      writer.varint(number)
      writer.fixed(id)
      writer.bool(isComplete)
      for value in [
        tally.end, tally.firstSequence, tally.lastSequence, tally.cut, tally.liveBlockCount,
        tally.liveByteCount, tally.liveLinkByteCount, tally.deadBlockCount, tally.punchedByteCount,
        tally.deleteRecordCount, tally.epoch,
      ] { writer.varint(value) }
    }
    init(from reader: inout ByteReader) throws(ValueError) {
      number = try reader.varint32()
      id = try reader.fixed()
      isComplete = try reader.bool()
      tally = VolumeTally()
      tally.end = try reader.varint()
      tally.firstSequence = try reader.varint()
      tally.lastSequence = try reader.varint()
      tally.cut = try reader.varint()
      tally.liveBlockCount = try reader.varint()
      tally.liveByteCount = try reader.varint()
      tally.liveLinkByteCount = try reader.varint()
      tally.deadBlockCount = try reader.varint()
      tally.punchedByteCount = try reader.varint()
      tally.deleteRecordCount = try reader.varint()
      tally.epoch = try reader.varint()
      guard tally.end >= 4096, tally.end.isMultiple(of: 4096), tally.end < 1 << 44 else {
        throw .invalid("volume end")
      }
      // Sums and products of these must not overflow, whatever wrote them.
      let blockLimit = tally.end / 4096
      guard max(tally.liveByteCount, tally.liveLinkByteCount, tally.punchedByteCount) <= tally.end,
        max(tally.liveBlockCount, tally.deadBlockCount, tally.deleteRecordCount) <= blockLimit,
        max(tally.firstSequence, tally.lastSequence, tally.cut) < sequenceLimit
      else { throw .invalid("volume tally") }
    }
  }

  var device: DeviceID
  /// Every record up to this one is in the runs.
  var coveredSequence: UInt64 = 0
  /// No record at or above this had been made.
  var nextSequence: UInt64 = 1
  var nextVolume: UInt32 = 1
  var nextRun: UInt32 = 1
  var highestEpoch: UInt64 = 0
  var runs: [RunLine] = []
  var volumes: [VolumeLine] = []

  private static let magic: UInt64 = 0x5844_494E_5249_4143  // "CAIRNIDX"
  private static let version: UInt32 = 1

  init(device: DeviceID) { self.device = device }

  var encoded: [UInt8] {
    var writer = ByteWriter(reserving: 64 + volumes.count * 64)
    writer.fixed(Self.magic)
    writer.fixed(Self.version)
    writer.value(device)
    writer.varint(coveredSequence)
    writer.varint(nextSequence)
    writer.varint(nextVolume)
    writer.varint(nextRun)
    writer.varint(highestEpoch)
    writer.list(runs)
    writer.list(volumes)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  init(decoding bytes: [UInt8]) throws(IndexDamage) {
    let damage = IndexDamage(what: "index/manifest is damaged")
    guard bytes.count >= 24 else { throw damage }
    var reader = ByteReader(bytes[0..<bytes.count - 4])
    var tail = ByteReader(bytes[(bytes.count - 4)...])
    do {
      guard try tail.fixed(UInt32.self) == CRC32C.checksum(Array(bytes[0..<bytes.count - 4])),
        try reader.fixed(UInt64.self) == Self.magic, try reader.fixed(UInt32.self) == Self.version
      else { throw damage }
      device = try reader.value()
      coveredSequence = try reader.varint()
      nextSequence = try reader.varint()
      nextVolume = try reader.varint32()
      nextRun = try reader.varint32()
      highestEpoch = try reader.varint()
      runs = try reader.list()
      volumes = try reader.list()
      try reader.finish()
      guard max(coveredSequence, nextSequence) < sequenceLimit, max(nextVolume, nextRun) < 1 << 31
      else { throw damage }
    } catch {
      throw damage
    }
  }

  /// Nil when there is none.
  static func load(_ path: String, device: DeviceID, on driver: any Driver)
    async throws(IndexDamage) -> Manifest?
  {
    let bytes: [UInt8]
    do {
      bytes = try await driver.readFile(path + "/index/manifest", limit: 256 << 20)
    } catch {
      if error.errno == ENOENT { return nil }
      throw IndexDamage(what: "\(error)")
    }
    let manifest = try Manifest(decoding: bytes)
    guard manifest.device == device else {
      throw IndexDamage(what: "index/manifest belongs to \(manifest.device)")
    }
    return manifest
  }
}
