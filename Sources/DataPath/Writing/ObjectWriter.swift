import Cluster
package import Coding
package import Messages
package import Ring
import Wire

/// What came of one `put`.
package struct PutResult: Sendable, Equatable {
  /// The version's identity.
  package var identity: UInt64
  package var byteCount: UInt64
  package var contentHash: Fingerprint
  /// The version was there already, byte for byte, and was left as it is.
  package var wasIdentical: Bool
  /// What the version is called.
  package var version = VersionName.unnamed
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
    // What is put is not where this may have been moved to, and is the same for all that.
    attributes = entry.attributes.withoutTier
  }
}

/// Writes objects, many at once, into stripes that they share. One for a process. Loop-confined.
///
/// `ObjectWriter+Put.swift` is one object's way from source to commit. `ChunkFinder` asks which chunks are stored; an `Upload` is
/// what the coordinator knows this writer by, and all that stands and falls with it: for each domain `ChunkHolder` keeps chunks
/// that were found, `GroupPacker` compresses the others, `StripePacker` stores them. `ManifestBuilder` makes pages of all.
package final class ObjectWriter: @unchecked Sendable {
  // Loop-confined.
  package struct Options: Sendable {
    /// Plain bytes in memory, for all objects together, until they are safely stored or found stored.
    package var memoryByteCount: Int
    /// Bytes read at once; less than two chunks of the largest size counts as two, more than 64 MiB as that. Each piece costs
    /// one question to the dedup index.
    package var pieceByteCount: Int
    /// The same of a source that has not shown yet that it is quick, or is no more: what such a one has of the memory it may keep
    /// for long. 0: as much as of others.
    package var slowPieceByteCount = 0
    /// Chunks by which an object's reading may run ahead of its manifest.
    package var windowChunkCount: Int
    package init(
      memoryByteCount: Int = 64 << 20, pieceByteCount: Int = 4 << 20, windowChunkCount: Int = 4096
    ) {
      self.memoryByteCount = memoryByteCount
      self.pieceByteCount = pieceByteCount
      self.windowChunkCount = windowChunkCount
    }
  }

  let access: ClusterAccess
  let options: Options
  let finder: ChunkFinder
  let buckets: BucketCache
  let budget: Semaphore
  /// All that is started for objects; none outlives ``finish()`` or ``abandon()``.
  let tasks: OwnedTasks
  private var current: Upload
  /// Those whose sessions expired.
  private var ended: [Upload] = []

  /// - Parameter budget: of `memoryByteCount` bytes, shared with other writers; nil: its own.
  package init(
    _ access: ClusterAccess, options: Options = Options(), budget: Semaphore? = nil
  ) {
    var options = options
    options.pieceByteCount = min(
      max(options.pieceByteCount, 2 * Chunker.standard.maximum), Self.largestPiece)
    if options.slowPieceByteCount > 0 {
      options.slowPieceByteCount = min(
        max(options.slowPieceByteCount, 2 * Chunker.standard.maximum), options.pieceByteCount)
    } else {
      options.slowPieceByteCount = options.pieceByteCount
    }
    options.memoryByteCount = max(options.memoryByteCount, 1)
    options.windowChunkCount = max(options.windowChunkCount, 1)
    self.access = access
    self.options = options
    tasks = OwnedTasks(access.driver)
    finder = ChunkFinder(access, tasks)
    buckets = BucketCache(access, tasks)
    current = Upload(access, tasks: tasks, finder: finder, options: StripePacker.Options())
    self.budget = budget ?? Semaphore(options.memoryByteCount)
  }

  /// 2,048 of the smallest chunks: half of what one question to the index may hold.
  private static let largestPiece = 64 << 20

  /// What objects are stored under now.
  var upload: Upload { current }

  /// Bytes of chunks that were not stored before.
  package var newByteCount: UInt64 {
    ended.reduce(current.newByteCount) { $0 + $1.newByteCount }
  }

  /// Their groups' frames, as stored, before coding.
  package var groupByteCount: UInt64 {
    ended.reduce(current.groupByteCount) { $0 + $1.groupByteCount }
  }

  /// `upload` has ended: objects go on under another. Called by each object that finds out.
  func replace(_ upload: Upload) {
    guard upload === current else { return }
    ended.append(upload)
    current = Upload(access, tasks: tasks, finder: finder, options: StripePacker.Options())
    upload.abandon(
      .refused(code: RefusalCode.noSuchUpload.rawValue, reason: "the session expired"))
  }

  /// Stores what is still open, gives the containers back and ends the upload. Call once, after the last `put`.
  package func finish() async throws(DataPathError) {
    do throws(DataPathError) {
      try await current.finish()
      try await current.identity.end()
    } catch {
      // Every object is committed; what the session held went back with it.
      if !error.isEndOfUpload {
        await abandon()
        throw error
      }
    }
    tasks.cancelAll()
    await tasks.wait()
  }

  /// Ends all that is under way, without waiting for a device or the coordinator; objects not committed fail as cancelled.
  /// What the upload held goes back when the session is closed. Nothing can be put after this.
  package func abandon() async {
    giveUp()
    await tasks.wait()
  }

  /// ``abandon()`` without waiting for the end.
  package func giveUp() {
    current.abandon(.cancelled)
    tasks.cancelAll()
  }
}
