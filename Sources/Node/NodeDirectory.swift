internal import Cluster
internal import Coding
internal import Ring
internal import Wire

/// Who this node is: `identity` in its directory.
///
///     8 bytes  "CAIRNNOD"
///     4 bytes  version of the directory's format: 1
///     8 bytes  node id
///     8 bytes  cluster id, 0 until the node has met its cluster
///     varint   length of the name, then the name: the operator's, as configured when the directory was made
///     4 bytes  CRC32C of all before
struct NodeIdentity: Equatable, Sendable {
  var node: NodeID
  var cluster: UInt64
  var name: String

  static let version: UInt32 = 1
  private static let magic: UInt64 = 0x444F_4E4E_5249_4143  // "CAIRNNOD"

  var encoded: [UInt8] {
    var writer = ByteWriter()
    writer.fixed(Self.magic)
    writer.fixed(Self.version)
    writer.value(node)
    writer.fixed(cluster)
    writer.string(name)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  static func parse(_ bytes: [UInt8], path: String) throws(NodeError) -> NodeIdentity {
    let damaged = NodeError.identityDamaged(path: path)
    guard bytes.count >= 16 else { throw damaged }
    var reader = ByteReader(bytes[0..<bytes.count - 4])
    var tail = ByteReader(bytes[(bytes.count - 4)...])
    let version: UInt32
    let identity: NodeIdentity
    do throws(ValueError) {
      guard try tail.fixed(UInt32.self) == CRC32C.checksum(Array(bytes[0..<bytes.count - 4])),
        try reader.fixed(UInt64.self) == magic
      else { throw .invalid("identity") }
      version = try reader.fixed()
      if version == Self.version {
        identity = NodeIdentity(
          node: try reader.value(), cluster: try reader.fixed(), name: try reader.string())
        try reader.finish()
        return identity
      }
    } catch {
      throw damaged
    }
    throw .newerFormat(path: path, version: version)
  }
}

/// The node's own directory: `identity`, `lock`, `devices` and `lease`. Loop-confined.
final class NodeDirectory: @unchecked Sendable {
  let path: String
  private let driver: any Driver
  private let lockFile: File
  private(set) var identity: NodeIdentity
  private(set) var ledger: DeviceLedger
  private var savedLedger: DeviceLedger
  private let ledgerTurn = Semaphore(1)

  private init(
    path: String, driver: any Driver, lockFile: File, identity: NodeIdentity, ledger: DeviceLedger
  ) {
    self.path = path
    self.driver = driver
    self.lockFile = lockFile
    self.identity = identity
    self.ledger = ledger
    savedLedger = ledger
  }

  /// Opens the directory, or makes it for a new node of this name.
  ///
  /// - Throws: `inUse`; `foreign` when it was made for a node of another name; `newerFormat`, `identityDamaged`,
  ///   `ledgerDamaged`.
  static func open(_ path: String, name: String, on driver: any Driver) async throws(NodeError)
    -> NodeDirectory
  {
    do throws(RingError) {
      try await driver.makeDirectories(path, mode: 0o700)
    } catch {
      throw .system(error)
    }
    let lockFile: File
    let isOurs: Bool
    do throws(RingError) {
      lockFile = try await File.open(
        path + "/lock", OpenFlags.readWrite | OpenFlags.create, mode: 0o600, on: driver)
    } catch {
      throw .system(error)
    }
    do throws(RingError) { isOurs = try await lockFile.lock() } catch {
      await lockFile.close()
      throw .system(error)
    }
    guard isOurs else {
      await lockFile.close()
      throw .inUse(path: path)
    }
    do throws(NodeError) {
      // A process that was killed may have left names that are not durable, and from here on we go by what they say.
      do throws(RingError) { try await driver.synchronizeDirectory(path) } catch {
        throw .system(error)
      }
      let identity = try await load(path, name: name, on: driver)
      let ledger = try await loadLedger(path, on: driver)
      return NodeDirectory(
        path: path, driver: driver, lockFile: lockFile, identity: identity, ledger: ledger)
    } catch {
      await lockFile.close()
      throw error
    }
  }

  private static func load(_ path: String, name: String, on driver: any Driver)
    async throws(NodeError) -> NodeIdentity
  {
    let file = path + "/identity"
    var found: [UInt8]?
    do throws(RingError) { found = try await driver.readFile(file, limit: 4096) } catch {
      guard error.errno == Errno.noEntry else { throw .system(error) }
    }
    if let found {
      let identity = try NodeIdentity.parse(found, path: file)
      guard identity.name == name else {
        throw .foreign("\(path) belongs to node \(identity.name), not \(name)")
      }
      return identity
    }
    let fresh = NodeIdentity(node: NodeID(driver.random()), cluster: 0, name: name)
    do throws(RingError) {
      try await driver.replaceFile(file, with: fresh.encoded)
      var above = path
      while above != "/", let cut = above.lastIndex(of: "/") {
        above = cut == above.startIndex ? "/" : String(above[..<cut])
        try await driver.synchronizeDirectory(above)
      }
    } catch {
      throw .system(error)
    }
    return fresh
  }

  /// A directory from before there was a ledger knows of no device, like a new one.
  private static func loadLedger(_ path: String, on driver: any Driver) async throws(NodeError)
    -> DeviceLedger
  {
    let bytes: [UInt8]
    do throws(RingError) { bytes = try await driver.readFile(path + "/devices") } catch {
      if error.errno == Errno.noEntry { return DeviceLedger() }
      throw .system(error)
    }
    return try DeviceLedger.parse(bytes, path: path + "/devices")
  }

  /// Changes the ledger, durably; in memory in any case.
  func note(_ change: (inout DeviceLedger) -> Void) async throws(RingError) {
    change(&ledger)
    await ledgerTurn.acquire()
    defer { ledgerTurn.release() }
    let next = ledger
    guard next != savedLedger else { return }
    try await driver.replaceFile(path + "/devices", with: next.encoded)
    savedLedger = next
  }

  /// A device's path as the ledger has it: a node's directory may be moved with the devices in it.
  func ledgerPath(_ device: String) -> String {
    device.hasPrefix(path + "/") ? String(device.dropFirst(path.utf8.count + 1)) : device
  }

  /// Notes for ever which cluster the node belongs to.
  func adopt(cluster: UInt64) async throws(RingError) {
    precondition(identity.cluster == 0 || identity.cluster == cluster)
    guard identity.cluster != cluster else { return }
    var changed = identity
    changed.cluster = cluster
    try await driver.replaceFile(path + "/identity", with: changed.encoded)
    identity = changed
  }

  func close() async { await lockFile.close() }
}
