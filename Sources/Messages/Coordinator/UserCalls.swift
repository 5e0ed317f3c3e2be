/// Users, access keys and what buckets grant, read. Methods 565 ... 568. They are changed by commands of a client.
package import Wire

/// Users by name. Policies and keys are named, no more.
package struct ListUsers: Call {
  package static let method: UInt16 = 565
  package var level: ReadLevel
  /// Names after this one.
  package var after: String
  /// 1 ... 1,000
  package var limit: UInt32

  package init(level: ReadLevel, after: String, limit: UInt32) {
    self.level = level
    self.after = after
    self.limit = limit
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(after)
    writer.varint(limit)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    after = try reader.string(limit: 4096)
    limit = try reader.varint32()
  }

  package struct Answer: Hashable, Sendable, WireValue {
    package var users: [Entry]
    package var isLast: Bool
    package init(users: [Entry], isLast: Bool) {
      self.users = users
      self.isLast = isLast
    }
    package func encode(into writer: inout ByteWriter) {
      writer.list(users)
      writer.bool(isLast)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      users = try reader.list()
      isLast = try reader.bool()
    }
  }

  package struct Entry: Hashable, Sendable, WireValue {
    package var name: String
    /// Milliseconds since 1970.
    package var created: UInt64
    package var isEnabled: Bool
    package var accessKeys: [String]
    package var policies: [String]

    package init(
      name: String, created: UInt64, isEnabled: Bool, accessKeys: [String], policies: [String]
    ) {
      self.name = name
      self.created = created
      self.isEnabled = isEnabled
      self.accessKeys = accessKeys
      self.policies = policies
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.varint(created)
      writer.bool(isEnabled)
      writer.list(accessKeys)
      writer.list(policies)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string(limit: 256)
      created = try reader.varint()
      isEnabled = try reader.bool()
      accessKeys = try reader.list()
      policies = try reader.list()
    }
  }
}

/// One user, policies and all. Refused: noSuchUser.
package struct GetUser: Call {
  package static let method: UInt16 = 566
  package var level: ReadLevel
  package var name: String

  package init(level: ReadLevel, name: String) {
    self.level = level
    self.name = name
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(name)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.string(limit: 4096)
  }

  package struct Answer: Hashable, Sendable, WireValue {
    /// Milliseconds since 1970.
    package var created: UInt64
    package var isEnabled: Bool
    /// In the order in which they were made.
    package var accessKeys: [Key]
    /// By name.
    package var policies: [NamedPolicy]

    package init(created: UInt64, isEnabled: Bool, accessKeys: [Key], policies: [NamedPolicy]) {
      self.created = created
      self.isEnabled = isEnabled
      self.accessKeys = accessKeys
      self.policies = policies
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(created)
      writer.bool(isEnabled)
      writer.list(accessKeys)
      writer.list(policies)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      created = try reader.varint()
      isEnabled = try reader.bool()
      accessKeys = try reader.list()
      policies = try reader.list()
    }
  }

  /// Of its secret nothing is told.
  package struct Key: Hashable, Sendable, WireValue {
    package var name: String
    /// Milliseconds since 1970.
    package var created: UInt64
    package var isEnabled: Bool

    package init(name: String, created: UInt64, isEnabled: Bool) {
      self.name = name
      self.created = created
      self.isEnabled = isEnabled
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(name)
      writer.varint(created)
      writer.bool(isEnabled)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      name = try reader.string(limit: 256)
      created = try reader.varint()
      isEnabled = try reader.bool()
    }
  }
}

/// What a gateway needs to know of whoever signs with an access key. Refused: noSuchAccessKey, also for one that is switched
/// off, or whose user is.
package struct FindAccessKey: Call {
  package static let method: UInt16 = 567
  package var level: ReadLevel
  package var name: String

  package init(level: ReadLevel, name: String) {
    self.level = level
    self.name = name
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(name)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    name = try reader.string(limit: 4096)
  }

  package struct Answer: Hashable, Sendable, WireValue {
    package var user: String
    /// ``SecretBox``
    package var sealedSecret: [UInt8]
    package var policies: [NamedPolicy]

    package init(user: String, sealedSecret: [UInt8], policies: [NamedPolicy]) {
      self.user = user
      self.sealedSecret = sealedSecret
      self.policies = policies
    }
    package func encode(into writer: inout ByteWriter) {
      writer.string(user)
      writer.blob(sealedSecret)
      writer.list(policies)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      user = try reader.string(limit: 256)
      sealedSecret = try reader.blob(limit: UserRules.sealedByteLimit)
      policies = try reader.list()
    }
  }
}

/// Refused: noSuchBucket.
package struct GetBucketAccess: Call {
  package static let method: UInt16 = 568
  package typealias Answer = BucketAccess
  package var level: ReadLevel
  package var bucket: String

  package init(level: ReadLevel, bucket: String) {
    self.level = level
    self.bucket = bucket
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(level)
    writer.string(bucket)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    level = try reader.value()
    bucket = try reader.string(limit: 4096)
  }
}
