package import Cluster
internal import Glibc
package import Ring

/// The `identity` file of a device directory, 64 bytes, little-endian:
///
///     offset  bytes
///          0      8  "CAIRNDEV"
///          8      4  version: 1
///         16      8  device id
///         24      8  node id
///         32      8  cluster id, 0 until the node has met its cluster
///         60      4  CRC32C of bytes 0 ..< 60
///
/// The version is that of the whole directory: volumes, index, everything.
struct DeviceIdentity: Equatable, Sendable {
  var device: DeviceID
  var node: NodeID
  /// 0: none yet.
  var cluster: UInt64

  static let version: UInt32 = 1
  static let byteCount = 64
  private static let magic: UInt64 = 0x5645_444E_5249_4143  // "CAIRNDEV"

  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: Self.byteCount)
    bytes.withUnsafeMutableBytes { bytes in
      bytes.put(Self.magic, at: 0)
      bytes.put(Self.version, at: 8)
      bytes.put(device.raw, at: 16)
      bytes.put(node.raw, at: 24)
      bytes.put(cluster, at: 32)
      bytes.seal()
    }
    return bytes
  }

  /// Reads and checks `path`/identity.
  static func load(_ path: String, on driver: any Driver) async throws(StoreError) -> DeviceIdentity
  {
    let bytes: [UInt8]
    do {
      bytes = try await driver.readFile(path + "/identity", limit: 4096)
    } catch {
      throw error.errno == ENOENT || error.errno == ENOTDIR
        ? .notFormatted(path: path) : .system(error)
    }
    return try parse(bytes, path: path)
  }

  /// Throws `foreign` unless the device is `node`'s and of `cluster`, where both know one.
  func check(node: NodeID, cluster: UInt64?, path: String) throws(StoreError) {
    guard self.node == node else {
      throw .foreign("\(path) belongs to node \(self.node), not \(node)")
    }
    if let cluster, cluster != 0, self.cluster != 0, self.cluster != cluster {
      throw .foreign("\(path) belongs to cluster \(hex(self.cluster)), not \(hex(cluster))")
    }
  }

  static func parse(_ bytes: [UInt8], path: String) throws(StoreError) -> DeviceIdentity {
    guard bytes.count >= byteCount else { throw .identityDamaged(path: path) }
    let (isWhole, version, identity) = bytes.withUnsafeBytes { all in
      let bytes = UnsafeRawBufferPointer(rebasing: all[0..<byteCount])
      return (
        bytes.integer(at: 0, UInt64.self) == magic && bytes.isSealed,
        bytes.integer(at: 8, UInt32.self),
        DeviceIdentity(
          device: DeviceID(bytes.integer(at: 16)), node: NodeID(bytes.integer(at: 24)),
          cluster: bytes.integer(at: 32))
      )
    }
    guard isWhole else { throw .identityDamaged(path: path) }
    guard version == Self.version else { throw .newerFormat(path: path, version: version) }
    guard bytes.count == byteCount else { throw .identityDamaged(path: path) }
    return identity
  }
}

extension ShardStore {
  /// Makes `path` a device of `node`: the directories and, last, the identity. Interrupted before that, it may be
  /// called again.
  ///
  /// - Parameter cluster: 0 when not known yet; see ``adopt(cluster:)``.
  package static func format(
    _ path: String, node: NodeID, cluster: UInt64, on driver: any Driver
  ) async throws(StoreError) -> DeviceID {
    do {
      try await driver.makeDirectories(path, mode: 0o700)
      guard await !driver.exists(path + "/identity") else {
        throw StoreError.alreadyFormatted(path: path)
      }
      try await driver.makeDirectories(path + "/volumes", mode: 0o700)
      try await driver.makeDirectories(path + "/index", mode: 0o700)
      // Volumes left here would be taken for ours: they belong to a device whose identity is lost.
      guard try await driver.list(path + "/volumes").isEmpty else {
        throw StoreError.alreadyFormatted(path: path)
      }
      // The identity says that the rest is there, so the rest must not be lost to a power cut that keeps it.
      try await driver.synchronizeDirectory(path)
      let identity = DeviceIdentity(
        device: DeviceID(driver.random()), node: node, cluster: cluster)
      try await driver.replaceFile(path + "/identity", with: identity.encoded)
      // Directories above may be new too.
      var above = path
      while above != "/", let cut = above.lastIndex(of: "/") {
        above = cut == above.startIndex ? "/" : String(above[..<cut])
        try await driver.synchronizeDirectory(above)
      }
      return identity.device
    } catch let error as StoreError {
      throw error
    } catch let error as RingError {
      throw .system(error)
    } catch {
      preconditionFailure("\(error)")
    }
  }

  /// Whether `path` holds a device, of whatever node.
  package static func isFormatted(_ path: String, on driver: any Driver) async throws(StoreError)
    -> Bool
  {
    do throws(RingError) {
      _ = try await driver.status(path + "/identity")
      return true
    } catch {
      // A device that cannot be asked is not an empty one.
      guard error.errno == ENOENT || error.errno == ENOTDIR else { throw .system(error) }
      return false
    }
  }

  /// Which device `path` holds.
  package static func identify(_ path: String, on driver: any Driver) async throws(StoreError)
    -> DeviceID
  {
    try await DeviceIdentity.load(path, on: driver).device
  }

  /// Writes the cluster's id into a device that has none yet. The same id again changes nothing.
  package func adopt(cluster: UInt64) async throws(StoreError) {
    guard identity.cluster != cluster else { return }
    guard identity.cluster == 0 else {
      throw .foreign("\(path) belongs to cluster \(hex(identity.cluster)), not \(hex(cluster))")
    }
    var changed = identity
    changed.cluster = cluster
    do {
      try await driver.replaceFile(path + "/identity", with: changed.encoded)
    } catch {
      throw .system(error)
    }
    identity = changed
  }
}

/// 16 lower-case digits.
func hex(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}
