package import Messages

/// Users and what buckets grant, as the coordinator has them.
extension ClusterBackend {
  package func user(withKey accessKey: String) async throws(BackendError) -> KnownUser? {
    guard let secrets else { return nil }
    let found: FindAccessKey.Answer
    do throws(BackendError) {
      found = try await ask(FindAccessKey(level: .strong, name: accessKey))
    } catch {
      if error == .userNotFound { return nil }
      throw error
    }
    guard let secret = secrets.open(found.sealedSecret, of: accessKey, user: found.user) else {
      throw .failed(
        "the secret of access key \(accessKey) was sealed under another cluster's key")
    }
    return KnownUser(name: found.user, secret: secret, policies: found.policies)
  }

  package func hasUser(_ name: String) async throws(BackendError) -> Bool {
    do throws(BackendError) {
      _ = try await ask(GetUser(level: .strong, name: name))
      return true
    } catch {
      if error == .userNotFound { return false }
      throw error
    }
  }

  package func access(of bucket: String) async throws(BackendError) -> BucketAccess {
    try await ask(GetBucketAccess(level: .strong, bucket: bucket))
  }

  package func changeAccess(of bucket: String, _ change: BucketAccessChange)
    async throws(BackendError)
  {
    try await self.change(.changeBucketAccess(bucket: bucket, change))
  }
}
