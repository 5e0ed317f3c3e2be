package import Messages

/// What a backend knows of users and of who may do what with its buckets.
package protocol AccessBackend: AnyObject, Sendable {
  /// Nil when there is no such access key, or it is switched off, or its user is.
  func user(withKey accessKey: String) async throws(BackendError) -> KnownUser?
  func hasUser(_ name: String) async throws(BackendError) -> Bool
  /// - Throws: `bucketNotFound`.
  func access(of bucket: String) async throws(BackendError) -> BucketAccess
  /// - Throws: `bucketNotFound`.
  func changeAccess(of bucket: String, _ change: BucketAccessChange) async throws(BackendError)
}
