import Cluster
import Messages
import Ring

/// Takes the upload's edge to chunks that were found stored, many in one command. A chunk that is gone by then is
/// handed back, to be stored again. Loop-confined.
final class ChunkHolder: @unchecked Sendable {
  // Loop-confined.
  private struct Waiting {
    var handle: ChunkHandle
    var bytes: ChunkBytes
    var location: ChunkHandle.Location
  }

  private let access: ClusterAccess
  private let upload: UploadIdentity
  private let tasks: OwnedTasks
  private let storeAgain: @Sendable (ChunkHandle, ChunkBytes) async -> Void
  private var waiting: [Waiting] = []
  private var isHolding = false
  /// Edges this upload has: asking for them again would only lengthen the log.
  private var held: Set<ChunkHandle.Location> = []

  private static let heldLimit = 200_000
  /// Chunks in one command: as runs of one chunk each they are less than half of what the leader takes.
  private static let batchLimit = 8192

  init(
    _ access: ClusterAccess, upload: UploadIdentity, tasks: OwnedTasks,
    storeAgain: @escaping @Sendable (ChunkHandle, ChunkBytes) async -> Void
  ) {
    self.access = access
    self.upload = upload
    self.tasks = tasks
    self.storeAgain = storeAgain
  }

  func hold(_ handle: ChunkHandle, _ bytes: ChunkBytes, at location: ChunkHandle.Location) {
    if held.contains(location) {
      handle.settle(.success(location))
      return
    }
    waiting.append(Waiting(handle: handle, bytes: bytes, location: location))
    if !isHolding {
      isHolding = true
      tasks.spawn("hold chunks") { await self.run() }
    }
  }

  private func run() async {
    while !waiting.isEmpty {
      let batch = Array(waiting.prefix(Self.batchLimit))
      waiting.removeFirst(batch.count)
      do throws(DataPathError) {
        let upload = try await upload.number()
        let outcome = try await access.coordinator.execute(
          .holdChunks(upload: upload, runs: Self.runs(batch)))
        var missing: [Run] = []
        if case .missing(let runs, _) = outcome { missing = runs }
        if held.count + batch.count > Self.heldLimit { held = [] }
        for one in batch {
          let isGone = missing.contains {
            $0.container == one.location.container && $0.firstOrdinal <= one.location.ordinal
              && one.location.ordinal - $0.firstOrdinal < UInt64($0.count)
          }
          if isGone {
            await storeAgain(one.handle, one.bytes)
          } else {
            held.insert(one.location)
            one.handle.settle(.success(one.location))
          }
        }
      } catch {
        for one in batch { one.handle.settle(.failure(error)) }
      }
    }
    isHolding = false
  }

  /// The batch's ordinals as runs, ascending.
  private static func runs(_ batch: [Waiting]) -> [Run] {
    let sorted = batch.sorted {
      ($0.location.container, $0.location.ordinal) < ($1.location.container, $1.location.ordinal)
    }
    var runs: [Run] = []
    for one in sorted {
      if let last = runs.last, last.container == one.location.container {
        let end = last.firstOrdinal + UInt64(last.count)
        if one.location.ordinal < end { continue }
        if one.location.ordinal == end {
          runs[runs.count - 1].count += 1
          runs[runs.count - 1].byteCount += UInt64(one.handle.byteCount)
          continue
        }
      }
      runs.append(
        Run(
          container: one.location.container, firstOrdinal: one.location.ordinal, count: 1, skip: 0,
          byteCount: UInt64(one.handle.byteCount)))
    }
    return runs
  }
}
