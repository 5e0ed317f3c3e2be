import Cluster
package import Coding
package import Messages
import Ring
import Wire

/// What came of one `put`.
package struct PutResult: Sendable, Equatable {
  /// The version's identity.
  package var identity: UInt64
  package var byteCount: UInt64
  package var contentHash: Fingerprint
  /// The version was there already, byte for byte, and was left as it is.
  package var wasIdentical: Bool
}

/// What a key holds already, when the caller knows (from a listing).
package struct ExistingObject: Sendable {
  package var identity: UInt64
  package var byteCount: UInt64
  package var contentHash: Fingerprint
  package var attributes: ObjectAttributes

  package init(_ entry: ListObjects.Entry) {
    identity = entry.identity
    byteCount = entry.byteCount
    contentHash = entry.contentHash
    attributes = entry.attributes
  }
}

/// Writes objects, many at once, into stripes that they share. One for a process. Loop-confined.
///
/// `ObjectWriter+Put.swift` is one object's way from source to commit. `ChunkFinder` asks which chunks are stored, `ChunkHolder`
/// keeps those alive, `StripePacker` stores the others, `ManifestBuilder` makes pages of all of them.
package final class ObjectWriter: @unchecked Sendable {
  // Loop-confined.
  package struct Options: Sendable {
    /// Plain bytes in memory, for all objects together, until they are safely stored or found stored.
    package var memoryByteCount: Int
    /// Bytes read at once, at least two chunks of the largest size. Each piece costs one question to the dedup index.
    package var pieceByteCount: Int
    package init(memoryByteCount: Int = 64 << 20, pieceByteCount: Int = 4 << 20) {
      self.memoryByteCount = memoryByteCount
      self.pieceByteCount = pieceByteCount
    }
  }

  let access: ClusterAccess
  let options: Options
  let upload: Upload
  let finder: ChunkFinder
  let packer: StripePacker
  let budget: Semaphore
  /// Chunks of this run, so that duplicates within it are found before the index knows them.
  private var handles: [Fingerprint: ChunkHandle] = [:]
  private(set) lazy var holder = ChunkHolder(access, upload: upload) {
    [unowned self] handle, bytes in
    finder.forget(handle.fingerprint)
    await packer.pack(handle, bytes)
    packer.want()
  }

  /// About 20 MiB of handles; then the table starts anew, and only speed is lost.
  private static let handleLimit = 100_000

  package init(_ access: ClusterAccess, options: Options = Options()) {
    self.access = access
    self.options = options
    upload = Upload(access)
    finder = ChunkFinder(access)
    packer = StripePacker(access, upload: upload, options: StripePacker.Options())
    budget = Semaphore(options.memoryByteCount)
  }

  /// Bytes of chunks that were not stored before.
  package var newByteCount: UInt64 { packer.newByteCount }

  /// Stores what is still open, gives the containers back and ends the upload. Call once, after the last `put`.
  package func finish() async throws(DataPathError) {
    try await packer.finish()
    try await upload.end()
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
}
