import HTTP
import Messages
import Service

extension S3Service {
  /// There is one owner so far.
  static let ownerID = "cairn"

  static func time(_ milliseconds: UInt64) -> String {
    CivilTime(.milliseconds(Int64(clamping: milliseconds))).rfc3339
  }

  func listBuckets(_ call: Call) async throws(S3Error) {
    let all = try await ask { () async throws(BackendError) in try await self.backend.buckets() }
    let buckets = try call.visible(all)
    var xml = XMLText("ListAllMyBucketsResult")
    xml.group("Owner") {
      $0.element("ID", Self.ownerID)
      $0.element("DisplayName", Self.ownerID)
    }
    xml.group("Buckets") { xml in
      for bucket in buckets {
        xml.group("Bucket") {
          $0.element("Name", bucket.name)
          $0.element("CreationDate", Self.time(bucket.created))
        }
      }
    }
    await call.answer(xml: xml.finish())
  }

  func createBucket(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let hasLocks =
      try call.request.header("x-amz-bucket-object-lock-enabled")?.lowercased() == "true"
    let access = try Self.initialAccess(call.request)
    let asked = try S3Encryption.asked(call.request)
    let keyDomain =
      if let asked { try keyDomain(of: asked) } else { backend.defaultKeyDomain }
    let body = try await wholeBody(call, limit: 64 << 10)
    if !body.isEmpty {
      let tree: XMLTree
      do throws(XMLTree.Malformed) {
        tree = try XMLTree.read(body, root: "CreateBucketConfiguration")
      } catch {
        throw S3Error(.malformedXML)
      }
      let region = tree.value("LocationConstraint") ?? configuration.region
      guard region.isEmpty || region == configuration.region else {
        throw S3Error(
          .illegalLocationConstraint,
          "The \(region) location constraint is incompatible for the region specific endpoint this request was sent to."
        )
      }
    }
    do throws(BackendError) {
      try await backend.createBucket(bucket, keyDomain: keyDomain)
      if hasLocks {
        try await backend.set(BucketLock(), ofBucket: bucket, enablesVersioning: true)
      }
    } catch {
      if case .invalidName = error {
        throw S3Error(.invalidBucketName).with("BucketName", bucket)
      }
      throw S3Error(backend: error).with("BucketName", bucket)
    }
    try await settleAccess(of: bucket, access)
    await call.answer(200, [.init("Location", "/" + bucket)])
  }

  func headBucket(_ call: Call) async throws(S3Error) {
    try await requireBucket(call.request)
    await call.answer(200, [.init("x-amz-bucket-region", configuration.region)])
  }

  func removeBucket(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    try await ask { () async throws(BackendError) in try await self.backend.removeBucket(bucket) }
    try await settleAccess(of: bucket)
    await call.answer(204)
  }

  func getLocation(_ call: Call) async throws(S3Error) {
    try await requireBucket(call.request)
    // The first region of all has no name here.
    let region = configuration.region == "us-east-1" ? "" : configuration.region
    await call.answer(
      xml: XMLText.single("LocationConstraint", region))
  }
}
