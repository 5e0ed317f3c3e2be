/// Users of the S3 gateways, their access keys, and what buckets grant: values and the changes that are asked for.
package import Wire

/// What users, policies and access keys may be called, and how many there may be.
package enum UserRules {
  /// Of one user, when another is made.
  package static let keyCountLimit = 8
  /// Of one user in any case: rotating is possible at the limit too, and leaves the old key, so that nobody is locked out of it by mistake.
  package static let rotatedKeyCountLimit = 16
  /// Of one user.
  package static let policyCountLimit = 10
  /// Of a bucket's policy, and of all of a user's together; S3's limit.
  package static let policyByteLimit = 20 << 10
  /// Of a secret as it is kept.
  package static let sealedByteLimit = 256

  /// The first rule that the name of a user or a policy breaks, for people; nil when it breaks none.
  package static func brokenRule(name: String) -> String? {
    guard (1...64).contains(name.utf8.count) else { return "a name has 1 to 64 characters" }
    guard name.utf8.allSatisfy({ isAlphanumeric($0) || "+=,.@_-".utf8.contains($0) }) else {
      return "a name has only letters, digits and + = , . @ _ -"
    }
    return nil
  }

  /// 16 to 128 letters and digits, as AWS has them.
  package static func isAccessKey(_ name: String) -> Bool {
    (16...128).contains(name.utf8.count) && name.utf8.allSatisfy(isAlphanumeric)
  }

  private static func isAlphanumeric(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "A")...UInt8(ascii: "Z"):
      true
    default: false
    }
  }
}

/// A document in the AWS JSON grammar, as it was given.
package struct NamedPolicy: Hashable, Sendable, WireValue {
  package var name: String
  package var document: String

  package init(name: String, document: String) {
    self.name = name
    self.document = document
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(name)
    writer.string(document)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    name = try reader.string(limit: 256)
    document = try reader.string(limit: UserRules.policyByteLimit)
  }
}

package enum UserChange: Hashable, Sendable, WireValue {
  case create
  /// Its access keys go with it.
  case delete
  case setEnabled(Bool)
  /// Another one, or in the place of the one of that name.
  case setPolicy(NamedPolicy)
  case deletePolicy(String)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .create: writer.fixed(UInt8(0))
    case .delete: writer.fixed(UInt8(1))
    case .setEnabled(let isEnabled):
      writer.fixed(UInt8(2))
      writer.bool(isEnabled)
    case .setPolicy(let policy):
      writer.fixed(UInt8(3))
      writer.value(policy)
    case .deletePolicy(let name):
      writer.fixed(UInt8(4))
      writer.string(name)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .create
    case 1: self = .delete
    case 2: self = .setEnabled(try reader.bool())
    case 3: self = .setPolicy(try reader.value())
    case 4: self = .deletePolicy(try reader.string(limit: 256))
    default: throw .invalid("change of a user")
    }
  }
}

/// Secrets are sealed before they are sent (``SecretBox``).
package enum AccessKeyChange: Hashable, Sendable, WireValue {
  case create(user: String, sealedSecret: [UInt8])
  /// Another key of the same user; the one that the change is about is switched off in the same step.
  case rotate(to: String, sealedSecret: [UInt8])
  case setEnabled(Bool)
  case delete

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .create(let user, let secret):
      writer.fixed(UInt8(0))
      writer.string(user)
      writer.blob(secret)
    case .rotate(let fresh, let secret):
      writer.fixed(UInt8(1))
      writer.string(fresh)
      writer.blob(secret)
    case .setEnabled(let isEnabled):
      writer.fixed(UInt8(2))
      writer.bool(isEnabled)
    case .delete: writer.fixed(UInt8(3))
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0:
      self = .create(
        user: try reader.string(limit: 256),
        sealedSecret: try reader.blob(limit: UserRules.sealedByteLimit))
    case 1:
      self = .rotate(
        to: try reader.string(limit: 256),
        sealedSecret: try reader.blob(limit: UserRules.sealedByteLimit))
    case 2: self = .setEnabled(try reader.bool())
    case 3: self = .delete
    default: throw .invalid("change of an access key")
    }
  }
}

/// Those of S3's canned access control lists that a bucket can have.
package enum CannedACL: UInt8, Hashable, Sendable, CaseIterable, WireValue {
  case `private` = 0
  case publicRead = 1
  case publicReadWrite = 2
  case authenticatedRead = 3

  package func encode(into writer: inout ByteWriter) { writer.fixed(rawValue) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    guard let known = CannedACL(rawValue: try reader.fixed()) else { throw .invalid("canned ACL") }
    self = known
  }
}

/// What a bucket may not open to the public.
package struct PublicAccessBlock: Hashable, Sendable, WireValue {
  package var blocksACLs: Bool
  package var ignoresACLs: Bool
  package var blocksPolicy: Bool
  package var restrictsBucket: Bool

  package init(blocksACLs: Bool, ignoresACLs: Bool, blocksPolicy: Bool, restrictsBucket: Bool) {
    self.blocksACLs = blocksACLs
    self.ignoresACLs = ignoresACLs
    self.blocksPolicy = blocksPolicy
    self.restrictsBucket = restrictsBucket
  }
  package func encode(into writer: inout ByteWriter) {
    writer.bool(blocksACLs)
    writer.bool(ignoresACLs)
    writer.bool(blocksPolicy)
    writer.bool(restrictsBucket)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    blocksACLs = try reader.bool()
    ignoresACLs = try reader.bool()
    blocksPolicy = try reader.bool()
    restrictsBucket = try reader.bool()
  }
}

/// What a bucket says of who may do what with it.
package struct BucketAccess: Hashable, Sendable, WireValue {
  /// A document in the AWS JSON grammar, as it was given.
  package var policy: String?
  package var acl = CannedACL.private
  package var publicAccessBlock: PublicAccessBlock?
  /// Whether its ownership controls say BucketOwnerEnforced, so that it has no ACL.
  package var isOwnerEnforced = false

  /// Of a bucket that says nothing.
  package init() {}

  package func encode(into writer: inout ByteWriter) {
    writer.optional(policy)
    writer.value(acl)
    writer.optional(publicAccessBlock)
    writer.bool(isOwnerEnforced)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    policy = try reader.bool() ? try reader.string(limit: UserRules.policyByteLimit) : nil
    acl = try reader.value()
    publicAccessBlock = try reader.optional()
    isOwnerEnforced = try reader.bool()
  }

  package mutating func apply(_ change: BucketAccessChange) {
    switch change {
    case .policy(let policy): self.policy = policy
    case .acl(let acl): self.acl = acl
    case .publicAccessBlock(let block): publicAccessBlock = block
    case .ownerEnforced(let isOwnerEnforced): self.isOwnerEnforced = isOwnerEnforced
    }
  }
}

/// nil takes away what there is.
package enum BucketAccessChange: Hashable, Sendable, WireValue {
  case policy(String?)
  case acl(CannedACL)
  case publicAccessBlock(PublicAccessBlock?)
  case ownerEnforced(Bool)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .policy(let policy):
      writer.fixed(UInt8(0))
      writer.optional(policy)
    case .acl(let acl):
      writer.fixed(UInt8(1))
      writer.value(acl)
    case .publicAccessBlock(let block):
      writer.fixed(UInt8(2))
      writer.optional(block)
    case .ownerEnforced(let isOwnerEnforced):
      writer.fixed(UInt8(3))
      writer.bool(isOwnerEnforced)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0:
      self = .policy(
        try reader.bool() ? try reader.string(limit: UserRules.policyByteLimit) : nil)
    case 1: self = .acl(try reader.value())
    case 2: self = .publicAccessBlock(try reader.optional())
    case 3: self = .ownerEnforced(try reader.bool())
    default: throw .invalid("change of a bucket's access")
    }
  }
}
