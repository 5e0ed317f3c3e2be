internal import Cluster
internal import Glibc
internal import Ring

/// A preallocated file to which records are appended: `volumes/NNNNNNNN-IIIIIIIIIIIIIIII`, number and id in
/// hexadecimal. Its first 4 KiB, little-endian, what is not named is zero:
///
///     offset  bytes
///          0      8  "CAIRNVOL"
///          8      4  version: 1
///         12      4  number: rises from volume to volume of a device, never reused
///         16      8  volume id, random
///         24      8  device id
///         32      8  bytes of the file when it was made
///       4092      4  CRC32C of bytes 0 ..< 4092
///
/// Records (``RecordHeader``) follow without gaps. Each belongs here by volume id and own offset, so the header is
/// needed for nothing but to tell a foreign file; the name alone is enough when it is damaged.
struct VolumeHeader: Equatable, Sendable {
  var number: UInt32
  var id: UInt64
  var device: DeviceID
  var byteCount: UInt64

  static let byteCount = 4096
  static let version: UInt32 = 1
  private static let magic: UInt64 = 0x4C4F_564E_5249_4143  // "CAIRNVOL"

  func encode(into bytes: UnsafeMutableRawBufferPointer) {
    precondition(bytes.count == Self.byteCount)
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    bytes.put(Self.magic, at: 0)
    bytes.put(Self.version, at: 8)
    bytes.put(number, at: 12)
    bytes.put(id, at: 16)
    bytes.put(device.raw, at: 24)
    bytes.put(byteCount, at: 32)
    bytes.seal()
  }

  enum Parsed {
    case damaged
    case newer(version: UInt32)
    case header(VolumeHeader)
  }

  static func parse(_ bytes: UnsafeRawBufferPointer) -> Parsed {
    guard bytes.count >= byteCount else { return .damaged }
    let bytes = UnsafeRawBufferPointer(rebasing: bytes[0..<byteCount])
    guard bytes.integer(at: 0, UInt64.self) == magic, bytes.isSealed else { return .damaged }
    let version = bytes.integer(at: 8, UInt32.self)
    guard version == Self.version else { return .newer(version: version) }
    return .header(
      VolumeHeader(
        number: bytes.integer(at: 12), id: bytes.integer(at: 16),
        device: DeviceID(bytes.integer(at: 24)), byteCount: bytes.integer(at: 32)))
  }
}

/// What is known of a volume once all records up to some sequence are applied. The manifest keeps it.
struct VolumeTally: Equatable, Sendable {
  /// Where the applied records end; the next one begins here.
  var end = UInt64(VolumeHeader.byteCount)
  /// Of its first record and of its last applied one; 0 while there is none.
  var firstSequence: UInt64 = 0
  var lastSequence: UInt64 = 0
  var cut: UInt64 = 0
  var liveBlockCount: UInt64 = 0
  /// Headers included.
  var liveByteCount: UInt64 = 0
  /// Of these, in blocks of links and checkpoints.
  var liveLinkByteCount: UInt64 = 0
  /// Records of blocks that were deleted or stand elsewhere too.
  var deadBlockCount: UInt64 = 0
  /// Payload bytes given back to the file system.
  var punchedByteCount: UInt64 = 0
  var deleteRecordCount: UInt64 = 0
  /// The highest leader epoch its records name.
  var epoch: UInt64 = 0
}

/// One volume file of a device. Loop-confined.
final class Volume: @unchecked Sendable {
  let number: UInt32
  let id: UInt64
  /// Of the file.
  var byteCount: UInt64
  /// What its header says the file was made with; 0 when the header is damaged.
  var madeByteCount: UInt64
  /// Records at or above this are not applied yet or in flight.
  var tally = VolumeTally()
  /// Where the next record goes.
  var end = UInt64(VolumeHeader.byteCount)
  /// No more records come.
  var isSealed = false
  /// Its file is gone, though the index still names it.
  var isMissing = false
  /// A live block in it is wrong or cannot be read: it stays until that is written anew or deleted.
  var holdsCorruptBlock = false
  /// Opening could not read all of it, and another time may: it keeps its length, and stays.
  var isUnreadableInPart = false
  /// Taken out of the store; its file goes when the last user does.
  var isRemoved = false

  fileprivate(set) var file: File?
  fileprivate var users = 0
  fileprivate var opening: Gate?
  /// For choosing which idle file to close.
  fileprivate var lastUse: UInt64 = 0

  init(number: UInt32, id: UInt64, byteCount: UInt64, madeByteCount: UInt64) {
    self.number = number
    self.id = id
    self.byteCount = byteCount
    self.madeByteCount = madeByteCount
  }

  var name: String {
    let digits = String(number, radix: 16)
    return "volumes/" + String(repeating: "0", count: 8 - digits.count) + digits + "-" + hex(id)
  }

  /// Bytes its records and header occupy on the device.
  var occupiedByteCount: UInt64 { isMissing ? 0 : end - min(end, tally.punchedByteCount) }

  /// The number and id in a file's name.
  static func parse(name: [UInt8]) -> (number: UInt32, id: UInt64)? {
    guard name.count == 25, name[8] == UInt8(ascii: "-") else { return nil }
    func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
      var value: UInt64 = 0
      for digit in digits {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt64(digit - 48)
        case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt64(digit - 87)
        default: return nil
        }
      }
      return value
    }
    guard let first = number(name[0..<8]), let second = number(name[9..<25]) else { return nil }
    return (UInt32(first), second)
  }
}

/// The volumes of a device and their open files. Loop-confined.
final class VolumeSet: @unchecked Sendable {
  private let driver: any Driver
  private let path: String
  private let openFileLimit: Int
  private(set) var byNumber: [UInt32: Volume] = [:]
  private var openCount = 0
  private var clock: UInt64 = 0
  /// Sums over all volumes of what is taken, and of what is preallocated but not taken yet.
  private(set) var occupiedByteCount: UInt64 = 0
  private(set) var unusedByteCount: UInt64 = 0
  /// O_RDONLY where nothing can be written.
  var accessMode = O_RDWR
  /// O_DIRECT, unless it is not wanted or the file system refused it.
  private(set) var directFlag: Int32
  private let requiresDirect: Bool
  /// Told once when the file system refuses O_DIRECT.
  var onBuffered: () -> Void = {}

  init(path: String, settings: StoreSettings, driver: any Driver) {
    self.path = path
    self.driver = driver
    openFileLimit = settings.openFileLimit
    directFlag = settings.directIO == .off ? 0 : O_DIRECT
    requiresDirect = settings.directIO == .required
  }

  /// Ascending by number.
  var all: [Volume] { byNumber.values.sorted { $0.number < $1.number } }

  subscript(number: UInt32) -> Volume? { byNumber[number] }

  func add(_ volume: Volume) {
    precondition(byNumber[volume.number] == nil)
    byNumber[volume.number] = volume
    recount()
  }

  /// Takes the next `byteCount` bytes of an open volume.
  func grow(_ volume: Volume, by byteCount: UInt64) {
    volume.end += byteCount
    occupiedByteCount += byteCount
    unusedByteCount -= min(byteCount, unusedByteCount)
  }

  /// Sums anew, after volumes changed in another way than by ``grow(_:by:)``.
  func recount() {
    occupiedByteCount = 0
    unusedByteCount = 0
    for volume in byNumber.values {
      occupiedByteCount += volume.occupiedByteCount
      if !volume.isSealed && !volume.isMissing && volume.byteCount > volume.end {
        unusedByteCount += volume.byteCount - volume.end
      }
    }
  }

  /// Opens with O_DIRECT where that is wanted and the file system has it.
  func openFile(_ name: String, _ flags: Int32) async throws(RingError) -> File {
    do throws(RingError) {
      return try await File.open(path + "/" + name, flags | directFlag, mode: 0o600, on: driver)
    } catch {
      guard error.errno == EINVAL, directFlag != 0, !requiresDirect else { throw error }
      directFlag = 0
      onBuffered()
      // Linux makes the file before it refuses the flag: ours is there already.
      return try await File.open(path + "/" + name, flags & ~O_EXCL, mode: 0o600, on: driver)
    }
  }

  /// The volume's open file; pair with ``release(_:)``. Nil when the volume was removed.
  func acquire(_ volume: Volume) async throws(RingError) -> File? {
    volume.users += 1
    while true {
      if volume.isRemoved || volume.isMissing {
        await releaseSlowly(volume)
        return nil
      }
      clock += 1
      volume.lastUse = clock
      if let file = volume.file { return file }
      if let opening = volume.opening {
        await opening.wait()
        continue
      }
      let gate = Gate()
      volume.opening = gate
      do throws(RingError) {
        let file = try await openFile(volume.name, accessMode)
        volume.opening = nil
        attach(file, to: volume)
        gate.open()
        await closeIdle()
      } catch {
        volume.opening = nil
        gate.open()
        await releaseSlowly(volume)
        throw error
      }
    }
  }

  /// Runs `body` with the volume's open file; nil when the volume was removed.
  @discardableResult
  func use<Value>(_ volume: Volume, _ body: (File) async throws(RingError) -> Value)
    async throws(RingError) -> Value?
  {
    guard let file = try await acquire(volume) else { return nil }
    defer { release(volume) }
    return try await body(file)
  }

  /// Gives a volume the file it was just made with.
  func attach(_ file: File, to volume: Volume) {
    volume.file = file
    openCount += 1
  }

  func release(_ volume: Volume) {
    volume.users -= 1
    guard volume.users == 0 else { return }
    let isUnwanted = openCount > openFileLimit || driver.meets(.volumeClosedEarly)
    if volume.isRemoved || isUnwanted && volume.isSealed {
      driver.spawn("close volume") { await self.close(volume) }
    }
  }

  private func releaseSlowly(_ volume: Volume) async {
    volume.users -= 1
    if volume.users == 0 && volume.isRemoved { await close(volume) }
  }

  /// Closes the file when nobody uses it.
  func close(_ volume: Volume) async {
    guard volume.users == 0, let file = volume.file else { return }
    volume.file = nil
    openCount -= 1
    await file.close()
  }

  private func closeIdle() async {
    while openCount > openFileLimit {
      // Writing must never depend on being able to open a file.
      let idle = byNumber.values.filter { $0.file != nil && $0.users == 0 && $0.isSealed }
      guard let oldest = idle.min(by: { $0.lastUse < $1.lastUse }) else { return }
      await close(oldest)
    }
  }

  /// Takes the volume out and unlinks its file, which readers that still hold it may finish reading.
  func remove(_ volume: Volume) async throws(RingError) {
    byNumber[volume.number] = nil
    volume.isRemoved = true
    recount()
    if !volume.isMissing {
      try await driver.remove(path + "/" + volume.name)
      try await driver.synchronizeDirectory(path + "/volumes")
    }
    await close(volume)
  }

  /// Takes a volume out whose file is gone.
  func drop(_ volume: Volume) {
    byNumber[volume.number] = nil
    recount()
  }

  /// Closes and forgets all volumes; their files stay.
  func forgetAll() async {
    await closeAll()
    byNumber = [:]
    recount()
  }

  func closeAll() async {
    for volume in all { await close(volume) }
  }
}
