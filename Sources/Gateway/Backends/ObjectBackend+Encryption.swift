import Messages

/// Key domains as a backend has them: what clients mean by encryption on the server (docs/encryption.md).
package protocol EncryptionBackend: AnyObject, Sendable {
  /// The key domain of buckets that are made without naming one; empty: they are not encrypted.
  var defaultKeyDomain: String { get }
  /// Empty: the bucket is not encrypted.
  ///
  /// - Throws: `bucketNotFound`.
  func keyDomain(of bucket: String) async throws(BackendError) -> String
  func hasKeyDomain(_ name: String) async throws(BackendError) -> Bool
  /// Gives a bucket without objects and uploads another key domain.
  ///
  /// - Parameter keyDomain: empty: none.
  /// - Throws: `bucketNotFound`; `bucketNotEmpty`; `keyDomainNotFound`; `notImplemented`, where the backend has none.
  func setKeyDomain(of bucket: String, _ keyDomain: String) async throws(BackendError)
}

extension ClusterBackend: EncryptionBackend {
  package func keyDomain(of bucket: String) async throws(BackendError) -> String {
    try await name(of: try await ask(GetBucket(level: .strong, name: bucket)).domain.keyDomain)
  }

  package func hasKeyDomain(_ name: String) async throws(BackendError) -> Bool {
    try await ask(ListKeyDomains(level: .strong)).domains.contains { $0.name == name }
  }

  package func setKeyDomain(of bucket: String, _ keyDomain: String) async throws(BackendError) {
    _ = try await ask(SetBucketKeyDomain(bucket: bucket, keyDomain: keyDomain))
  }

  /// A domain keeps its number and its name for good.
  func name(of domain: KeyDomainID) async throws(BackendError) -> String {
    if domain == .plain { return "" }
    if keyDomainNames[domain] == nil {
      for found in try await ask(ListKeyDomains(level: .strong)).domains {
        keyDomainNames[found.id] = found.name
      }
    }
    guard let name = keyDomainNames[domain] else {
      throw .failed("\(domain) is used but not there")
    }
    return name
  }
}

/// Plain files are what they are.
extension FilesystemBackend: EncryptionBackend {
  package var defaultKeyDomain: String { "" }
  package func keyDomain(of bucket: String) async throws(BackendError) -> String {
    try await requireBucket(bucket)
    return ""
  }
  package func hasKeyDomain(_ name: String) async throws(BackendError) -> Bool { false }
  package func setKeyDomain(of bucket: String, _ keyDomain: String) async throws(BackendError) {
    try await requireBucket(bucket)
    guard keyDomain.isEmpty else { throw .notImplemented }
  }
}
