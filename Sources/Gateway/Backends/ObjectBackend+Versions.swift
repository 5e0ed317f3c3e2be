package import Messages

package struct VersionListRequest: Sendable, Equatable {
  package var bucket: String
  package var prefix = ""
  /// Empty: no grouping.
  package var delimiter = ""
  /// Keys after this one, by bytes; empty: from the first.
  package var afterKey = ""
  /// Not `unnamed`: also the versions of `afterKey` that are older.
  package var after = VersionName.unnamed
  /// 0 ... 1,000, of versions and prefixes together.
  package var limit = 1000
  package init(bucket: String) { self.bucket = bucket }
}

/// Buckets that keep what is replaced and deleted. All throw `bucketNotFound`.
package protocol VersionBackend: AnyObject, Sendable {
  func versioning(of bucket: String) async throws(BackendError) -> BucketVersioning
  /// - Throws: `bucketState`; `notImplemented`, where the backend keeps no versions.
  func set(_ versioning: BucketVersioning, ofBucket bucket: String) async throws(BackendError)
  /// Takes one version away, with its bytes.
  ///
  /// - Parameter version: not `unnamed`.
  /// - Returns: whether it was a delete marker.
  /// - Throws: `versionNotFound`, `locked`.
  func delete(_ name: ObjectName, version: VersionName, bypassesGovernance: Bool)
    async throws(BackendError) -> Bool
  /// Nil: the bucket has no locks.
  func lock(of bucket: String) async throws(BackendError) -> BucketLock?
  /// - Parameter enablesVersioning: which locks need.
  /// - Throws: `bucketState`; `notImplemented`.
  func set(_ lock: BucketLock, ofBucket bucket: String, enablesVersioning: Bool)
    async throws(BackendError)
  /// - Returns: what the version is called.
  /// - Throws: as the next, and `noLocks`; `locked` when what is there holds longer.
  func setLock(
    of name: ObjectName, version: VersionName, _ change: LockChange, bypassesGovernance: Bool
  ) async throws(BackendError) -> VersionName
  /// Gives a version these user attributes in the place of all whose names begin so.
  ///
  /// - Returns: what the version is called.
  /// - Throws: `notFound`, `deleted`, `versionNotFound`, `isDeleteMarker`; `notImplemented`.
  func setAttributes(
    of name: ObjectName, version: VersionName, prefix: String,
    _ attributes: [ObjectAttributes.UserAttribute]
  ) async throws(BackendError) -> VersionName
  /// By key, of one key the newest first.
  func versions(_ request: VersionListRequest) async throws(BackendError) -> ListVersions.Answer
}

extension ClusterBackend: VersionBackend {
  package func versioning(of bucket: String) async throws(BackendError) -> BucketVersioning {
    try await ask(GetBucket(level: .strong, name: bucket)).versioning
  }
  package func set(_ versioning: BucketVersioning, ofBucket bucket: String)
    async throws(BackendError)
  {
    try await change(.setVersioning(bucket: bucket, versioning))
  }
  package func delete(_ name: ObjectName, version: VersionName, bypassesGovernance: Bool)
    async throws(BackendError) -> Bool
  {
    let outcome = try await change(
      .deleteVersion(name: name, version: version, bypassesGovernance: bypassesGovernance))
    return outcome.made != nil
  }
  package func lock(of bucket: String) async throws(BackendError) -> BucketLock? {
    try await ask(GetBucket(level: .strong, name: bucket)).lock
  }
  package func set(_ lock: BucketLock, ofBucket bucket: String, enablesVersioning: Bool)
    async throws(BackendError)
  {
    try await change(
      .setBucketLock(bucket: bucket, lock, enablesVersioning: enablesVersioning))
  }
  package func setLock(
    of name: ObjectName, version: VersionName, _ change: LockChange, bypassesGovernance: Bool
  ) async throws(BackendError) -> VersionName {
    try await self.change(
      .setLock(
        name: name, version: version, change: change, bypassesGovernance: bypassesGovernance)
    ).made?.name ?? .unnamed
  }
  package func setAttributes(
    of name: ObjectName, version: VersionName, prefix: String,
    _ attributes: [ObjectAttributes.UserAttribute]
  ) async throws(BackendError) -> VersionName {
    try await change(
      .setAttributes(name: name, version: version, prefix: prefix, attributes: attributes)
    ).made?.name ?? .unnamed
  }
  package func versions(_ request: VersionListRequest) async throws(BackendError)
    -> ListVersions.Answer
  {
    try await ask(
      ListVersions(
        level: .strong, bucket: request.bucket, prefix: request.prefix,
        delimiter: request.delimiter, afterKey: request.afterKey, after: request.after,
        limit: UInt32(clamping: request.limit)))
  }
}

/// Plain files have one version each, a null version.
extension FilesystemBackend: VersionBackend {
  package func versioning(of bucket: String) async throws(BackendError) -> BucketVersioning {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    return .off
  }
  package func set(_ versioning: BucketVersioning, ofBucket bucket: String)
    async throws(BackendError)
  {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    throw .notImplemented
  }
  package func delete(_ name: ObjectName, version: VersionName, bypassesGovernance: Bool)
    async throws(BackendError) -> Bool
  {
    guard version == .null else {
      guard try await bucketExists(name.bucket) else { throw .bucketNotFound }
      throw .versionNotFound
    }
    do throws(BackendError) {
      try await delete(name, precondition: .none)
    } catch {
      throw error == .notFound ? .versionNotFound : error
    }
    return false
  }
  package func lock(of bucket: String) async throws(BackendError) -> BucketLock? {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    return nil
  }
  package func set(_ lock: BucketLock, ofBucket bucket: String, enablesVersioning: Bool)
    async throws(BackendError)
  {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    throw .notImplemented
  }
  package func setLock(
    of name: ObjectName, version: VersionName, _ change: LockChange, bypassesGovernance: Bool
  ) async throws(BackendError) -> VersionName {
    _ = try await find(name, version: version, wanted: 0..<0)
    throw .noLocks
  }
  package func setAttributes(
    of name: ObjectName, version: VersionName, prefix: String,
    _ attributes: [ObjectAttributes.UserAttribute]
  ) async throws(BackendError) -> VersionName {
    _ = try await find(name, version: version, wanted: 0..<0)
    throw .notImplemented
  }
  package func versions(_ request: VersionListRequest) async throws(BackendError)
    -> ListVersions.Answer
  {
    guard try await bucketExists(request.bucket) else { throw .bucketNotFound }
    throw .notImplemented
  }
}
