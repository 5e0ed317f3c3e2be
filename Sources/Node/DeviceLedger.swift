internal import Cluster
internal import Coding
internal import Ring
internal import Wire

/// Which device stood at which path, and which of them failed: `devices` in the node's directory. With it an empty path
/// is told from a file system that is not mounted, and a failure is remembered that the device itself could not note.
///
///     8 bytes  "CAIRNDVS"
///     4 bytes  version: 1
///     varint   number of devices, then each, ascending by path:
///                path (string; below the node's directory relative to it), device id (8 bytes), why it is retired
///                (string; empty: it is not)
///     4 bytes  CRC32C of all before
struct DeviceLedger: Equatable, Sendable {
  struct Line: Equatable, Sendable, WireValue {
    var path: String
    var device: DeviceID
    var retired: String

    init(path: String, device: DeviceID, retired: String) {
      self.path = path
      self.device = device
      self.retired = retired
    }
    func encode(into writer: inout ByteWriter) {
      writer.string(path)
      writer.value(device)
      writer.string(retired)
    }
    init(from reader: inout ByteReader) throws(ValueError) {
      path = try reader.string()
      device = try reader.value()
      retired = try reader.string()
    }
  }

  private(set) var lines: [Line] = []

  static let version: UInt32 = 1
  private static let magic: UInt64 = 0x5356_444E_5249_4143  // "CAIRNDVS"

  subscript(path: String) -> Line? { lines.first { $0.path == path } }

  /// Why the device is retired, if it is.
  func retired(_ device: DeviceID) -> String? {
    lines.first { $0.device == device && !$0.retired.isEmpty }?.retired
  }

  /// Notes that `device` stands at `path`, and nowhere else.
  mutating func place(_ device: DeviceID, at path: String) {
    let known = retired(device) ?? ""
    lines.removeAll { $0.path == path || $0.device == device }
    lines.append(Line(path: path, device: device, retired: known))
    lines.sort { $0.path < $1.path }
  }

  mutating func retire(_ device: DeviceID, _ reason: String) {
    for index in lines.indices where lines[index].device == device && lines[index].retired.isEmpty {
      lines[index].retired = reason.isEmpty ? "failed" : String(reason.prefix(1024))
    }
  }

  init() {}

  var encoded: [UInt8] {
    var writer = ByteWriter()
    writer.fixed(Self.magic)
    writer.fixed(Self.version)
    writer.list(lines)
    writer.fixed(CRC32C.checksum(writer.bytes))
    return writer.bytes
  }

  static func parse(_ bytes: [UInt8], path: String) throws(NodeError) -> DeviceLedger {
    guard bytes.count >= 16 else { throw .ledgerDamaged(path: path) }
    var reader = ByteReader(bytes[0..<bytes.count - 4])
    var tail = ByteReader(bytes[(bytes.count - 4)...])
    let version: UInt32
    do throws(ValueError) {
      guard try tail.fixed(UInt32.self) == CRC32C.checksum(Array(bytes[0..<bytes.count - 4])),
        try reader.fixed(UInt64.self) == magic
      else { throw .invalid("devices") }
      version = try reader.fixed()
      if version == Self.version {
        var ledger = DeviceLedger()
        ledger.lines = try reader.list()
        try reader.finish()
        return ledger
      }
    } catch {
      throw .ledgerDamaged(path: path)
    }
    throw .newerFormat(path: path, version: version)
  }
}
