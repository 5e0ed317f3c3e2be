import Messages

/// Canned ACLs by their names, and what each grants, as statements of a policy.
extension CannedACL {
  /// As `x-amz-acl` has it.
  var name: String {
    switch self {
    case .private: "private"
    case .publicRead: "public-read"
    case .publicReadWrite: "public-read-write"
    case .authenticatedRead: "authenticated-read"
    }
  }

  init?(named name: String) {
    guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = found
  }

  /// S3 counts users of any account among the public.
  var isPublic: Bool { self != .private }

  /// What it grants beyond the owner's, group by group.
  var grants: [(group: Group, permission: String)] {
    switch self {
    case .private: []
    case .publicRead: [(.everyone, "READ")]
    case .publicReadWrite: [(.everyone, "READ"), (.everyone, "WRITE")]
    case .authenticatedRead: [(.authenticated, "READ")]
    }
  }

  enum Group: String {
    case everyone = "http://acs.amazonaws.com/groups/global/AllUsers"
    case authenticated = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
  }

  private static let readActions = [
    "ListBucket", "ListBucketVersions", "ListBucketMultipartUploads", "GetObject",
    "GetObjectVersion",
  ]
  private static let writeActions = [
    "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts",
  ]

  /// The policy that it comes to; nil when it grants nothing. Objects have no ACL of their own, so that of their bucket counts for them.
  func document(_ bucket: String) -> PolicyDocument? {
    if grants.isEmpty { return nil }
    let resources = [S3Resource.bucket(bucket), S3Resource.object(bucket, "")]
    return PolicyDocument(
      statements: grants.map { group, permission in
        PolicyDocument.Statement(
          allows: true,
          principals: PolicyDocument.Principals(
            list: [group == .everyone ? .everyone : .authenticated], isInverted: false),
          actions: PolicyDocument.Choice(
            patterns: (permission == "READ" ? Self.readActions : Self.writeActions).map {
              PolicyPattern(exactly: S3Action.named($0).lowercase)
            }, isInverted: false),
          resources: PolicyDocument.Choice(
            patterns: [
              PolicyPattern(exactly: resources[0]), PolicyPattern(beginning: resources[1]),
            ], isInverted: false), conditions: [])
      })
  }
}

extension PolicyPattern {
  init(exactly bytes: [UInt8]) { self.init(parts: [.bytes(bytes)]) }
  init(beginning bytes: [UInt8]) { self.init(parts: [.bytes(bytes), .any]) }
}
