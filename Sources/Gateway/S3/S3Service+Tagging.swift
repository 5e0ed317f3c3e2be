import HTTP
import Messages

/// Tags of objects and buckets.
extension S3Service {
  func getObjectTags(_ call: Call) async throws(S3Error) {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    let found = try await find(name, try Self.version(call.request))
    await call.answer(
      xml: S3Tags(found.attributes).document, Self.versionFields(found.versionName))
  }

  func putObjectTags(_ call: Call) async throws(S3Error) {
    let version = try Self.version(call.request)
    let body = try await wholeBody(call, limit: S3Tags.documentByteLimit)
    try await setTags(call, version, try S3Tags(document: body, limit: S3Tags.objectLimit), 200)
  }

  func deleteObjectTags(_ call: Call) async throws(S3Error) {
    try await setTags(call, try Self.version(call.request), S3Tags(), 204)
  }

  private func setTags(_ call: Call, _ version: VersionName, _ tags: S3Tags, _ status: Int)
    async throws(S3Error)
  {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    let told = try await changing(name, version) { () async throws(BackendError) in
      try await self.backend.setAttributes(
        of: name, version: version, prefix: S3Tags.attributePrefix, tags.attributes)
    }
    await call.answer(status, Self.versionFields(told))
  }

  // MARK: Buckets

  func getBucketTags(_ call: Call) async throws(S3Error) {
    let bytes = try await setting(.tagging, call, or: .noSuchTagSet)
    await call.answer(xml: try S3Tags(document: bytes, limit: S3Tags.bucketLimit).document)
  }

  func putBucketTags(_ call: Call) async throws(S3Error) {
    let body = try await wholeBody(call, limit: S3Tags.documentByteLimit)
    let tags = try S3Tags(document: body, limit: S3Tags.bucketLimit)
    try await set(.tagging, call, tags.pairs.isEmpty ? [] : tags.document)
    await call.answer(204)
  }
}
