internal import Cluster
internal import Coding
internal import Messages
internal import Ring
internal import Wire

/// What a node remembers of leaders: the highest epoch and the newest root record it was shown. The file `lease`, the
/// same in the node's directory and in each device's:
///
///     8 bytes  "CAIRNLSE"
///     4 bytes  version: 1
///     8 bytes  node id
///     varints  epoch; root version
///     varint   length of the root, then the root
///     4 bytes  CRC32C of all before
struct LeaseRecord: Equatable, Sendable {
  var node: NodeID
  var epoch: UInt64 = 0
  var rootVersion: UInt64 = 0
  var root: [UInt8] = []

  private static let magic: UInt64 = 0x4553_4C4E_5249_4143  // "CAIRNLSE"
  private static let version: UInt32 = 1

  init(node: NodeID) { self.node = node }

  var encoded: [UInt8] {
    var writer = ByteWriter(reserving: 64 + root.count)
    writer.fixed(Self.magic)
    writer.fixed(Self.version)
    writer.value(node)
    writer.varint(epoch)
    writer.varint(rootVersion)
    writer.blob(root)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  /// Nil when the bytes are damaged.
  init?(decoding bytes: [UInt8]) {
    guard bytes.count >= 24 else { return nil }
    var reader = ByteReader(bytes[0..<bytes.count - 4])
    var tail = ByteReader(bytes[(bytes.count - 4)...])
    do throws(ValueError) {
      guard try tail.fixed(UInt32.self) == CRC32C.checksum(Array(bytes[0..<bytes.count - 4])),
        try reader.fixed(UInt64.self) == Self.magic, try reader.fixed(UInt32.self) == Self.version
      else { return nil }
      node = try reader.value()
      epoch = try reader.varint()
      rootVersion = try reader.varint()
      root = try reader.blob()
      try reader.finish()
    } catch {
      return nil
    }
  }
}

/// Keeps the lease record on stable storage. Loop-confined.
final class LeaseKeeper: @unchecked Sendable {
  private let driver: any Driver
  /// Where copies are kept: the node's directory first.
  private var directories: [String]
  private let turn = Semaphore(1)
  private(set) var record: LeaseRecord
  /// Whether the node's own directory surely has it. At first it may have been read under a name that was not synced yet
  /// when the process before was killed, or from a device's copy alone.
  private var isSaved = false
  /// Who said last that it leads, and until when it may.
  private(set) var holder = ""
  private(set) var holderUntil = Duration.zero

  private init(driver: any Driver, directories: [String], record: LeaseRecord) {
    self.driver = driver
    self.directories = directories
    self.record = record
  }

  /// Reads the newest copy: the highest epoch and the newest root that any whole copy of this node names.
  ///
  /// - Returns: the keeper, and the paths of copies that are damaged or cannot be read.
  static func open(_ directories: [String], node: NodeID, on driver: any Driver) async
    -> (keeper: LeaseKeeper, damaged: [String])
  {
    var newest = LeaseRecord(node: node)
    var damaged: [String] = []
    for directory in directories {
      if await !take(copyIn: directory, into: &newest, on: driver) {
        damaged.append(directory + "/lease")
      }
    }
    return (LeaseKeeper(driver: driver, directories: directories, record: newest), damaged)
  }

  /// - Returns: false when the copy is damaged or cannot be read.
  private static func take(
    copyIn directory: String, into newest: inout LeaseRecord, on driver: any Driver
  ) async -> Bool {
    let bytes: [UInt8]
    do throws(RingError) { bytes = try await driver.readFile(directory + "/lease") } catch {
      // A copy that cannot be read is not one that was never made.
      return error.errno == Errno.noEntry
    }
    guard let found = LeaseRecord(decoding: bytes), found.node == newest.node else { return false }
    newest.epoch = max(newest.epoch, found.epoch)
    if found.rootVersion > newest.rootVersion {
      newest.rootVersion = found.rootVersion
      newest.root = found.root
    }
    return true
  }

  /// A device that was opened later has a copy too.
  ///
  /// - Returns: false when it is damaged or cannot be read.
  func add(_ directory: String) async -> Bool {
    await turn.acquire()
    defer { turn.release() }
    var newest = record
    let isWhole = await Self.take(copyIn: directory, into: &newest, on: driver)
    if newest != record {
      record = newest
      isSaved = false
    }
    directories.append(directory)
    return isWhole
  }

  /// Accepts a leader's claim, durably, unless a higher epoch was seen here or, says `floor`, by a device.
  ///
  /// Whoever is told that this node belongs to no cluster may rely on it that no lower epoch will make it join one: it
  /// joins in the same turn in which the epoch was compared. And who has joined keeps the root: it is saved before.
  ///
  /// - Parameters:
  ///   - cluster: the one this node belongs to at the time.
  ///   - join: has it belong to the call's, durably.
  func hold(
    _ call: HoldLease, floor: () -> UInt64, cluster: () -> UInt64,
    join: (UInt64) async throws(Refusal) -> Void
  ) async throws(Refusal) -> HoldLease.Answer {
    await turn.acquire()
    defer { turn.release() }
    let highest = max(record.epoch, floor())
    guard call.epoch >= highest else { throw Refusal(.staleEpoch, "\(highest)") }
    let own = cluster()
    guard own == 0 || own == call.clusterID || (call.clusterID == 0 && call.root.isEmpty) else {
      throw Refusal(.failed, "this node belongs to another cluster")
    }
    var next = record
    next.epoch = call.epoch
    if call.rootVersion > next.rootVersion {
      next.rootVersion = call.rootVersion
      next.root = call.root
    }
    if next != record || !isSaved { try await save(next) }
    if call.clusterID != 0 { try await join(call.clusterID) }
    holder = call.holder
    holderUntil = driver.now + .milliseconds(Int(call.leaseMilliseconds))
    return HoldLease.Answer(
      clusterID: cluster(), highestEpoch: record.epoch, rootVersion: record.rootVersion,
      root: record.root)
  }

  /// Durable once the first directory, the node's own, has it; the copies in the devices' are for its loss.
  private func save(_ next: LeaseRecord) async throws(Refusal) {
    let bytes = next.encoded
    for (index, directory) in directories.enumerated() {
      do throws(RingError) {
        try await driver.replaceFile(directory + "/lease", with: bytes)
      } catch {
        if index == 0 {
          isSaved = false
          throw Refusal(.failed, "cannot keep the lease: \(error)")
        }
      }
      // A failed replacement may have happened: never answer with less than what may be on disk.
      if index == 0 {
        record = next
        isSaved = true
      }
    }
  }
}
