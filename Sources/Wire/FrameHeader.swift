import Coding

/// The 40 bytes before every frame. All numbers are little-endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 4 | magic, `43 52 4E 46` ("CRNF") |
/// | 4 | 1 | protocol version, the one agreed in the handshake |
/// | 5 | 1 | kind, see ``FrameKind`` |
/// | 6 | 2 | flags; none are defined, so 0 |
/// | 8 | 2 | request: the method; refusal: its code; else 0 |
/// | 10 | 2 | 0 |
/// | 12 | 4 | bytes of message after the header, at most ``WireLimits/messageByteCount`` |
/// | 16 | 4 | bytes of body after the message, at most ``WireLimits/bodyByteCount`` |
/// | 20 | 4 | request: milliseconds until the caller gives up, at least 1; else 0 |
/// | 24 | 8 | request id, see ``FrameKind`` |
/// | 32 | 4 | CRC32C of message and body; 0 when both are empty |
/// | 36 | 4 | CRC32C of bytes 0 ..< 36 |
///
/// Message, then body follow without padding. A header that breaks any rule ends the connection
/// before memory is taken for what it announces.
struct FrameHeader: Equatable {
  static let byteCount = 40
  static let magic: UInt32 = 0x464E_5243

  var version: UInt8
  var kind: FrameKind
  /// Of a request the method, of a refusal the code.
  var method: UInt16 = 0
  var messageByteCount = 0
  var bodyByteCount = 0
  var deadlineMilliseconds: UInt32 = 0
  var id: UInt64 = 0
  var contentChecksum: UInt32 = 0

  init(version: UInt8, kind: FrameKind) {
    self.version = version
    self.kind = kind
  }

  /// Writes ``byteCount`` bytes at `target`.
  func encode(into target: UnsafeMutableRawPointer) {
    func put<Integer: FixedWidthInteger>(_ value: Integer, _ offset: Int) {
      target.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Integer.self)
    }
    put(Self.magic, 0)
    put(version, 4)
    put(kind.rawValue, 5)
    put(UInt16(0), 6)
    put(method, 8)
    put(UInt16(0), 10)
    put(UInt32(messageByteCount), 12)
    put(UInt32(bodyByteCount), 16)
    put(deadlineMilliseconds, 20)
    put(id, 24)
    put(contentChecksum, 32)
    put(CRC32C.checksum(UnsafeRawBufferPointer(start: target, count: 36), seed: 0), 36)
  }

  /// Reads and checks ``byteCount`` bytes at `source`.
  ///
  /// - Throws: ``WireError/malformed(_:)``.
  init(_ source: UnsafeRawPointer, version expected: UInt8) throws(WireError) {
    func get<Integer: FixedWidthInteger>(_ offset: Int, _ type: Integer.Type) -> Integer {
      Integer(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: Integer.self))
    }
    guard get(0, UInt32.self) == Self.magic else { throw .malformed("no frame begins here") }
    let checksum = CRC32C.checksum(UnsafeRawBufferPointer(start: source, count: 36), seed: 0)
    guard get(36, UInt32.self) == checksum else { throw .malformed("checksum of a frame's header") }
    version = get(4, UInt8.self)
    guard version == expected else {
      throw .malformed("version \(version) inside version \(expected)")
    }
    guard let kind = FrameKind(rawValue: get(5, UInt8.self)) else {
      throw .malformed("frame of kind \(get(5, UInt8.self))")
    }
    self.kind = kind
    guard get(6, UInt16.self) == 0, get(10, UInt16.self) == 0 else {
      throw .malformed("flags of a frame")
    }
    method = get(8, UInt16.self)
    let message = get(12, UInt32.self)
    let body = get(16, UInt32.self)
    guard message <= UInt32(WireLimits.messageByteCount) else {
      throw .malformed("a message of \(message) bytes")
    }
    guard body <= UInt32(WireLimits.bodyByteCount) else {
      throw .malformed("a body of \(body) bytes")
    }
    messageByteCount = Int(message)
    bodyByteCount = Int(body)
    deadlineMilliseconds = get(20, UInt32.self)
    id = get(24, UInt64.self)
    contentChecksum = get(32, UInt32.self)
    let isEmpty = message == 0 && body == 0
    guard isEmpty ? contentChecksum == 0 : kind.mayCarryBytes else {
      throw .malformed("bytes in a frame of kind \(kind)")
    }
    guard body == 0 || kind != .refusal, message <= 64 << 10 || kind != .refusal else {
      throw .malformed("an oversized refusal")
    }
    guard (kind == .request) == (deadlineMilliseconds > 0) else { throw .malformed("a deadline") }
    guard kind == .request || kind == .refusal || method == 0 else { throw .malformed("a method") }
  }
}

/// What a frame is. The id names a request: the caller counts them up from 1 on each connection and
/// never uses one twice.
enum FrameKind: UInt8 {
  /// From the caller. Answered exactly once, by `response` or `refusal`, in any order.
  case request = 1
  case response = 2
  /// The request was not carried out; the message is the reason, UTF-8, at most 64 KiB. Code 0: the
  /// server gave up because of the deadline or a `cancel`.
  case refusal = 3
  /// Asks for a `pong` with the same id, which here is any number.
  case ping = 4
  case pong = 5
  /// From the server: requests above this id were not and will not be carried out; send no more.
  case goingAway = 6
  /// From the caller: it gave up on this request. It is still answered once.
  case cancel = 7

  var mayCarryBytes: Bool { self == .request || self == .response || self == .refusal }
}

/// The versions of this protocol that we speak.
enum WireVersion {
  static let supported: ClosedRange<UInt16> = 1...1
}
