import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Stripes of one checkpoint container.
  private static let partStripeLimit: UInt64 = 4096

  /// Writes the state into containers of its own when the log has outgrown it, and lets the root drop the links
  /// that the state then stands for.
  func writeCheckpoints() async {
    var seen = 0
    var sizes: [LogContainer: Int] = [:]
    var turn = 0
    var hasFailed = false
    /// After a failure; whether devices are full is looked at all the same.
    var nextAt = driver.now
    while await pause(.seconds(1)) {
      turn += 1
      guard isLeading(), var root = arbiter.root else { continue }
      let excess = await logToLetGo(root, &sizes)
      guard driver.now >= nextAt else { continue }
      if let excess {
        isShortOfRoom = true
        // Much of the log may be in the open link. Each link's beginning takes from what is kept for beginnings, so none
        // is begun while no checkpoint lets another go.
        if !hasFailed, let writer, writer.linkByteCount >= excess / 4 {
          guard await endLink(of: writer) else { continue }
        }
        guard isLeading(), let now = arbiter.root, now.links.count > 1 else { continue }
        root = now
      } else if hasLostLogCopies(root) || root.isNarrow, turn.isMultiple(of: 10) {
        // What replaces them is a new link, and a checkpoint that stands for the others.
        if let writer,
          writer.link.devices.contains(where: { repairs.isLost($0) })
            || isDamaged(writer.link.place) || writer.link.scheme.m < root.scheme.m
        {
          guard await endLink(of: writer) else { continue }
        }
        guard isLeading(), let now = arbiter.root else { continue }
        root = now
      } else {
        guard turn.isMultiple(of: 10) else { continue }
        if !driver.meets(.checkpointEarly) {
          guard root.links.count != seen else { continue }
          seen = root.links.count
          guard await isDue(root, &sizes) else { continue }
        }
      }
      do throws(CheckpointFailure) {
        try await writeCheckpoint(root)
        hasFailed = false
      } catch {
        log.warning("a checkpoint was not finished", ["reason": error.reason])
        hasFailed = true
        // What it wrote is deleted with the old links.
        hasOldLinks = true
        seen = 0
        nextAt = driver.now + .seconds(excess != nil ? 5 : 50)
      }
      checkpointUnderWay = nil
      await keeper.endSnapshot()
    }
  }

  /// Ends the open link and waits until all of it is applied; false when no other could be begun.
  private func endLink(of writer: LogWriter) async -> Bool {
    guard await writer.endLink(within: configuration.slowLogDevice) else { return false }
    await keeper.waitForPosition(writer.link.firstPosition - 1) { !self.isLeading() }
    return true
  }

  private struct CheckpointFailure: Error {
    var reason: String
    init(_ reason: String) { self.reason = reason }
  }

  /// The bytes of the log when it, or a checkpoint that stands for it, may soon find no room: devices are full, and what
  /// they keep for the log is for what it grows until it can be let go. A log that is small beside the last
  /// checkpoint would give little. Nil when there is room.
  private func logToLetGo(_ root: RootRecord, _ sizes: inout [LogContainer: Int]) async -> Int? {
    let free = server.nodes.freeForLog
    let plenty = max(Self.plentyOfRoom, UInt64(4 * sizes.values.reduce(0, +)))
    guard let least = free.values.min(), least < plenty else {
      logShortage = nil
      return nil
    }
    let placement = Placement(map: server.nodes.linkMap(root.domains), free: free)
    let devices = placement.linkDevices(copies: root.scheme.m + 1) ?? []
    guard let room = devices.compactMap({ free[$0] }).min(), room < plenty else {
      logShortage = nil
      return nil
    }
    var (logged, state) = await measure(root, &sizes)
    logged += writer?.linkByteCount ?? 0
    // What is refused then is what would make the next checkpoint larger than devices have kept room for.
    logShortage =
      room < UInt64(state + Self.leastLog)
      ? "the devices are full: \(ByteSize(room)) are left for the log, and only deleting goes on"
      : nil
    guard logged >= max(Self.leastLog, state / 2) else { return nil }
    return room < 2 * UInt64(logged + state) ? logged : nil
  }

  /// With so much room for the log nobody need measure it.
  private static let plentyOfRoom: UInt64 = 4 << 30
  /// A shorter log is not worth a checkpoint.
  private static let leastLog = 128 << 10

  private func isDue(_ root: RootRecord, _ sizes: inout [LogContainer: Int]) async -> Bool {
    let sealed = root.links.filter { $0.sealedStripes != nil }
    if sealed.count >= configuration.checkpointLinkCount { return true }
    // Nothing can be near due before so many links are full.
    guard sealed.count * configuration.linkByteLimit >= configuration.checkpointLogBytes else {
      return false
    }
    let (logged, state) = await measure(root, &sizes)
    return logged >= configuration.checkpointLogBytes && logged >= 2 * state
  }

  /// How much sealed links and the last checkpoint occupy on each of their devices.
  private func measure(_ root: RootRecord, _ sizes: inout [LogContainer: Int]) async -> (
    logged: Int, state: Int
  ) {
    let reader = LogReader(driver: driver, port: server.port, nodes: server.nodes)
    var known: [LogContainer: Int] = [:]
    /// Nil when its devices do not tell now.
    func size(_ place: LogContainer, _ count: UInt64) async -> Int? {
      if let size = sizes[place] { return size }
      let layouts = await reader.layouts(of: place, count: count)
      guard layouts.count >= count else { return nil }
      return layouts.values.reduce(0) { $0 + LinkStripe.storedByteCount($1) }
    }
    var logged = 0
    for link in root.links where link.sealedStripes != nil {
      let bytes = await size(link.place, link.sealedStripes ?? 0)
      known[link.place] = bytes
      logged += bytes ?? 0
    }
    var state = 0
    for part in root.checkpoint?.containers ?? [] {
      let bytes = await size(part.place, part.stripeCount)
      known[part.place] = bytes
      state += bytes ?? 0
    }
    sizes = known
    return (logged, state)
  }

  private func writeCheckpoint(_ root: RootRecord) async throws(CheckpointFailure) {
    let begun = driver.now
    do throws(StoreError) {
      let position = try await keeper.beginSnapshot()
      var parts: [RootRecord.Checkpoint.Part] = []
      var index: UInt64 = 0
      var entries = try await keeper.nextOfSnapshot()
      while !entries.isEmpty {
        let following = try await keeper.nextOfSnapshot()
        let piece = CheckpointPiece(
          clusterID: root.clusterID, position: position, index: index,
          isLast: following.isEmpty, entries: entries)
        if parts.last.map({ $0.stripeCount >= Self.partStripeLimit }) ?? true {
          guard let part = newPart(root) else {
            throw .device("too few failure domains take writes")
          }
          parts.append(part)
        }
        let last = parts.count - 1
        if driver.meets(.checkpointPieceLate) { _ = await pause(.seconds(1)) }
        let failures = await server.port.write(
          parts[last].place, stripe: parts[last].stripeCount, bytes: piece.framed,
          acknowledged: 0, epoch: epoch, deadline: configuration.slowLogDevice)
        guard failures.isEmpty else {
          for failure in failures { refusedCheckpoint[failure.device] = driver.now }
          throw .device(
            "\(server.nodes.nodeName(of: failures[0].device)): \(failures[0].error)")
        }
        guard isLeading() else { throw .device("the lead is lost") }
        parts[last].stripeCount += 1
        index += 1
        entries = following
      }
      await keeper.endSnapshot()
      // So that the next start here need not restore what it has.
      try await keeper.flush()
      let checkpoint = RootRecord.Checkpoint(position: position, containers: parts)
      do throws(ArbiterError) {
        try await arbiter.swap(in: epoch) { root in
          var root = root!
          root.checkpoint = checkpoint
          while root.links.count > 1, root.links[1].firstPosition <= position + 1 {
            root.links.removeFirst()
          }
          return root
        }
      } catch {
        throw .device(describe(error))
      }
      hasOldLinks = true
      log.info(
        "checkpoint written",
        [
          "position": position, "pieces": index,
          "milliseconds": (driver.now - begun).wholeMilliseconds,
        ])
    } catch {
      throw CheckpointFailure("\(error)")
    }
  }

  private func newPart(_ root: RootRecord) -> RootRecord.Checkpoint.Part? {
    let placement = Placement(
      map: server.nodes.linkMap(root.domains), free: server.nodes.freeForLog)
    let scheme = Scheme(k: 1, m: root.scheme.m)!
    refusedCheckpoint = refusedCheckpoint.filter { driver.now - $0.value < .seconds(60) }
    guard
      let devices = placement.linkDevices(
        copies: scheme.width, avoiding: refusedCheckpoint.keys.sorted())
        ?? placement.linkDevices(copies: scheme.width)
    else { return nil }
    let before = root.checkpoint?.containers.map(\.container.number).max() ?? 0
    lastCheckpointNumber = max(lastCheckpointNumber, before) + 1
    checkpointUnderWay = checkpointUnderWay ?? lastCheckpointNumber
    return RootRecord.Checkpoint.Part(
      container: ContainerID(.checkpoint, lastCheckpointNumber), generation: epoch,
      scheme: scheme, devices: devices, stripeCount: 0)
  }
}
