package import Messages

/// Documents that a backend keeps for a bucket: tags and rules. One kind has one document, or none.
package protocol SettingsBackend: AnyObject, Sendable {
  /// - Throws: `bucketNotFound`.
  func settings(_ bucket: String, _ kinds: [SettingKind]) async throws(BackendError)
    -> [BucketSetting]
  /// - Parameter setting: without bytes: there is none of that kind any more.
  /// - Throws: `bucketNotFound`; `notImplemented`, where the backend keeps none.
  func set(_ setting: BucketSetting, of bucket: String) async throws(BackendError)
}

extension ClusterBackend: SettingsBackend {
  package func settings(_ bucket: String, _ kinds: [SettingKind]) async throws(BackendError)
    -> [BucketSetting]
  {
    try await ask(GetBucketSettings(level: .strong, bucket: bucket, kinds: kinds)).settings
  }
  package func set(_ setting: BucketSetting, of bucket: String) async throws(BackendError) {
    try await change(.setBucketSetting(bucket: bucket, setting))
  }
}

extension FilesystemBackend: SettingsBackend {
  package func settings(_ bucket: String, _ kinds: [SettingKind]) async throws(BackendError)
    -> [BucketSetting]
  {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    return []
  }
  package func set(_ setting: BucketSetting, of bucket: String) async throws(BackendError) {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
    throw .notImplemented
  }
}
