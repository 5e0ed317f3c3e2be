import Messages
import Wire

@testable import Gateway

/// What is read of a document must be read again when it is written anew.
enum XMLFuzz {
  private static let roots = [
    "Delete", "CreateBucketConfiguration", "VersioningConfiguration", "Retention", "LegalHold",
    "AccessControlPolicy", "PublicAccessBlockConfiguration", "OwnershipControls", "Tagging",
    "CORSConfiguration", "LifecycleConfiguration", "ObjectLockConfiguration",
    "CompleteMultipartUpload", "NotificationConfiguration", "ServerSideEncryptionConfiguration",
  ]

  static func complaint(_ bytes: [UInt8]) -> String? {
    for root in roots {
      guard let tree = try? XMLTree.read(bytes, root: root) else { continue }
      guard tree.name == root else { return "asked for \(root), got \(tree.name)" }
      if let complaint = check(tree, depth: 1) { return complaint }
    }
    if let tags = try? S3Tags(document: bytes, limit: S3Tags.bucketLimit) {
      guard (try? S3Tags(document: tags.document, limit: S3Tags.bucketLimit)) == tags else {
        return "tags are others when they are written again"
      }
    }
    if let rules = try? S3CORS(document: bytes) {
      guard (try? S3CORS(document: rules.document)) == rules else {
        return "CORS rules are others when they are written again"
      }
      if let rule = rules.rule(origin: "http://a.example", method: "GET", headers: ["x-a"]) {
        _ = rule.fields(origin: "http://a.example")
      }
    }
    if let rules = try? S3Lifecycle.read(bytes) {
      guard (try? S3Lifecycle.read(S3Lifecycle.write(rules))) == rules else {
        return "lifecycle rules are others when they are written again"
      }
      guard (try? Lifecycle(decoding: rules.encoded)) == rules else {
        return "lifecycle rules are others when they are kept"
      }
    }
    if let rules = try? NotificationRules(document: bytes, region: "us-east-1") {
      guard (try? NotificationRules(document: rules.document, region: nil)) == rules else {
        return "notifications are others when they are written again"
      }
    }
    _ = try? S3Service.encryption(document: bytes)
    _ = try? S3Lock.readBucket(bytes)
    _ = try? S3Service.acl(bytes)
    if let parts = try? WantedPart.read(bytes) {
      guard zip(parts, parts.dropFirst()).allSatisfy({ $0.number < $1.number }) else {
        return "parts out of order were taken"
      }
      _ = try? WantedPart.choose(parts, [:], nil)
    }
    return nil
  }

  private static func check(_ tree: XMLTree, depth: Int) -> String? {
    guard depth <= 16 else { return "a tree of more than 16 levels" }
    for child in tree.children {
      if let complaint = check(child, depth: depth + 1) { return complaint }
    }
    return nil
  }
}
