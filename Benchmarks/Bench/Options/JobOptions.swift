/// What a job does, in fio's words. Defaults are fio's where fio has one.
package struct JobOptions: Sendable {
  package enum Direction: Int, Sendable, CaseIterable {
    case read, write
    package var name: String { self == .read ? "read" : "write" }
  }

  package enum Pattern: String, Sendable, CaseIterable {
    case read, write, randread, randwrite, rw, randrw
    var isRandom: Bool { self == .randread || self == .randwrite || self == .randrw }
    var reads: Bool { self != .write && self != .randwrite }
    var writes: Bool { self != .read && self != .randread }
    var isMixed: Bool { reads && writes }
  }

  package enum Verification: String, Sendable {
    case none = "0"
    case crc32c
  }

  package enum NetProtocol: String, Sendable, CaseIterable {
    /// Bytes on connections of Ring alone.
    case tcp
    /// Calls of Wire between peers that proved a key.
    case wire
  }

  package var name = ""
  package var pattern = Pattern.read
  package var readPercent = 50
  package var readSizes = BlockSizes(4096)
  package var writeSizes = BlockSizes(4096)
  package var depth = 1
  package var jobCount = 1
  /// Of the file, and so of what one pass moves; nil when it was not said.
  package var byteCount: UInt64?
  package var offset: UInt64 = 0
  package var runtime: Duration?
  package var isTimeBased = false
  package var rampTime = Duration.zero
  package var isDirect = false
  /// Writes after which a sync is due; 0 for never.
  package var syncEvery = 0
  package var dataSyncEvery = 0
  /// Bytes a second; nil for as fast as it goes.
  package var readRate: UInt64?
  package var writeRate: UInt64?
  package var verification = Verification.none
  package var filename: String?
  package var directory: String?
  package var randomSeed: UInt64 = 1
  /// Offsets are drawn independently; else each block once before any comes again.
  package var repeatsBlocks = false
  package var isGroupReported = false
  /// Begins when the jobs before it have ended.
  package var waitsForOthers = false
  /// What bench made is removed afterwards; nil for the engine's own way.
  package var unlinks: Bool?
  package var overwritesExistingData = false
  // Engines of our own.
  package var netProtocol = NetProtocol.tcp
  package var configuration: String?
  /// "http://HOST:PORT" of a gateway that runs.
  package var endpoint: String?
  package var scheme = "1+0"
  package var nodeCount: Int?

  /// Options as they were given, for the report.
  package var given: [(key: String, value: String)] = []

  package init() {}

  package func sizes(_ direction: Direction) -> BlockSizes {
    direction == .read ? readSizes : writeSizes
  }
  package func rate(_ direction: Direction) -> UInt64? {
    direction == .read ? readRate : writeRate
  }
}
