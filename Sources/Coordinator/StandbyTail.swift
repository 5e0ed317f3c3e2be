import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

/// Keeps a standby's state behind the leader's: asks the leader how far the log is acknowledged, reads it from the nodes up
/// to there, and applies it. So reads that need not be the newest are answered here, and a take-over has little to
/// replay.
///
/// Nothing is applied that the leader has not: what it applied is acknowledged, and no later leader takes it back.
final class StandbyTail: @unchecked Sendable {
  // Loop-confined.
  private let server: CoordinatorServer
  private let driver: any Driver
  private let reader: LogReader
  private var root: RootRecord?
  /// Where the last round ended in the log.
  private var place: (link: UInt64, stripe: UInt64)?
  private var trouble = ""
  private var flushedAt: Duration
  private var isOver = false
  private var task: SpawnedTask?

  static let interval = Duration.milliseconds(100)

  init(_ server: CoordinatorServer) {
    self.server = server
    driver = server.driver
    flushedAt = server.driver.now
    reader = LogReader(driver: server.driver, port: server.port, nodes: server.nodes)
  }

  private var keeper: StateKeeper { server.keeper }

  func start() {
    task = driver.spawn("standby tail") { [self] in
      while !isOver {
        await round()
        guard await driver.sleep(Self.interval) else { return }
      }
    }
  }

  /// Returns when nothing of it touches the state any more.
  func stop() async {
    isOver = true
    task?.cancel()
    await task?.wait()
  }

  private func round() async {
    // Whoever leads, and has said so lately.
    guard let leader = server.arbiter.leader else { return }
    do throws(LogError) {
      let answer: FollowLog.Answer
      do throws(WireError) {
        answer = try await server.client.call(
          FollowLog(
            clusterID: root?.clusterID ?? 0, rootEpoch: root?.epoch ?? 0,
            rootVersion: root?.version ?? 0), at: leader, deadline: .seconds(1)
        ).answer
      } catch {
        return
      }
      if !answer.root.isEmpty {
        guard let fresh = try? RootRecord(decoding: answer.root) else {
          throw .unreadable("the leader's root record cannot be read")
        }
        if fresh.clusterID != root?.clusterID { place = nil }
        root = fresh
        server.nodes.note(fresh)
      }
      guard let root, !isOver else { return }
      try await follow(root, to: answer.position)
      if driver.now - flushedAt > server.configuration.flushInterval {
        flushedAt = driver.now
        try await store { (keeper) throws(StoreError) in try await keeper.flush() }
      }
      trouble = ""
    } catch {
      // A log that is cut while it is read is there again in the next round. State that cannot be kept is thrown away by the
      // next who leads here.
      place = nil
      let reason = "\(error)"
      if reason != trouble && !isOver {
        server.log.warning("the log cannot be followed yet", ["reason": reason])
        trouble = reason
      }
    }
  }

  private func follow(_ root: RootRecord, to position: UInt64) async throws(LogError) {
    guard let first = root.links.first, !keeper.isBroken else { return }
    try await store { (keeper) throws(StoreError) in try await keeper.open(root.clusterID) }
    // A state ahead of the leader's is looked at when this coordinator leads.
    guard keeper.appliedPosition < position else { return }
    if keeper.appliedPosition + 1 < first.firstPosition {
      guard let checkpoint = root.checkpoint else {
        throw .unreadable("the log begins at \(first.firstPosition), and there is no checkpoint")
      }
      server.log.info("restoring the checkpoint", ["position": checkpoint.position])
      place = nil
      try await reader.restore(checkpoint, into: keeper) { [self] in !isOver }
    }
    for (index, link) in root.links.enumerated() {
      let next = index + 1 < root.links.count ? root.links[index + 1].firstPosition : UInt64.max
      if next <= keeper.appliedPosition + 1 { continue }
      if link.firstPosition > position || isOver { return }
      try await follow(link, to: position)
    }
  }

  /// Applies what the link has up to `position`.
  private func follow(_ link: RootRecord.Link, to position: UInt64) async throws(LogError) {
    let all = await reader.layouts(of: link.place, count: link.sealedStripes ?? 1)
    var count: UInt64 = 1
    while all[count] != nil && count < link.sealedStripes ?? .max { count += 1 }
    var stripe: UInt64
    if let place, place.link == link.number {
      stripe = place.stripe
    } else {
      stripe = try await reader.firstStripe(
        link, count: count, after: keeper.appliedPosition, all)
    }
    while stripe < count && keeper.appliedPosition < position && !isOver {
      // One at a time at the end of an open link: the next may not be whole yet.
      let isPast = link.sealedStripes != nil || count - stripe > 64
      let ahead = Array(stripe..<min(count, stripe + (isPast ? 16 : 1)))
      for bytes in try await reader.read(link.place, ahead, all) {
        let batch = try LogReader.batch(bytes, link: link, stripe: stripe)
        if batch.lastPosition > position || isOver { return }
        if batch.lastPosition > keeper.appliedPosition {
          guard batch.firstPosition <= keeper.appliedPosition + 1 else {
            throw .unreadable("\(link.container) stripe \(stripe): position out of order")
          }
          try await store { (keeper) throws(StoreError) in _ = try await keeper.apply(batch) }
        }
        stripe += 1
        place = (link.number, stripe)
      }
    }
  }

  private func store(_ body: (StateKeeper) async throws(StoreError) -> Void) async throws(LogError)
  {
    do throws(StoreError) {
      try await body(keeper)
    } catch {
      if case .corrupt = error { keeper.isBroken = true }
      throw .unreadable("\(error)")
    }
  }
}

extension LogReader {
  /// Fills the state from a checkpoint.
  func restore(
    _ checkpoint: RootRecord.Checkpoint, into keeper: StateKeeper, while isWanted: () -> Bool
  ) async throws(LogError) {
    do throws(StoreError) {
      try await keeper.beginRestore(position: checkpoint.position)
      for part in checkpoint.containers {
        let layouts = await layouts(of: part.place, count: part.stripeCount)
        var next: UInt64 = 0
        while next < part.stripeCount {
          guard isWanted() else { throw .device("not wanted any more") }
          let some = Array(next..<min(part.stripeCount, next + 8))
          let read: [[UInt8]]
          do throws(LogError) {
            read = try await self.read(part.place, some, layouts)
          } catch {
            throw .device("\(error)")
          }
          for bytes in read {
            guard let piece = try? CheckpointPiece(framed: bytes) else {
              throw .device("a piece of the checkpoint in \(part.container) cannot be read")
            }
            try await keeper.restore(piece)
          }
          next += UInt64(some.count)
        }
      }
      try await keeper.finishRestore()
    } catch {
      throw .unreadable("\(error)")
    }
  }
}

extension CoordinatorServer {
  func followLog(_ request: FollowLog) throws(Refusal) -> FollowLog.Answer {
    _ = try leading()
    guard let root = arbiter.root else { throw Refusal(.unavailable, "no root record") }
    return FollowLog.Answer(
      position: keeper.appliedPosition,
      root: root.clusterID == request.clusterID && root.epoch == request.rootEpoch
        && root.version == request.rootVersion ? [] : root.encoded)
  }

  /// How long a read waits here for a position that the leader has acknowledged already.
  private static var standbyPatience: Duration { .seconds(2) }

  /// Waits until a standby's state has `position`.
  func followed(to position: UInt64) async throws(Refusal) {
    let end = driver.now + Self.standbyPatience
    while keeper.appliedPosition < position || !keeper.isOpen {
      guard arbiter.leader != nil, !isTakingOver else { throw notLeading() }
      guard driver.now < end, await driver.sleep(.milliseconds(10)) else {
        throw Refusal(.unavailable, "position \(position) has not come here yet")
      }
    }
  }
}
