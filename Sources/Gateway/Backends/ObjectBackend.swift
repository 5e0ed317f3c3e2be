package import DataPath
package import Messages

/// Where the gateway keeps objects. Names are as S3 has them; keys are compared by bytes.
///
/// `ClusterBackend` keeps them in a Cairn cluster, `FilesystemBackend` in plain files.
package protocol ObjectBackend: PartBackend, SettingsBackend, VersionBackend, AccessBackend,
  EncryptionBackend, ClassBackend
{
  /// By name.
  func buckets() async throws(BackendError) -> [BucketEntry]
  /// - Parameter keyDomain: empty: it is not encrypted.
  /// - Throws: `bucketExists`, `invalidName`; `keyDomainNotFound`.
  func createBucket(_ name: String, keyDomain: String) async throws(BackendError)
  /// - Throws: `bucketNotFound`, `bucketNotEmpty`.
  func removeBucket(_ name: String) async throws(BackendError)
  func bucketExists(_ name: String) async throws(BackendError) -> Bool

  /// Stores all of `source`; visible as a whole and durable when this returns.
  ///
  /// - Parameter describe: what to keep with it; asked when the source has ended.
  /// - Throws: `source` when the source failed; `preconditionFailed`; `bucketNotFound`. The old object is then untouched.
  func put(
    _ name: ObjectName, source: any ByteSource, precondition: Precondition,
    describe: @escaping @Sendable () async throws(DataPathError) -> ObjectAttributes
  ) async throws(BackendError) -> MadeVersion
  /// - Parameter wanted: the bytes that a ``read(_:_:into:)`` is likely to ask for; may end after the object. Empty: none.
  /// - Throws: `notFound`, `deleted`, `bucketNotFound`; of a version that is named `versionNotFound`, `isDeleteMarker`.
  func find(_ name: ObjectName, version: VersionName, wanted: Range<UInt64>)
    async throws(BackendError) -> FoundObject
  /// Gives bytes of what was found, in order.
  ///
  /// - Parameter range: within the object.
  /// - Throws: `changed` when it was replaced meanwhile; `sink` when the sink failed.
  func read(_ object: FoundObject, _ range: Range<UInt64>, into sink: any ByteSink)
    async throws(BackendError)
  /// - Returns: the delete marker that was made; `unnamed`: none.
  /// - Throws: `notFound`, `bucketNotFound`, `preconditionFailed`.
  @discardableResult
  func delete(_ name: ObjectName, precondition: Precondition) async throws(BackendError)
    -> VersionName
  /// The same bytes under another name, or with other attributes. Moves no bytes where the backend can spare it.
  ///
  /// - Throws: `changed` when `source` was replaced since it was found.
  @discardableResult
  func copy(
    _ source: FoundObject, to target: ObjectName, attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion
  func list(_ request: ListRequest) async throws(BackendError) -> ListPage

  /// Ends all that is under way.
  func close() async
}

extension ObjectBackend {
  /// As buckets are that nobody names a key domain for.
  package func createBucket(_ name: String) async throws(BackendError) {
    try await createBucket(name, keyDomain: defaultKeyDomain)
  }

  /// The current version.
  package func find(_ name: ObjectName, wanted: Range<UInt64>) async throws(BackendError)
    -> FoundObject
  {
    try await find(name, version: .unnamed, wanted: wanted)
  }
}

package struct BucketEntry: Sendable, Equatable {
  package var name: String
  /// Milliseconds since 1970.
  package var created: UInt64
  package init(name: String, created: UInt64) {
    self.name = name
    self.created = created
  }
}

/// One version of an object.
package struct FoundObject: Sendable {
  package var name: ObjectName
  /// Another one whenever the key is written.
  package var version: UInt64
  /// What clients call the version; `unnamed` where the bucket has none.
  package var versionName = VersionName.unnamed
  package var byteCount: UInt64
  /// Milliseconds since 1970.
  package var modified: UInt64
  package var attributes: ObjectAttributes
  /// Names the bytes for those that came without an MD5; hexadecimal, at least 32 digits.
  package var contentName: String
  /// Of its bucket; empty: it is not encrypted.
  package var keyDomain = ""
  /// The backend's own.
  var plan: (any Sendable)?
}

package struct ListRequest: Sendable, Equatable {
  package var bucket: String
  package var prefix = ""
  /// Keys after this one, exclusive, by bytes.
  package var after = ""
  /// Empty: no grouping.
  package var delimiter = ""
  /// 1 ... 1,000, of entries and prefixes together.
  package var limit = 1000
  package init(bucket: String) { self.bucket = bucket }
}

package struct ListPage: Sendable {
  package struct Entry: Sendable {
    package var key: String
    package var byteCount: UInt64
    package var modified: UInt64
    package var attributes: ObjectAttributes
    package var contentName: String
  }
  /// By key.
  package var entries: [Entry] = []
  /// Groups of keys up to the delimiter, ascending.
  package var prefixes: [String] = []
  /// Where to go on, as `after`; nil at the end.
  package var next: String?
}

/// Why a backend did not do what was asked.
package enum BackendError: Error, Equatable {
  case notFound
  /// As `notFound`: a delete marker of that name is current.
  case deleted(VersionName)
  case versionNotFound
  /// The version that is named has no bytes.
  case isDeleteMarker
  /// A retention or a legal hold keeps the version.
  case locked
  /// What the bucket is by now does not allow it.
  case bucketState(String)
  /// The bucket has no locks.
  case noLocks
  case bucketNotFound
  case bucketExists
  case bucketNotEmpty
  case invalidName(String)
  case invalidRange
  /// The key is not as the precondition wants it.
  case preconditionFailed
  /// Replaced meanwhile.
  case changed
  case uploadNotFound
  /// The backend has nothing of the kind.
  case notImplemented
  case partNotFound
  case invalidPartOrder
  /// Neither a user nor an access key of that name.
  case userNotFound
  case keyDomainNotFound(String)
  /// A key domain is closed: the master key that opens it cannot be had.
  case keyUnavailable(String)
  /// Nobody can answer now; whether a change was made may be unknown.
  case unavailable(String)
  /// Too few devices to store safely, or too few blocks to read.
  case quorumNotMet(String)
  /// The source of the bytes failed, and knows why.
  case source(String)
  /// Whoever was to get the bytes is gone.
  case sink(String)
  case failed(String)
  case cancelled

  /// Whether there is no such key.
  var isMissing: Bool {
    switch self {
    case .notFound, .deleted: true
    default: false
    }
  }
}
