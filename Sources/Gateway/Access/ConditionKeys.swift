/// What a request has that conditions and policy variables may ask for, by condition key in lower case.
struct RequestContext: Sendable {
  private var values: [String: String] = [:]

  subscript(key: String) -> String? {
    get { values[key] }
    set { values[key] = newValue }
  }
}

/// The condition keys that there are; a policy with another is refused.
enum ConditionKeys {
  static let sourceIP = "aws:sourceip"
  static let userName = "aws:username"
  static let userID = "aws:userid"
  static let principalARN = "aws:principalarn"

  private static let known: Set<String> = [
    sourceIP, userName, userID, principalARN, "aws:principalaccount", "aws:principaltype",
    "aws:securetransport", "aws:currenttime", "aws:epochtime", "aws:useragent", "aws:referer",
    "s3:prefix", "s3:delimiter", "s3:max-keys", "s3:versionid", "s3:signatureversion",
    "s3:authtype", "s3:signatureage", "s3:x-amz-acl",
    "s3:x-amz-content-sha256", "s3:x-amz-copy-source", "s3:x-amz-metadata-directive",
    "s3:x-amz-storage-class", "s3:x-amz-server-side-encryption", "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-grant-read", "s3:x-amz-grant-write", "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write-acp", "s3:x-amz-grant-full-control",
  ]
  /// Those that are a header of the request.
  static let headers = [
    "x-amz-acl", "x-amz-content-sha256", "x-amz-copy-source", "x-amz-metadata-directive",
    "x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-object-ownership",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-grant-read", "x-amz-grant-write", "x-amz-grant-read-acp", "x-amz-grant-write-acp",
    "x-amz-grant-full-control",
  ]

  /// - Parameter key: in lower case.
  static func isKnown(_ key: String) -> Bool { known.contains(key) }
}
