import Coding
import Messages
import Ring

/// One upload with the coordinator and what stands and falls with it. Loop-confined.
///
/// When its session expires, its edges and grants are returned: chunks found or registered under it may not be alive any more.
/// So nothing of it serves the next upload.
final class Upload: @unchecked Sendable {
  // Loop-confined.
  let identity: UploadIdentity
  private let access: ClusterAccess
  private let tasks: OwnedTasks
  private let finder: ChunkFinder
  private let options: StripePacker.Options
  private var shares: [ChunkDomain: UploadShare] = [:]
  private var failure: DataPathError?

  init(
    _ access: ClusterAccess, tasks: OwnedTasks, finder: ChunkFinder, options: StripePacker.Options
  ) {
    self.access = access
    self.tasks = tasks
    self.finder = finder
    self.options = options
    identity = UploadIdentity(access, tasks)
  }

  /// What stores for buckets of that domain.
  ///
  /// - Parameter keyDomain: the bucket's, with its key; nil: it is plain.
  func share(for bucket: GetBucket.Answer, _ keyDomain: KeyedDomain?) -> UploadShare {
    if let known = shares[bucket.domain] { return known }
    let share = UploadShare(
      access, identity, tasks: tasks, finder: finder, bucket, keyDomain, options: options)
    shares[bucket.domain] = share
    if let failure { share.abandon(failure) }
    return share
  }

  private var sortedShares: [UploadShare] { shares.sorted { $0.key < $1.key }.map(\.value) }

  /// Of chunks that were not stored before.
  var newByteCount: UInt64 { shares.values.reduce(0) { $0 + $1.packer.newByteCount } }
  /// Of their groups, as stored.
  var groupByteCount: UInt64 { shares.values.reduce(0) { $0 + $1.packer.groupByteCount } }

  /// Stores what is still open, and gives the containers back.
  func finish() async throws(DataPathError) {
    for share in sortedShares { try await share.packer.finish() }
  }

  /// It has ended, or is given up: all that waits for it fails with `error`, nothing more is stored under it.
  func abandon(_ error: DataPathError) {
    failure = failure ?? error
    for share in sortedShares { share.abandon(error) }
  }
}

/// What an upload stores in one domain. Loop-confined.
final class UploadShare: @unchecked Sendable {
  // Loop-confined.
  let domain: ChunkDomain
  /// Nil: it is plain.
  let keyDomain: KeyedDomain?
  let packer: GroupPacker
  let holder: ChunkHolder
  /// Chunks of this upload, so that duplicates within it are found before the index knows them.
  private var handles: [Fingerprint: ChunkHandle] = [:]

  /// About 20 MiB of handles; then the table starts anew, and only speed is lost.
  private static let handleLimit = 100_000

  init(
    _ access: ClusterAccess, _ identity: UploadIdentity, tasks: OwnedTasks, finder: ChunkFinder,
    _ bucket: GetBucket.Answer, _ keyDomain: KeyedDomain?, options: StripePacker.Options
  ) {
    let domain = bucket.domain
    self.domain = domain
    self.keyDomain = keyDomain
    let packer = GroupPacker(
      access, upload: identity, tasks: tasks, bucket, domain: keyDomain, options: options)
    self.packer = packer
    holder = ChunkHolder(access, upload: identity, tasks: tasks) { handle, bytes in
      finder.forget(handle.fingerprint, in: domain)
      await packer.pack(handle, bytes)
      packer.want()
    }
  }

  func knownHandle(_ fingerprint: Fingerprint) -> ChunkHandle? {
    guard let handle = handles[fingerprint] else { return nil }
    // One that failed is no use to the next object.
    if case .failure = handle.outcome {
      handles[fingerprint] = nil
      return nil
    }
    return handle
  }

  func remember(_ handle: ChunkHandle) {
    if handles.count >= Self.handleLimit { handles = handles.filter { $0.value.outcome == nil } }
    handles[handle.fingerprint] = handle
  }

  func abandon(_ error: DataPathError) {
    handles = [:]
    packer.abandon(error)
  }
}

/// The upload's number, asked for when first needed. Loop-confined.
final class UploadIdentity: @unchecked Sendable {
  // Loop-confined.
  private let access: ClusterAccess
  private let opening: SharedWork<UInt64>
  private var known: UInt64?

  init(_ access: ClusterAccess, _ tasks: OwnedTasks) {
    self.access = access
    opening = SharedWork(tasks, "open upload")
  }

  func number() async throws(DataPathError) -> UInt64 {
    if let known { return known }
    return try await opening.run { [self] () async throws(DataPathError) in
      if let known { return known }
      guard case .number(let number) = try await access.coordinator.execute(.openUpload) else {
        throw .corrupt("answer to openUpload")
      }
      known = number
      return number
    }
  }

  func end() async throws(DataPathError) {
    guard let number = known else { return }
    known = nil
    _ = try await access.coordinator.execute(.endUpload(upload: number))
  }
}

extension DataPathError {
  /// Whether an upload's command failed because its session, and the upload with it, is no more.
  var isEndOfUpload: Bool { self == .outcomeUnknown || refusalCode == .noSuchUpload }
}
