/// What clients ask the coordinator to change. Each becomes a command in the metadata log.
package import Cluster
package import Coding
package import Wire

/// When a commit or delete may go ahead.
package enum Precondition: Hashable, Sendable, WireValue {
  case none
  /// There must be no such key.
  case absent
  /// The current version must be this one.
  case identity(UInt64)

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .none: writer.fixed(UInt8(0))
    case .absent: writer.fixed(UInt8(1))
    case .identity(let identity):
      writer.fixed(UInt8(2))
      writer.varint(identity)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .none
    case 1: self = .absent
    case 2: self = .identity(try reader.varint())
    default: throw .invalid("precondition")
    }
  }
}

package struct ObjectName: Hashable, Sendable, WireValue {
  package var bucket: String
  /// 1 ... 1,024 bytes of UTF-8.
  package var key: String
  package init(bucket: String, key: String) {
    self.bucket = bucket
    self.key = key
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(bucket)
    writer.string(key)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    bucket = try reader.string(limit: 4096)
    key = try reader.string(limit: 4096)
  }
}

package enum ClientCommand: Hashable, Sendable, WireValue {
  /// 3 ... 63 of a-z 0-9 . - as S3 has it. No class named: the standard one; no key domain: not encrypted. Refused: bucketExists,
  /// invalidName, noSuchClass, noSuchKeyDomain. -> done
  case createBucket(name: String, storageClass: String = "", keyDomain: String = "")
  /// Refused: noSuchBucket, bucketNotEmpty. -> done
  case removeBucket(name: String)
  /// An upload holds an edge to all that its writer registered, put or found, until it ends or its session expires. -> number(upload)
  case openUpload
  /// -> done
  case endUpload(upload: UInt64)
  /// A container of that domain to append to. `avoid`: devices that failed the writer lately. The leader
  /// fills in `placement`; clients leave it nil. Refused: tooFewDomains, noSuchUpload, noSuchClass. -> grant
  case requestGrant(
    upload: UInt64, avoid: [DeviceID], placement: Placement?, domain: ChunkDomain = .standard)
  /// The writer is done with the container (full or not); it may be granted again. -> done
  case releaseGrant(grant: UInt64, container: ContainerID)
  /// Registers stripes whose every block is acknowledged, and makes their ordinals nameable; the upload gets
  /// edges to them. `dataKeys`: all that their groups are sealed with, of this upload; none in a plain domain. Refused:
  /// grantEnded, noSuchUpload. -> done
  case registerStripes(
    upload: UInt64, grant: UInt64, container: ContainerID, stripes: [StripeRecord],
    dataKeys: [UInt64] = [])
  /// A new data key for this upload alone to seal groups with. The leader fills in `key`; clients leave it nil. Refused:
  /// noSuchUpload, noSuchKeyDomain, keyUnavailable, unavailable (the upload has too many). -> number(the key's)
  case makeDataKey(upload: UInt64, domain: KeyDomainID, key: NewDataKey?)
  /// Takes an edge from the upload to each ordinal of chunks found by fingerprint. -> missing (those not alive any
  /// more; the others are held)
  case holdChunks(upload: UInt64, runs: [Run])
  /// -> number(page identity), or missing when a run's ordinal or a child is not alive (nothing changed then).
  case putPage(upload: UInt64, page: Page)
  /// Makes the version current; the one before goes to the trash, or stays as the bucket's versioning says. `modified`: 0, filled in by the leader.
  /// With `unlessIdentical` the leader answers number(identity of the current version) and logs nothing when the current version has the same
  /// contentHash, byteCount and attributes.
  /// Refused: noSuchBucket, invalidName, preconditionFailed, otherClass (the bytes are not of the bucket's domain),
  /// noLocks.
  /// -> number(identity), version(identity) where the bucket has versions, or missing
  case commitObject(
    upload: UInt64, name: ObjectName, content: ObjectContent, byteCount: UInt64,
    contentHash: Fingerprint, attributes: ObjectAttributes, precondition: Precondition,
    unlessIdentical: Bool, modified: UInt64)
  /// Where the bucket has versions a delete marker becomes the current one, whether the key is there or not. Refused: noSuchBucket,
  /// noSuchKey, preconditionFailed. -> done, or version(the marker's identity)
  case deleteObject(name: ObjectName, precondition: Precondition)
  /// Same content under another name, in O(1); `attributes` nil keeps the source's. With `move` the source is deleted in the same step.
  /// `sourceIdentity`: the version that is copied, 0 for the current one; one that moves must be current. Refused: noSuchBucket, noSuchKey, invalidName, sourceChanged,
  /// preconditionFailed (of the target), otherClass, isDeleteMarker. -> number(identity) or version(identity)
  case copyObject(
    source: ObjectName, sourceIdentity: UInt64, target: ObjectName, attributes: ObjectAttributes?,
    move: Bool, precondition: Precondition, modified: UInt64)
  /// Begins a multipart upload. `modified`: 0, filled in by the leader, as in those that follow.
  /// Refused: noSuchBucket, invalidName. -> number(multipart)
  case createMultipart(
    name: ObjectName, attributes: ObjectAttributes, owner: String, modified: UInt64)
  /// Makes a page one part of a multipart upload, in the place of one put before under its number.
  /// Refused: noSuchBucket, noSuchMultipart, noSuchUpload, malformed. -> number(identity) or missing
  case putPart(upload: UInt64, multipart: MultipartName, part: NewPart, modified: UInt64)
  /// Makes the parts the current version of the key, in the order of their numbers, and ends the multipart upload. `root`: a page whose
  /// children are the root pages of all parts that have bytes, or whose children's children are where these are more than 1,024; 0
  /// when none has any. Refused: noSuchBucket, noSuchMultipart, noSuchPart, partOrder, noSuchUpload, preconditionFailed,
  /// malformed. -> number(identity), version(identity) where the bucket has versions, or missing
  case completeMultipart(
    upload: UInt64, multipart: MultipartName, parts: [PartChoice], root: UInt64,
    attributes: ObjectAttributes, precondition: Precondition, modified: UInt64)
  /// Refused: noSuchBucket, noSuchMultipart. -> done
  case abortMultipart(MultipartName)
  /// Gives a bucket a setting, in the place of one of its kind; without bytes: none. Refused: noSuchBucket, malformed. -> done
  case setBucketSetting(bucket: String, BucketSetting)
  /// Refused: noSuchBucket; bucketState when versioning was on and is to be off. -> done
  case setVersioning(bucket: String, BucketVersioning)
  /// Takes one version away, with its bytes; the next older one is current again when that was the newest and is no marker.
  /// Refused: noSuchBucket, noSuchVersion; objectLocked. -> done, or version(identity) when it was a delete marker
  case deleteVersion(name: ObjectName, version: VersionName, bypassesGovernance: Bool = false)
  /// The bucket has locks from now on, and new versions this retention unless they bring their own. `enablesVersioning`: which it
  /// needs. Refused: noSuchBucket, bucketState. -> done
  case setBucketLock(bucket: String, BucketLock, enablesVersioning: Bool)
  /// Refused: noSuchBucket, noSuchKey, noSuchVersion, isDeleteMarker, noLocks; objectLocked when what is there holds longer.
  /// -> version(identity)
  case setLock(
    name: ObjectName, version: VersionName, change: LockChange, bypassesGovernance: Bool)
  /// Gives a version these user attributes in the place of all whose names begin with `prefix`, as all of theirs do. It stays the
  /// same version. Refused: noSuchBucket, noSuchKey, noSuchVersion, isDeleteMarker, malformed. -> done, or version(identity) where
  /// the bucket has versions
  case setAttributes(
    name: ObjectName, version: VersionName, prefix: String,
    attributes: [ObjectAttributes.UserAttribute])
  /// Gives a version this content, which is its own stored anew in another class, and the tier as its name. It stays the same version
  /// in all that clients see but the tier. `content`: nil where none is stored anew, the version being inlined or of that class
  /// already. One that is as far already stays as it is. Refused: noSuchBucket, noSuchVersion, noSuchClass, otherClass, noSuchUpload,
  /// malformed. -> done, or missing
  case moveVersion(
    upload: UInt64, name: ObjectName, identity: UInt64, domain: ChunkDomain,
    content: ObjectContent?, tier: ObjectTier)
  /// Refused: invalidName, userExists, noSuchUser, noSuchPolicy, malformed (too many, too large). -> done
  case changeUser(name: String, UserChange)
  /// Refused: invalidName, noSuchUser, noSuchAccessKey, malformed (too many; there already). -> done
  case changeAccessKey(name: String, AccessKeyChange)
  /// Refused: noSuchBucket. -> done
  case changeBucketAccess(bucket: String, BucketAccessChange)

  /// What the leader chose for a grant.
  package struct Placement: Hashable, Sendable, WireValue {
    package var scheme: Scheme
    package var devices: [DeviceID]
    package init(scheme: Scheme, devices: [DeviceID]) {
      self.scheme = scheme
      self.devices = devices
    }
    package func encode(into writer: inout ByteWriter) {
      writer.value(scheme)
      writer.list(devices)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      scheme = try reader.value()
      devices = try reader.list(limit: 64)
      guard devices.count == scheme.width else { throw .invalid("placement") }
    }
  }

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .createBucket(let name, let storageClass, let keyDomain):
      writer.fixed(UInt8(keyDomain.isEmpty ? 1 : 40))
      writer.string(name)
      writer.string(storageClass)
      if !keyDomain.isEmpty { writer.string(keyDomain) }
    case .removeBucket(let name):
      writer.fixed(UInt8(2))
      writer.string(name)
    case .openUpload:
      writer.fixed(UInt8(3))
    case .endUpload(let upload):
      writer.fixed(UInt8(4))
      writer.varint(upload)
    case .requestGrant(let upload, let avoid, let placement, let domain):
      writer.fixed(UInt8(5))
      writer.varint(upload)
      writer.list(avoid)
      writer.optional(placement)
      writer.value(domain)
    case .releaseGrant(let grant, let container):
      writer.fixed(UInt8(6))
      writer.varint(grant)
      writer.value(container)
    case .registerStripes(let upload, let grant, let container, let stripes, let dataKeys):
      writer.fixed(UInt8(dataKeys.isEmpty ? 7 : 41))
      writer.varint(upload)
      writer.varint(grant)
      writer.value(container)
      writer.list(stripes)
      if !dataKeys.isEmpty { writer.list(dataKeys) }
    case .makeDataKey(let upload, let domain, let key):
      writer.fixed(UInt8(42))
      writer.varint(upload)
      writer.value(domain)
      writer.optional(key)
    case .holdChunks(let upload, let runs):
      writer.fixed(UInt8(8))
      writer.varint(upload)
      writer.list(runs)
    case .putPage(let upload, let page):
      writer.fixed(UInt8(9))
      writer.varint(upload)
      writer.value(page)
    case .commitObject(
      let upload, let name, let content, let byteCount, let contentHash, let attributes,
      let precondition, let unlessIdentical, let modified):
      writer.fixed(UInt8(10))
      writer.varint(upload)
      writer.value(name)
      writer.value(content)
      writer.varint(byteCount)
      writer.value(contentHash)
      writer.value(attributes)
      writer.value(precondition)
      writer.bool(unlessIdentical)
      writer.varint(modified)
    case .deleteObject(let name, let precondition):
      writer.fixed(UInt8(11))
      writer.value(name)
      writer.value(precondition)
    case .copyObject(
      let source, let sourceIdentity, let target, let attributes, let move, let precondition,
      let modified):
      writer.fixed(UInt8(12))
      writer.value(source)
      writer.varint(sourceIdentity)
      writer.value(target)
      writer.optional(attributes)
      writer.bool(move)
      writer.value(precondition)
      writer.varint(modified)
    case .createMultipart(let name, let attributes, let owner, let modified):
      writer.fixed(UInt8(22))
      writer.value(name)
      writer.value(attributes)
      writer.string(owner)
      writer.varint(modified)
    case .putPart(let upload, let multipart, let part, let modified):
      writer.fixed(UInt8(23))
      writer.varint(upload)
      writer.value(multipart)
      writer.value(part)
      writer.varint(modified)
    case .completeMultipart(
      let upload, let multipart, let parts, let root, let attributes, let precondition,
      let modified):
      writer.fixed(UInt8(24))
      writer.varint(upload)
      writer.value(multipart)
      writer.list(parts)
      writer.varint(root)
      writer.value(attributes)
      writer.value(precondition)
      writer.varint(modified)
    case .abortMultipart(let multipart):
      writer.fixed(UInt8(25))
      writer.value(multipart)
    case .setBucketSetting(let bucket, let setting):
      writer.fixed(UInt8(30))
      writer.string(bucket)
      writer.value(setting)
    case .setVersioning(let bucket, let versioning):
      writer.fixed(UInt8(31))
      writer.string(bucket)
      writer.value(versioning)
    case .deleteVersion(let name, let version, let bypassesGovernance):
      writer.fixed(UInt8(32))
      writer.value(name)
      writer.value(version)
      writer.bool(bypassesGovernance)
    case .setBucketLock(let bucket, let lock, let enablesVersioning):
      writer.fixed(UInt8(34))
      writer.string(bucket)
      writer.value(lock)
      writer.bool(enablesVersioning)
    case .setLock(let name, let version, let change, let bypassesGovernance):
      writer.fixed(UInt8(35))
      writer.value(name)
      writer.value(version)
      writer.value(change)
      writer.bool(bypassesGovernance)
    case .setAttributes(let name, let version, let prefix, let attributes):
      writer.fixed(UInt8(33))
      writer.value(name)
      writer.value(version)
      writer.string(prefix)
      writer.list(attributes)
    case .moveVersion(let upload, let name, let identity, let domain, let content, let tier):
      writer.fixed(UInt8(50))
      writer.varint(upload)
      writer.value(name)
      writer.varint(identity)
      writer.value(domain)
      writer.optional(content)
      writer.value(tier)
    case .changeUser(let name, let change):
      writer.fixed(UInt8(26))
      writer.string(name)
      writer.value(change)
    case .changeAccessKey(let name, let change):
      writer.fixed(UInt8(27))
      writer.string(name)
      writer.value(change)
    case .changeBucketAccess(let bucket, let change):
      writer.fixed(UInt8(28))
      writer.string(bucket)
      writer.value(change)
    }
  }

  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 1:
      self = .createBucket(
        name: try reader.string(limit: 4096), storageClass: try reader.string(limit: 4096))
    case 40:
      self = .createBucket(
        name: try reader.string(limit: 4096), storageClass: try reader.string(limit: 4096),
        keyDomain: try reader.string(limit: 4096))
    case 2: self = .removeBucket(name: try reader.string(limit: 4096))
    case 3: self = .openUpload
    case 4: self = .endUpload(upload: try reader.varint())
    case 5:
      self = .requestGrant(
        upload: try reader.varint(), avoid: try reader.list(limit: 4096),
        placement: try reader.optional(), domain: try reader.value())
    case 6: self = .releaseGrant(grant: try reader.varint(), container: try reader.value())
    case 7:
      self = .registerStripes(
        upload: try reader.varint(), grant: try reader.varint(), container: try reader.value(),
        stripes: try reader.list(limit: 4096))
    case 41:
      self = .registerStripes(
        upload: try reader.varint(), grant: try reader.varint(), container: try reader.value(),
        stripes: try reader.list(limit: 4096), dataKeys: try reader.list(limit: 4096))
    case 42:
      self = .makeDataKey(
        upload: try reader.varint(), domain: try reader.value(), key: try reader.optional())
    case 8:
      self = .holdChunks(upload: try reader.varint(), runs: try reader.list(limit: 1 << 16))
    case 9: self = .putPage(upload: try reader.varint(), page: try reader.value())
    case 10:
      self = .commitObject(
        upload: try reader.varint(), name: try reader.value(), content: try reader.value(),
        byteCount: try reader.varint(), contentHash: try reader.value(),
        attributes: try reader.value(), precondition: try reader.value(),
        unlessIdentical: try reader.bool(), modified: try reader.varint())
    case 11:
      self = .deleteObject(name: try reader.value(), precondition: try reader.value())
    case 12:
      self = .copyObject(
        source: try reader.value(), sourceIdentity: try reader.varint(),
        target: try reader.value(), attributes: try reader.optional(),
        move: try reader.bool(), precondition: try reader.value(), modified: try reader.varint())
    case 22:
      self = .createMultipart(
        name: try reader.value(), attributes: try reader.value(),
        owner: try reader.string(limit: 4096), modified: try reader.varint())
    case 23:
      self = .putPart(
        upload: try reader.varint(), multipart: try reader.value(), part: try reader.value(),
        modified: try reader.varint())
    case 24:
      self = .completeMultipart(
        upload: try reader.varint(), multipart: try reader.value(),
        parts: try reader.list(limit: Int(NewPart.numbers.upperBound)),
        root: try reader.varint(), attributes: try reader.value(),
        precondition: try reader.value(), modified: try reader.varint())
    case 25: self = .abortMultipart(try reader.value())
    case 30:
      self = .setBucketSetting(bucket: try reader.string(limit: 4096), try reader.value())
    case 31: self = .setVersioning(bucket: try reader.string(limit: 4096), try reader.value())
    case 32:
      self = .deleteVersion(
        name: try reader.value(), version: try reader.value(),
        bypassesGovernance: try reader.bool())
    case 34:
      self = .setBucketLock(
        bucket: try reader.string(limit: 4096), try reader.value(),
        enablesVersioning: try reader.bool())
    case 35:
      self = .setLock(
        name: try reader.value(), version: try reader.value(), change: try reader.value(),
        bypassesGovernance: try reader.bool())
    case 33:
      self = .setAttributes(
        name: try reader.value(), version: try reader.value(),
        prefix: try reader.string(limit: 1024),
        attributes: try reader.list(limit: ObjectAttributes.userLimit))
    case 50:
      self = .moveVersion(
        upload: try reader.varint(), name: try reader.value(), identity: try reader.varint(),
        domain: try reader.value(), content: try reader.optional(), tier: try reader.value())
    case 26: self = .changeUser(name: try reader.string(limit: 4096), try reader.value())
    case 27: self = .changeAccessKey(name: try reader.string(limit: 4096), try reader.value())
    case 28:
      self = .changeBucketAccess(bucket: try reader.string(limit: 4096), try reader.value())
    default: throw .invalid("command")
    }
  }
}

/// What a command answered. It is kept with the session until the client has surely seen it.
package enum CommandOutcome: Hashable, Sendable, WireValue {
  case done
  case number(UInt64)
  /// A version, or a delete marker, in a bucket that has versions: its identity, and what it is called.
  case version(identity: UInt64, VersionName)
  case grant(SignedGrantBytes)
  /// Ordinals and child pages that are not alive any more; the client stores those chunks again.
  case missing(runs: [Run], pages: [UInt64])
  case refused(code: UInt16, reason: String)

  /// The state machine answers with the bare grant; the leader signs it on its way out (`SignedGrant.encoded`).
  package typealias SignedGrantBytes = [UInt8]

  package func encode(into writer: inout ByteWriter) {
    switch self {
    case .done: writer.fixed(UInt8(0))
    case .number(let number):
      writer.fixed(UInt8(1))
      writer.varint(number)
    case .grant(let bytes):
      writer.fixed(UInt8(2))
      writer.blob(bytes)
    case .missing(let runs, let pages):
      writer.fixed(UInt8(3))
      writer.list(runs)
      writer.list(pages)
    case .refused(let code, let reason):
      writer.fixed(UInt8(4))
      writer.fixed(code)
      writer.string(reason)
    case .version(let identity, let name):
      writer.fixed(UInt8(5))
      writer.varint(identity)
      writer.value(name)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    switch try reader.fixed(UInt8.self) {
    case 0: self = .done
    case 1: self = .number(try reader.varint())
    case 2: self = .grant(try reader.blob(limit: 1 << 16))
    case 3: self = .missing(runs: try reader.list(), pages: try reader.list())
    case 4: self = .refused(code: try reader.fixed(), reason: try reader.string())
    case 5: self = .version(identity: try reader.varint(), try reader.value())
    default: throw .invalid("outcome")
    }
  }
}
