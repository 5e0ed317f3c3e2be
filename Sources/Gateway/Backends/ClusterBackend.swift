import Coding
package import DataPath
package import Messages
import Ring

/// Objects in a Cairn cluster. Loop-confined.
package final class ClusterBackend: ObjectBackend, @unchecked Sendable {
  // Loop-confined.
  let access: ClusterAccess
  private let reader: ObjectReader
  private let writers: WriterRotation
  /// Ends what `access` stands on.
  private let onClose: @Sendable () async -> Void
  /// Opens what users' secrets are sealed in; nil: there are no users.
  let secrets: SecretBox?
  /// Of buckets that are made through it; empty: none.
  package let defaultKeyDomain: String
  var keyDomainNames: [KeyDomainID: String] = [:]

  /// - Parameters:
  ///   - secrets: of the cluster whose users may ask; nil: none but those of the gateway's configuration.
  ///   - keyDomain: of buckets that are made through it; empty: they are not encrypted.
  ///   - onClose: called when nothing uses `access` any more.
  package init(
    _ access: ClusterAccess, options: ObjectWriter.Options = ObjectWriter.Options(),
    secrets: SecretBox? = nil, keyDomain: String = "",
    onClose: @escaping @Sendable () async -> Void = {}
  ) {
    self.access = access
    self.secrets = secrets
    defaultKeyDomain = keyDomain
    self.onClose = onClose
    reader = ObjectReader(access)
    writers = WriterRotation(access, options: options)
  }

  package func close() async {
    await writers.close()
    await onClose()
  }

  /// Whoever asks over HTTP will ask again: to be told soon that nobody answers is worth more than to wait.
  private static let patience = Duration.seconds(4)

  func ask<Request: Call>(_ request: Request) async throws(BackendError) -> Request.Answer {
    do throws(DataPathError) {
      return try await access.coordinator.query(request, patience: Self.patience)
    } catch {
      throw BackendError(error)
    }
  }

  /// Before bytes are taken from a client: a writer waits for a leader for longer than clients do.
  func expectLeader() async throws(BackendError) {
    if access.coordinator.isCutOff { _ = try await ask(ListBuckets(level: .strong)) }
  }

  @discardableResult
  func change(_ command: ClientCommand) async throws(BackendError) -> CommandOutcome {
    do throws(DataPathError) {
      return try await access.coordinator.execute(command, patience: Self.patience)
    } catch {
      throw BackendError(error)
    }
  }

  /// Has one of the writers do it.
  func write<Value>(_ body: (ObjectWriter) async throws(DataPathError) -> Value)
    async throws(BackendError) -> Value
  {
    do throws(DataPathError) {
      return try await writers.use(body)
    } catch {
      throw BackendError(error)
    }
  }

  // MARK: Buckets

  package func buckets() async throws(BackendError) -> [BucketEntry] {
    try await ask(ListBuckets(level: .strong)).buckets.map {
      BucketEntry(name: $0.name, created: $0.created)
    }
  }
  package func createBucket(_ name: String, keyDomain: String) async throws(BackendError) {
    try await change(.createBucket(name: name, keyDomain: keyDomain))
  }
  package func removeBucket(_ name: String) async throws(BackendError) {
    try await change(.removeBucket(name: name))
  }
  package func bucketExists(_ name: String) async throws(BackendError) -> Bool {
    do throws(BackendError) {
      _ = try await ask(
        ListObjects(
          level: .strong, bucket: name, prefix: "", after: "", delimiter: "", limit: 0))
      return true
    } catch {
      if error == .bucketNotFound { return false }
      throw error
    }
  }

  // MARK: Objects

  package func put(
    _ name: ObjectName, source: any ByteSource, precondition: Precondition,
    describe: @escaping @Sendable () async throws(DataPathError) -> ObjectAttributes
  ) async throws(BackendError) -> MadeVersion {
    try await expectLeader()
    return try await write { writer throws(DataPathError) in
      let put = try await writer.put(
        name, source: source, precondition: precondition, describe: describe)
      return MadeVersion(identity: put.identity, name: put.version)
    }
  }

  package func find(_ name: ObjectName, version: VersionName, wanted: Range<UInt64>)
    async throws(BackendError) -> FoundObject
  {
    let identity = try await identity(of: version, name)
    var plan: ResolveRange.Answer
    var planned = wanted
    do throws(DataPathError) {
      do throws(DataPathError) {
        plan = try await reader.resolve(name, identity: identity, wanted)
      } catch {
        // It begins after the end; the caller will see that by itself.
        guard error.refusalCode == .invalidRange else { throw error }
        planned = 0..<0
        plan = try await reader.resolve(name, identity: identity, planned)
      }
    } catch {
      let error = BackendError(error)
      let isGone = identity != 0 && (error.isMissing || error == .changed)
      throw isGone ? BackendError.versionNotFound : error
    }
    return FoundObject(
      name: name, version: plan.identity, versionName: plan.name, byteCount: plan.objectByteCount,
      modified: plan.modified, attributes: plan.attributes, contentName: plan.contentHash.hex,
      keyDomain: try await self.name(of: plan.keyDomain),
      plan: Planned(range: planned, answer: plan))
  }

  /// 0: the current version.
  private func identity(of version: VersionName, _ name: ObjectName) async throws(BackendError)
    -> UInt64
  {
    switch version {
    case .unnamed: return 0
    case .identity(let identity): return identity
    case .null:
      let entry = try await ask(FindVersion(level: .strong, name: name, version: .null)).entry
      if entry.isMarker { throw .isDeleteMarker }
      return entry.identity
    }
  }

  /// What the coordinator said of the bytes that were wanted.
  private struct Planned: Sendable {
    var range: Range<UInt64>
    var answer: ResolveRange.Answer
  }

  package func read(_ object: FoundObject, _ range: Range<UInt64>, into sink: any ByteSink)
    async throws(BackendError)
  {
    var plan: ResolveRange.Answer?
    if let planned = object.plan as? Planned, planned.range.lowerBound == range.lowerBound,
      min(planned.range.upperBound, object.byteCount) == range.upperBound
    {
      plan = planned.answer
    }
    do throws(DataPathError) {
      try await reader.read(
        object.name, identity: object.version, range: range, plan: plan, into: sink)
    } catch {
      throw BackendError(error)
    }
  }

  package func delete(_ name: ObjectName, precondition: Precondition) async throws(BackendError)
    -> VersionName
  {
    try await change(.deleteObject(name: name, precondition: precondition)).made?.name ?? .unnamed
  }

  package func copy(
    _ source: FoundObject, to target: ObjectName, attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion {
    do throws(DataPathError) {
      let outcome = try await access.coordinator.execute(
        .copyObject(
          source: source.name, sourceIdentity: source.version, target: target,
          attributes: attributes, move: false, precondition: precondition, modified: 0),
        patience: Self.patience)
      guard let made = outcome.made else {
        throw DataPathError.corrupt("a copy was answered with \(outcome)")
      }
      return made
    } catch {
      guard error.refusalCode == .otherClass else { throw BackendError(error) }
    }
    // Its chunks cannot be shared: the bytes are stored anew.
    let put = try await write { writer throws(DataPathError) in
      try await writer.put(
        target, attributes: attributes,
        source: ObjectSource(
          access, source.name, identity: source.version, range: 0..<source.byteCount),
        precondition: precondition, unlessIdentical: false)
    }
    return MadeVersion(identity: put.identity, name: put.version)
  }

  package func list(_ request: ListRequest) async throws(BackendError) -> ListPage {
    let answer = try await ask(
      ListObjects(
        level: .strong, bucket: request.bucket, prefix: request.prefix, after: request.after,
        delimiter: request.delimiter, limit: UInt32(clamping: request.limit)))
    return ListPage(
      entries: answer.entries.map {
        ListPage.Entry(
          key: $0.key, byteCount: $0.byteCount, modified: $0.modified, attributes: $0.attributes,
          contentName: $0.contentHash.hex)
      }, prefixes: answer.prefixes, next: answer.next)
  }
}

extension BackendError {
  init(_ error: DataPathError) {
    switch error {
    case .refused(let code, let reason):
      switch RefusalCode(rawValue: code) {
      case .noSuchBucket: self = .bucketNotFound
      case .noSuchKey:
        self = DeleteMarkerReason(reason).map { BackendError.deleted($0.marker) } ?? .notFound
      case .noSuchVersion: self = .versionNotFound
      case .isDeleteMarker: self = .isDeleteMarker
      case .objectLocked: self = .locked
      case .bucketState: self = .bucketState(reason)
      case .noLocks: self = .noLocks
      case .bucketExists: self = .bucketExists
      case .bucketNotEmpty: self = .bucketNotEmpty
      case .invalidName: self = .invalidName(reason)
      case .preconditionFailed: self = .preconditionFailed
      case .invalidRange: self = .invalidRange
      case .sourceChanged: self = .changed
      case .noSuchMultipart: self = .uploadNotFound
      case .noSuchPart: self = .partNotFound
      case .partOrder: self = .invalidPartOrder
      case .noSuchUser, .noSuchAccessKey: self = .userNotFound
      case .noSuchKeyDomain: self = .keyDomainNotFound(reason)
      case .keyUnavailable, .keyIsClients: self = .keyUnavailable(reason)
      case .tooFewDomains, .deviceFull: self = .quorumNotMet(reason)
      case .unavailable, .notLeader: self = .unavailable(reason)
      default: self = .failed("\(error)")
      }
    case .noCoordinator, .outcomeUnknown: self = .unavailable("\(error)")
    case .unreadable: self = .quorumNotMet("\(error)")
    case .source(let reason): self = .source(reason)
    case .sink(let reason): self = .sink(reason)
    case .changed: self = .changed
    case .cancelled: self = .cancelled
    case .wrongKey, .corrupt: self = .failed("\(error)")
    }
  }
}
