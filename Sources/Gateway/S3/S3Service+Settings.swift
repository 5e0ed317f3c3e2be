import Messages

/// Documents that a bucket has.
extension S3Service {
  /// - Parameter code: told when there is none.
  func setting(_ kind: SettingKind, _ call: Call, or code: S3Error.Code) async throws(S3Error)
    -> [UInt8]
  {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let found = try await ask { () async throws(BackendError) in
      try await self.backend.settings(bucket, [kind])
    }
    guard let setting = found.first(where: { $0.kind == kind }) else {
      throw S3Error(code).with("BucketName", bucket)
    }
    return setting.bytes
  }

  /// - Parameter bytes: none: the bucket has no such setting any more.
  func set(_ kind: SettingKind, _ call: Call, _ bytes: [UInt8]) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    guard bytes.count <= BucketSetting.byteLimit else {
      throw S3Error(.entityTooLarge).with("ProposedSize", String(bytes.count))
        .with("MaxSizeAllowed", String(BucketSetting.byteLimit))
    }
    // Also when the answer was lost: it may have been set.
    defer {
      if kind == .cors { corsRules.forget(bucket) }
      if kind == .notifications { notifier.forget(bucket) }
    }
    try await ask { () async throws(BackendError) in
      try await self.backend.set(BucketSetting(kind, bytes), of: bucket)
    }
  }

  func deleteSetting(_ kind: SettingKind, _ call: Call) async throws(S3Error) {
    try await set(kind, call, [])
    await call.answer(204)
  }
}
