import Coding
import HTTP
import Service

/// A key that a client brings with each request, for one object (SSE-C). It is kept nowhere.
struct CustomerKey: Equatable {
  let bytes: [UInt8]
  /// As the client said it, to be said again.
  let digest: String

  /// What the headers of a request say; nil: there are none of them.
  ///
  /// - Parameters:
  ///   - prefix: of the headers' names.
  ///   - isSecure: the request came over TLS: such keys travel over nothing else.
  init?(
    _ request: S3Request, prefix: String = S3Encryption.customerPrefix, isSecure: Bool
  ) throws(S3Error) {
    let algorithm = try request.header(prefix + "algorithm")
    let key = try request.header(prefix + "key")
    let digest = try request.header(prefix + "key-md5")
    if algorithm == nil && key == nil && digest == nil { return nil }
    guard isSecure else {
      throw S3Error(
        .invalidRequest,
        "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection."
      )
    }
    guard let algorithm else {
      throw S3Error(
        .invalidArgument,
        "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm."
      )
    }
    guard algorithm == "AES256" else {
      throw S3Error(
        .invalidEncryptionAlgorithm,
        "The encryption request you specified is not valid. The valid value is AES256.")
    }
    guard let key else {
      throw S3Error(
        .invalidArgument,
        "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key."
      )
    }
    guard let bytes = Base64.decode(key), bytes.count == AES256GCM.keyByteCount else {
      throw S3Error(
        .invalidArgument, "The secret key was invalid for the specified algorithm.")
    }
    guard let digest else {
      throw S3Error(
        .invalidArgument,
        "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key."
      )
    }
    guard Base64.decode(digest) == RunningDigest.of(bytes, .md5) else {
      throw S3Error(
        .invalidArgument,
        "The calculated MD5 hash of the key did not match the hash that was provided.")
    }
    self.bytes = bytes
    self.digest = digest
  }

  /// Of requests, in lower case.
  static let headers = ["algorithm", "key", "key-md5"].flatMap {
    [S3Encryption.customerPrefix + $0, S3Encryption.sourceCustomerPrefix + $0]
  }

  /// The headers of an answer.
  var fields: [HTTPFields.Line] {
    [
      .init(S3Encryption.customerPrefix + "algorithm", "AES256"),
      .init(S3Encryption.customerPrefix + "key-MD5", digest),
    ]
  }
}

/// What is kept of a client's key with an object: enough to know the key when it comes again, and not to have it.
///
///     customer's key, salt -> object's key -> the bytes, in counter mode
///                                          -> what the key is known by
struct CustomerSeal: Equatable, Sendable {
  /// 32 random bytes: no two objects are encrypted under one key, whatever keys clients bring.
  private let salt: [UInt8]
  private let check: [UInt8]

  /// An object's key, and its bytes' keystream.
  struct Opened: Sendable {
    let key: [UInt8]
    /// Of an object that came in parts: each part has a key stream of its own.
    var parts: CustomerParts?

    /// What an ETag is made of: it is not the MD5 of the plain bytes, as S3 has it.
    func etag(_ digest: [UInt8]) -> String { hexText(etagBytes(digest)) }
    func etagBytes(_ digest: [UInt8]) -> [UInt8] {
      Array(HMACSHA256.authenticate(Array("etag".utf8) + digest, key: key).prefix(16))
    }

    /// A part's key, and its bytes' keystream.
    func part(_ nonce: [UInt8]) -> Opened {
      Opened(key: HMACSHA256.authenticate(Array("cairn part key\0".utf8) + nonce, key: key))
    }
  }

  private static func objectKey(_ key: CustomerKey, _ salt: [UInt8]) -> [UInt8] {
    HMACSHA256.authenticate(Array("cairn object key\0".utf8) + salt, key: key.bytes)
  }
  private static func check(_ objectKey: [UInt8]) -> [UInt8] {
    HMACSHA256.authenticate(Array("check".utf8), key: objectKey)
  }

  static let saltByteCount = 32

  /// For a new object.
  init(_ key: CustomerKey, salt: [UInt8]) {
    precondition(salt.count == Self.saltByteCount)
    self.salt = salt
    check = Self.check(Self.objectKey(key, salt))
  }

  /// Nil when it is not the object's key.
  func open(_ key: CustomerKey) -> Opened? {
    let objectKey = Self.objectKey(key, salt)
    guard HMACSHA256.isValid(check, for: Array("check".utf8), key: objectKey) else { return nil }
    return Opened(key: objectKey)
  }

  /// As it is kept: 128 hexadecimal digits.
  var text: String { hexText(salt + check) }

  /// Of what ``text`` never was: one that no key opens.
  init(text: String) {
    let bytes = hexBytes(text) ?? []
    salt = Array(bytes.prefix(Self.saltByteCount))
    check = Array(bytes.dropFirst(Self.saltByteCount))
  }
}
