import HTTP
import Messages

/// Buckets in key domains: what is asked of them, and how it is told.
extension S3Service {
  /// Refuses what asks for an encryption that is not the bucket's: nothing is stored otherwise than it was asked for. What a
  /// bucket has is asked of the cluster for who wants one, and for all others believed for a while: they are only told.
  ///
  /// - Returns: what the answer says of it.
  ///
  /// - Parameter takesKeys: whether the operation has to do with keys that clients bring.
  func encryptionFields(_ call: Call, takesKeys: Bool = false) async throws(S3Error)
    -> [HTTPFields.Line]
  {
    guard let bucket = call.request.bucket else { return [] }
    let own = backend.defaultKeyDomain
    guard let asked = try S3Encryption.asked(call.request, takesKeys: takesKeys) else {
      let known = try await ask { () async throws(BackendError) in
        try await self.knownKeyDomain(of: bucket)
      }
      return Self.encryptionFields(known, own: own)
    }
    let keyDomain = try await ask { () async throws(BackendError) in
      try await self.backend.keyDomain(of: bucket)
    }
    guard asked.fits(keyDomain, own: own) else {
      if let name = asked.keyDomain {
        let isThere = try await ask { () async throws(BackendError) in
          try await self.backend.hasKeyDomain(name)
        }
        guard isThere else { throw S3Encryption.noKey(name) }
      }
      throw S3Error(.invalidRequest, Self.misfit(keyDomain, own: own)).with("BucketName", bucket)
    }
    if asked.algorithm == .kms {
      return S3Encryption(telling: keyDomain, own: "").fields
    }
    return Self.encryptionFields(keyDomain, own: own)
  }

  private static func misfit(_ keyDomain: String, own: String) -> String {
    if keyDomain.isEmpty {
      return
        "This bucket is not encrypted. Its default encryption can be set while it is empty; objects take it from their bucket."
    }
    let told = S3Encryption(telling: keyDomain, own: own)
    let key = told.keyDomain.map { " with the key '\($0)'" } ?? ""
    return
      "This bucket's objects are encrypted by \(told.algorithm.rawValue)\(key). What is asked for one of them must be the same, or nothing."
  }

  /// - Parameter keyDomain: empty: not encrypted.
  static func encryptionFields(_ keyDomain: String, own: String) -> [HTTPFields.Line] {
    keyDomain.isEmpty ? [] : S3Encryption(telling: keyDomain, own: own).fields
  }

  /// Empty also for a bucket that is not there: who asks is told that elsewhere.
  private func knownKeyDomain(of bucket: String) async throws(BackendError) -> String {
    guard BucketName.brokenRule(bucket) == nil else { return "" }
    return try await keyDomains.value(bucket) { () async throws(BackendError) in
      do throws(BackendError) {
        return (try await backend.keyDomain(of: bucket), 64 + bucket.utf8.count)
      } catch {
        if error == .bucketNotFound { return nil }
        throw error
      }
    } ?? ""
  }

  // MARK: Keys that clients bring

  /// What opens an object that was stored with a client's key; nil for others.
  ///
  /// - Parameter prefix: of the headers that name the key.
  /// - Throws: when the request has no key and wants one, has another, or has one for an object that was stored without.
  func opened(
    _ facts: ObjectFacts, _ call: Call, prefix: String = S3Encryption.customerPrefix
  ) throws(S3Error) -> (key: CustomerKey, opened: CustomerSeal.Opened)? {
    let key = try CustomerKey(call.request, prefix: prefix, isSecure: call.exchange.isSecure)
    guard let seal = facts.customer else {
      guard key == nil else {
        throw S3Error(
          .invalidRequest, "The encryption parameters are not applicable to this object.")
      }
      return nil
    }
    guard let key else {
      throw S3Error(
        .invalidRequest,
        "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
      )
    }
    guard var opened = seal.open(key) else { throw S3Error(.accessDenied) }
    // One key stream in the place of many would give other bytes than were stored, and no error.
    if facts.hasDamagedCustomerParts {
      throw S3Error(.internalError, "What the object's parts are encrypted with cannot be read.")
    }
    opened.parts = facts.customerParts
    return (key, opened)
  }

  // MARK: Of a bucket

  func getEncryption(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let keyDomain = try await ask { () async throws(BackendError) in
      try await self.backend.keyDomain(of: bucket)
    }
    guard !keyDomain.isEmpty else {
      throw S3Error(.encryptionConfigurationNotFound).with("BucketName", bucket)
    }
    let told = S3Encryption(telling: keyDomain, own: backend.defaultKeyDomain)
    var xml = XMLText("ServerSideEncryptionConfiguration")
    xml.group("Rule") { xml in
      xml.group("ApplyServerSideEncryptionByDefault") {
        $0.element("SSEAlgorithm", told.algorithm.rawValue)
        if let name = told.keyDomain { $0.element("KMSMasterKeyID", name) }
      }
      xml.element("BucketKeyEnabled", false)
    }
    await call.answer(xml: xml.finish())
  }

  func putEncryption(_ call: Call) async throws(S3Error) {
    let body = try await wholeBody(call, limit: 64 << 10)
    let wanted = try Self.encryption(document: body)
    try await setEncryption(call, try keyDomain(of: wanted))
    await call.answer(200)
  }

  /// As S3 has it the bucket is then like one that was made without a word of encryption.
  func deleteEncryption(_ call: Call) async throws(S3Error) {
    try await setEncryption(call, backend.defaultKeyDomain)
    await call.answer(204)
  }

  /// The key domain that is asked for.
  func keyDomain(of asked: S3Encryption) throws(S3Error) -> String {
    if let name = asked.keyDomain { return name }
    guard !backend.defaultKeyDomain.isEmpty else {
      throw S3Error(
        .invalidRequest,
        "This gateway has no key domain of its own: \(S3Encryption.Algorithm.kms.rawValue) with a key domain as KMSMasterKeyID is wanted, or 'key_domain' in the gateway's configuration."
      )
    }
    return backend.defaultKeyDomain
  }

  private func setEncryption(_ call: Call, _ keyDomain: String) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    // Also when the answer was lost: it may have been set.
    defer { keyDomains.forget(bucket) }
    do throws(BackendError) {
      try await backend.setKeyDomain(of: bucket, keyDomain)
    } catch {
      guard error == .bucketNotEmpty else { throw S3Error(backend: error) }
      throw S3Error(
        .invalidBucketState,
        "The encryption of a bucket with objects or uploads under way stays as it is. Make a bucket that is encrypted as wanted, and copy them there."
      ).with("BucketName", bucket)
    }
  }

  static func encryption(document: [UInt8]) throws(S3Error) -> S3Encryption {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(document, root: "ServerSideEncryptionConfiguration")
    } catch {
      throw S3Error(.malformedXML)
    }
    guard tree.children.count == 1, tree.children[0].name == "Rule" else {
      throw S3Error(.malformedXML)
    }
    var wanted: XMLTree?
    for child in tree.children[0].children {
      switch child.name {
      case "ApplyServerSideEncryptionByDefault" where wanted == nil: wanted = child
      // A data key is made for many objects in any case.
      case "BucketKeyEnabled" where ["true", "false"].contains(child.text): break
      case "BlockedEncryptionTypes":
        throw S3Error(.notImplemented).with("Element", child.name)
      default: throw S3Error(.malformedXML)
      }
    }
    guard let wanted, let algorithm = wanted.value("SSEAlgorithm"),
      wanted.children.allSatisfy({ ["SSEAlgorithm", "KMSMasterKeyID"].contains($0.name) })
    else { throw S3Error(.malformedXML) }
    let key = wanted.value("KMSMasterKeyID")
    guard key != nil || wanted.all("KMSMasterKeyID").isEmpty else { throw S3Error(.malformedXML) }
    do throws(S3Error) {
      return try S3Encryption(algorithm, key: key)
    } catch {
      // In a document it is one of an enumeration.
      throw error.code == .invalidEncryptionAlgorithm ? S3Error(.malformedXML) : error
    }
  }
}
