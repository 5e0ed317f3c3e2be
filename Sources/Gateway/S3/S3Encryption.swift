import HTTP
import Messages

/// What S3 calls encryption on the server: here it is the bucket's key domain, for all that is in it.
struct S3Encryption: Equatable {
  enum Algorithm: String {
    /// With the gateway's own key domain.
    case aes256 = "AES256"
    /// With a key domain by name.
    case kms = "aws:kms"
  }
  var algorithm: Algorithm
  /// Nil: none was named.
  var keyDomain: String?

  static let header = "x-amz-server-side-encryption"
  static let keyHeader = "x-amz-server-side-encryption-aws-kms-key-id"
  private static let bucketKeyHeader = "x-amz-server-side-encryption-bucket-key-enabled"
  static let customerPrefix = "x-amz-server-side-encryption-customer-"
  static let sourceCustomerPrefix = "x-amz-copy-source-server-side-encryption-customer-"

  /// - Parameter key: a key domain's name, or an ARN that ends with it.
  /// - Throws: for what is none of S3's.
  init(_ algorithm: String, key: String?) throws(S3Error) {
    guard let algorithm = Algorithm(rawValue: algorithm) else {
      if algorithm == "aws:kms:dsse" { throw S3Error(.notImplemented) }
      throw S3Error(.invalidEncryptionAlgorithm).with("ArgumentName", Self.header)
        .with("ArgumentValue", algorithm)
    }
    self.algorithm = algorithm
    guard let key else { return }
    guard algorithm == .kms else {
      throw S3Error(
        .invalidArgument,
        "A key is named, and the encryption is not aws:kms, which alone is with a key by name."
      ).with("ArgumentName", Self.keyHeader)
    }
    let name =
      key.hasPrefix("arn:") ? String(key.split { $0 == "/" || $0 == ":" }.last ?? "") : key
    guard KeyDomainRules.brokenRule(name: name) == nil else { throw Self.noKey(key) }
    keyDomain = name
  }

  static func noKey(_ name: String) -> S3Error {
    S3Error(.kmsNotFound, "Invalid keyId '\(name)': there is no key domain of that name.")
  }

  /// What a request that stores something asks for in its headers; nil: nothing, so that it is as the bucket has it.
  ///
  /// - Parameter takesKeys: keys that the client brings are read elsewhere.
  /// - Throws: for what is none of S3's, or not to be had.
  static func asked(_ request: S3Request, takesKeys: Bool = false) throws(S3Error) -> S3Encryption?
  {
    var hasKey = false
    for line in request.fields.lines {
      let name = line.name.lowercased()
      if takesKeys, CustomerKey.headers.contains(name) {
        hasKey = hasKey || name.hasPrefix(customerPrefix)
        continue
      }
      if name.hasPrefix(sourceCustomerPrefix) {
        throw S3Error(.notImplemented).with("Header", name)
      }
      guard name.hasPrefix(header), name != header, name != keyHeader, name != bucketKeyHeader
      else { continue }
      throw S3Error(.notImplemented).with("Header", name)
    }
    let key = try request.header(keyHeader)
    guard let algorithm = try request.header(header) else {
      guard key == nil else {
        throw S3Error(
          .invalidArgument,
          "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms"
        ).with("ArgumentName", keyHeader)
      }
      return nil
    }
    guard !hasKey else {
      throw S3Error(
        .invalidArgument,
        "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
      ).with("ArgumentName", header).with("ArgumentValue", algorithm)
    }
    return try S3Encryption(algorithm, key: key)
  }

  /// What reads may not have: how an object is encrypted is not theirs to say.
  static func refuseInRead(_ request: S3Request) throws(S3Error) {
    for line in request.fields.lines {
      let name = line.name.lowercased()
      guard name.hasPrefix(header), !name.hasPrefix(customerPrefix) else { continue }
      throw S3Error(.invalidArgument, "\(name) header is not supported for this operation.")
        .with("ArgumentName", name)
    }
  }

  /// - Parameters:
  ///   - keyDomain: the bucket's; empty: it has none.
  ///   - own: the gateway's.
  func fits(_ keyDomain: String, own: String) -> Bool {
    if keyDomain.isEmpty { return false }
    return algorithm == .aes256 ? keyDomain == own : (self.keyDomain ?? keyDomain) == keyDomain
  }

  /// How a bucket's key domain is told: "AES256" when it is the gateway's own.
  init(telling keyDomain: String, own: String) {
    algorithm = keyDomain == own ? .aes256 : .kms
    self.keyDomain = keyDomain == own ? nil : keyDomain
  }

  /// The headers of an answer.
  var fields: [HTTPFields.Line] {
    [.init(Self.header, algorithm.rawValue)]
      + (keyDomain.map { [.init(Self.keyHeader, $0)] } ?? [])
  }
}
