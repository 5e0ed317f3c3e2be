import HTTP
import Messages

/// What a policy speaks of: "s3:GetObject".
struct S3Action: Equatable, Sendable {
  /// "s3:getobject", which policies are compared with.
  let lowercase: [UInt8]
  let name: String
  /// Done to objects; all others to buckets, or to the service.
  let isOfObjects: Bool

  private init(_ name: String) {
    self.name = "s3:" + name
    isOfObjects =
      name.contains("Object") && !name.contains("Bucket")
      || [
        "AbortMultipartUpload", "BypassGovernanceRetention", "ListMultipartUploadParts",
        "ObjectOwnerOverrideToBucketOwner", "ReplicateDelete", "ReplicateTags",
      ].contains(name)
    lowercase = Array(self.name.lowercased().utf8)
  }

  /// One of ``all``.
  static func named(_ name: String) -> S3Action {
    guard let found = byName[name] else { preconditionFailure("no such action: \(name)") }
    return found
  }
  static func == (left: S3Action, right: S3Action) -> Bool { left.name == right.name }

  /// Every action that S3 has for buckets and objects ("Actions, resources, and condition keys for Amazon S3"); a policy
  /// with another is refused.
  static let all: [S3Action] = [
    "AbortMultipartUpload", "BypassGovernanceRetention", "CreateBucket", "DeleteBucket",
    "DeleteBucketOwnershipControls", "DeleteBucketPolicy", "DeleteBucketPublicAccessBlock",
    "DeleteBucketWebsite", "DeleteObject", "DeleteObjectTagging", "DeleteObjectVersion",
    "DeleteObjectVersionTagging", "GetAccelerateConfiguration", "GetAnalyticsConfiguration",
    "GetBucketAcl", "GetBucketCORS", "GetBucketLocation", "GetBucketLogging",
    "GetBucketNotification", "GetBucketObjectLockConfiguration", "GetBucketOwnershipControls",
    "GetBucketPolicy", "GetBucketPolicyStatus", "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment", "GetBucketTagging", "GetBucketVersioning", "GetBucketWebsite",
    "GetEncryptionConfiguration", "GetIntelligentTieringConfiguration",
    "GetInventoryConfiguration", "GetLifecycleConfiguration", "GetMetricsConfiguration",
    "GetObject", "GetObjectAcl", "GetObjectAttributes", "GetObjectLegalHold",
    "GetObjectRetention", "GetObjectTagging", "GetObjectTorrent", "GetObjectVersion",
    "GetObjectVersionAcl", "GetObjectVersionAttributes", "GetObjectVersionTagging",
    "GetObjectVersionTorrent", "GetReplicationConfiguration", "ListAllMyBuckets", "ListBucket",
    "ListBucketMultipartUploads", "ListBucketVersions", "ListMultipartUploadParts",
    "ObjectOwnerOverrideToBucketOwner", "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration", "PutBucketAcl", "PutBucketCORS", "PutBucketLogging",
    "PutBucketNotification", "PutBucketObjectLockConfiguration", "PutBucketOwnershipControls",
    "PutBucketPolicy", "PutBucketPublicAccessBlock", "PutBucketRequestPayment",
    "PutBucketTagging", "PutBucketVersioning", "PutBucketWebsite", "PutEncryptionConfiguration",
    "PutIntelligentTieringConfiguration", "PutInventoryConfiguration",
    "PutLifecycleConfiguration", "PutMetricsConfiguration", "PutObject", "PutObjectAcl",
    "PutObjectLegalHold", "PutObjectRetention", "PutObjectTagging", "PutObjectVersionAcl",
    "PutObjectVersionTagging", "PutReplicationConfiguration", "ReplicateDelete",
    "ReplicateObject", "ReplicateTags", "RestoreObject",
  ].map { S3Action($0) }

  private static let byName = Dictionary(
    uniqueKeysWithValues: all.map { (String($0.name.dropFirst(3)), $0) })
}

/// What an action is done to, as policies name it.
enum S3Resource {
  static let prefix = "arn:aws:s3:::"
  /// The service as a whole.
  static let everything = Array("arn:aws:s3:::*".utf8)

  static func bucket(_ name: String) -> [UInt8] { Array((prefix + name).utf8) }
  static func object(_ bucket: String, _ key: String) -> [UInt8] {
    Array(prefix.utf8) + bucket.utf8 + [UInt8(ascii: "/")] + key.utf8
  }
}

/// Which right each operation needs: one table, for those too that are answered with NotImplemented.
struct OperationTable {
  /// What a request needs to be allowed, all of it.
  struct Need: Equatable {
    var action: S3Action
    var bucket: String
    var key: String?
    var resource: [UInt8] {
      key.map { S3Resource.object(bucket, $0) } ?? S3Resource.bucket(bucket)
    }
  }

  private enum Level { case bucket, object }
  private struct Row {
    var level: Level
    /// Of the query that makes the operation; nil: it has none of those that the table knows.
    var item: String?
    var method: String
    /// With `versionId`, where that is another one; empty: none, it is judged elsewhere.
    var actions: [S3Action]
    var versionActions: [S3Action]?

    init(
      _ level: Level, _ method: String, _ item: String?, _ actions: String...,
      version: [String]? = nil
    ) {
      self.level = level
      self.method = method
      self.item = item
      self.actions = actions.map { .named($0) }
      versionActions = version?.map { .named($0) }
    }
  }

  private static let rows = operations + configurations
  private static let operations: [Row] = [
    Row(.bucket, "GET", nil, "ListBucket"), Row(.bucket, "HEAD", nil, "ListBucket"),
    Row(.bucket, "PUT", nil, "CreateBucket"), Row(.bucket, "DELETE", nil, "DeleteBucket"),
    Row(.bucket, "GET", "location", "GetBucketLocation"),
    Row(.bucket, "GET", "uploads", "ListBucketMultipartUploads"),
    Row(.bucket, "GET", "versions", "ListBucketVersions"),
    Row(.bucket, "GET", "policyStatus", "GetBucketPolicyStatus"),
    Row(.bucket, "DELETE", "policy", "DeleteBucketPolicy"),
    Row(.bucket, "DELETE", "website", "DeleteBucketWebsite"),
    // Each key is judged by itself, and so is the form of a browser.
    Row(.bucket, "POST", "delete"), Row(.bucket, "POST", nil),
    Row(.object, "GET", nil, "GetObject", version: ["GetObjectVersion"]),
    Row(.object, "HEAD", nil, "GetObject", version: ["GetObjectVersion"]),
    Row(.object, "PUT", nil, "PutObject"),
    Row(.object, "DELETE", nil, "DeleteObject", version: ["DeleteObjectVersion"]),
    Row(.object, "GET", "acl", "GetObjectAcl", version: ["GetObjectVersionAcl"]),
    Row(.object, "PUT", "acl", "PutObjectAcl", version: ["PutObjectVersionAcl"]),
    Row(.object, "GET", "tagging", "GetObjectTagging", version: ["GetObjectVersionTagging"]),
    Row(.object, "PUT", "tagging", "PutObjectTagging", version: ["PutObjectVersionTagging"]),
    Row(
      .object, "DELETE", "tagging", "DeleteObjectTagging",
      version: ["DeleteObjectVersionTagging"]),
    Row(
      .object, "GET", "attributes", "GetObject", "GetObjectAttributes",
      version: ["GetObjectVersion", "GetObjectVersionAttributes"]),
    Row(.object, "GET", "retention", "GetObjectRetention"),
    Row(.object, "PUT", "retention", "PutObjectRetention"),
    Row(.object, "GET", "legal-hold", "GetObjectLegalHold"),
    Row(.object, "PUT", "legal-hold", "PutObjectLegalHold"),
    Row(.object, "GET", "torrent", "GetObjectTorrent", version: ["GetObjectVersionTorrent"]),
    Row(.object, "POST", "select", "GetObject"), Row(.object, "POST", "restore", "RestoreObject"),
    Row(.object, "POST", "uploads", "PutObject"), Row(.object, "POST", "uploadId", "PutObject"),
    Row(.object, "PUT", "uploadId", "PutObject"), Row(.object, "PUT", "partNumber", "PutObject"),
    Row(.object, "GET", "uploadId", "ListMultipartUploadParts"),
    Row(.object, "DELETE", "uploadId", "AbortMultipartUpload"),
  ]

  /// What buckets have one of, each: read, put, and taken away by whoever may put it.
  private static let configurations: [Row] = {
    var rows: [Row] = []
    for (item, name) in [
      ("accelerate", "AccelerateConfiguration"), ("acl", "BucketAcl"),
      ("analytics", "AnalyticsConfiguration"), ("cors", "BucketCORS"),
      ("encryption", "EncryptionConfiguration"),
      ("intelligent-tiering", "IntelligentTieringConfiguration"),
      ("inventory", "InventoryConfiguration"), ("lifecycle", "LifecycleConfiguration"),
      ("logging", "BucketLogging"), ("metrics", "MetricsConfiguration"),
      ("notification", "BucketNotification"), ("object-lock", "BucketObjectLockConfiguration"),
      ("ownershipControls", "BucketOwnershipControls"), ("policy", "BucketPolicy"),
      ("publicAccessBlock", "BucketPublicAccessBlock"),
      ("replication", "ReplicationConfiguration"), ("requestPayment", "BucketRequestPayment"),
      ("tagging", "BucketTagging"), ("versioning", "BucketVersioning"),
      ("website", "BucketWebsite"),
    ] {
      rows.append(Row(.bucket, "GET", item, "Get" + name))
      rows.append(Row(.bucket, "PUT", item, "Put" + name))
      if item != "policy" && item != "website" {
        rows.append(Row(.bucket, "DELETE", item, "Put" + name))
      }
    }
    return rows
  }()

  /// Headers that ask for more than the operation by itself, and what for.
  private static let headers: [(header: String, action: String)] = [
    ("x-amz-tagging", "PutObjectTagging"),
    ("x-amz-object-lock-mode", "PutObjectRetention"),
    ("x-amz-object-lock-retain-until-date", "PutObjectRetention"),
    ("x-amz-object-lock-legal-hold", "PutObjectLegalHold"),
  ]
  private static let bucketHeaders: [(header: String, action: String)] = [
    ("x-amz-acl", "PutBucketAcl"), ("x-amz-object-ownership", "PutBucketOwnershipControls"),
    ("x-amz-bucket-object-lock-enabled", "PutBucketObjectLockConfiguration"),
    ("x-amz-server-side-encryption", "PutEncryptionConfiguration"),
  ]

  /// Whether a request to a bucket names something that the bucket has, and so is not about the bucket itself.
  static func isAboutPart(_ request: S3Request) -> Bool {
    rows.contains { $0.level == .bucket && $0.item.map { request.has($0) } ?? false }
  }

  /// What a request to a bucket or an object needs. Of a request that names several operations all that any of them needs, so
  /// that it does not matter which is carried out. Nil: nobody may but root.
  static func needs(_ request: S3Request) throws(S3Error) -> [Need]? {
    guard let bucket = request.bucket else { return nil }
    // Asks what another request might do, and does nothing; browsers cannot sign it.
    if request.method == "OPTIONS" { return [] }
    let level = request.key == nil ? Level.bucket : .object
    var found = rows.filter { row in
      row.level == level && row.method == request.method
        && row.item.map { request.has($0) } ?? false
    }
    if found.isEmpty {
      found = rows.filter {
        $0.level == level && $0.method == request.method && $0.item == nil
      }
    }
    guard !found.isEmpty else { return nil }
    let isVersion = request.has("versionId")
    var needs: [Need] = []
    func add(_ action: S3Action) {
      let need = Need(action: action, bucket: bucket, key: request.key)
      if !needs.contains(need) { needs.append(need) }
    }
    for row in found {
      for action in isVersion ? row.versionActions ?? row.actions : row.actions {
        add(action)
      }
    }
    switch (level, request.method) {
    case (.object, "PUT"), (.object, "POST"):
      for (header, action) in headers where request.names(header: header) { add(.named(action)) }
      if let acl = try request.header("x-amz-acl"), !ownerACLs.contains(acl) {
        add(.named("PutObjectAcl"))
      }
      if request.method == "PUT", try request.header("x-amz-copy-source") != nil {
        let (source, version) = try S3Service.copySource(request)
        needs.append(
          Need(
            action: .named(version == .unnamed ? "GetObject" : "GetObjectVersion"),
            bucket: source.bucket,
            key: source.key))
      }
    case (.bucket, "PUT") where found.contains(where: { $0.item == nil }):
      for (header, action) in bucketHeaders where request.names(header: header) {
        add(.named(action))
      }
    default: break
    }
    return needs
  }

  /// They give nobody anything.
  static let ownerACLs = ["private", "bucket-owner-full-control"]
}
