import Cluster
import Coding
import Messages
import Ring
import Stripes
import Wire

/// Packs groups of one domain into stripes, stores the stripes, registers them. Shared by all objects of a writer, so that many
/// small ones share a stripe: group commit. Loop-confined.
///
/// A stripe is sealed when it is full, or when its ``GroupPacker`` says so.
/// When a device does not acknowledge, its container is given up at its last acknowledged stripe and the
/// stripe's groups are packed again as they are, for another container.
final class StripePacker: @unchecked Sendable {
  // Loop-confined.
  struct Options: Sendable {
    /// Stripes being stored at once.
    var stripesInFlight = 4
    /// How long a group, or a stripe, that somebody waits for stays open.
    var patience = Duration.milliseconds(5)
    var blockDeadline = Duration.seconds(15)
    /// For how long a device that failed is not asked for.
    var avoidance = Duration.seconds(30)
  }

  private struct Entry {
    var group: EncodedGroup
    var offset: Int
  }

  /// The stripe being filled: one contiguous run of bytes that becomes its data blocks as it is.
  private struct OpenStripe {
    var container: OpenContainer
    var buffer: Buffer
    var byteCount = 0
    var chunkCount = 0
    var entries: [Entry] = []
  }

  private let access: ClusterAccess
  private let upload: UploadIdentity
  private let domain: ChunkDomain
  private let tasks: OwnedTasks
  private let options: Options
  private var open: OpenStripe?
  private var container: OpenContainer?
  private let granting: SharedWork<OpenContainer>
  private let slots: Semaphore
  private var avoided: [DeviceID: Duration] = [:]
  /// Stripes sealed and not settled yet.
  private var unsettledCount = 0
  let settled = WaitQueue()
  private var containers: [OpenContainer] = []
  private var lastFailure = ""
  /// How often a group is sent to yet another container.
  private static let attemptLimit = 8
  /// How often a grant is asked for while the leader cannot give one.
  private static let grantAttemptLimit = 20
  /// Chunks in one stripe, and in one command of several: at most 50 bytes each, so less than half of what the leader takes.
  private static let chunkLimit = 4096
  /// Why nothing more is stored.
  private var abandoned: DataPathError?

  /// Frames of groups that were packed, for the writer's report.
  private(set) var groupByteCount: UInt64 = 0

  init(
    _ access: ClusterAccess, upload: UploadIdentity, tasks: OwnedTasks, domain: ChunkDomain,
    options: Options
  ) {
    self.access = access
    self.upload = upload
    self.domain = domain
    self.tasks = tasks
    self.options = options
    slots = Semaphore(options.stripesInFlight)
    granting = SharedWork(tasks, "request grant")
  }

  /// Each sealed stripe holds its memory until it is settled: too many do, ``settled`` tells of the next.
  var isCongested: Bool { unsettledCount > options.stripesInFlight }
  var hasOpen: Bool { open != nil }

  /// Copies the group into the open stripe; its handles settle when the stripe is registered, or cannot be stored.
  func pack(_ group: EncodedGroup) async {
    groupByteCount += UInt64(group.frameByteCount)
    await place(group)
  }

  private func place(_ group: EncodedGroup) async {
    while true {
      if let abandoned { return group.settle(.failure(abandoned)) }
      let container: OpenContainer
      do throws(DataPathError) {
        container = try await usableContainer()
      } catch {
        return group.settle(.failure(error))
      }
      // No suspension from here on: the open stripe is ours.
      if let abandoned { return group.settle(.failure(abandoned)) }
      if let full = open,
        full.container !== container
          || full.byteCount + group.frameByteCount
            > StripeLayout.capacity(of: container.grant.scheme)
          || full.chunkCount + group.handles.count > min(Self.chunkLimit, container.ordinalsLeft)
      {
        seal()
        if !container.isUsable { continue }
      }
      if open == nil {
        open = OpenStripe(
          container: container,
          buffer: access.driver.buffers.take(StripeLayout.capacity(of: container.grant.scheme)))
      }
      let offset = open!.byteCount
      group.copy(to: open!.buffer.base + offset)
      open!.entries.append(Entry(group: group, offset: offset))
      open!.byteCount += group.frameByteCount
      open!.chunkCount += group.handles.count
      // Its bytes are in the stripe now.
      open!.entries[open!.entries.count - 1].group.payload = Slice(
        buffer: open!.buffer, offset: offset + GroupHeader.byteCount, count: group.payload.count)
      if access.driver.meets(.stripeShort) { seal() }
      return
    }
  }

  /// Whoever waits for a chunk, or to pack one, hears of `error` now. Stripes under way end without effect.
  func abandon(_ error: DataPathError) {
    guard abandoned == nil else { return }
    abandoned = error
    for entry in open?.entries ?? [] { entry.group.settle(.failure(error)) }
    open = nil
    for container in containers {
      container.isDead = true
      for stripe in container.outstanding {
        for handle in stripe.handles { handle.settle(.failure(error)) }
      }
    }
    settled.wakeAll()
  }

  /// Seals what is open, waits until every stripe is settled, and gives the containers back.
  func finish() async throws(DataPathError) {
    // A stripe that fails leaves its chunks in another, open one.
    while open != nil || unsettledCount > 0 {
      seal()
      if unsettledCount > 0 { await settled.wait() }
    }
    let released = containers
    containers = []
    container = nil
    for one in released { try await release(one) }
  }

  // MARK: Containers

  /// The container to pack for: the open one while it can take more, else a new grant, asked for once by all.
  private func usableContainer() async throws(DataPathError) -> OpenContainer {
    if let container, container.isUsable {
      if !access.driver.meets(.containerFullEarly) { return container }
      self.container = nil
    }
    // A chunk may be others' too: it is not to fail because one of its objects was cancelled.
    return try await granting.run(evenIfCancelled: true) { [self] () async throws(DataPathError) in
      if let container, container.isUsable { return container }
      let fresh = try await requestGrant()
      container = fresh
      containers.append(fresh)
      return fresh
    }
  }

  private func requestGrant() async throws(DataPathError) -> OpenContainer {
    // The one before is full or dead; it goes back as soon as nothing of it is under way.
    // The open stripe may still be for it.
    for old in containers where old.outstanding.isEmpty && open?.container !== old {
      try await release(old)
      containers.removeAll { $0 === old }
    }
    var outcome: CommandOutcome?
    var attempt = 0
    while outcome == nil {
      let now = access.driver.now
      avoided = avoided.filter { $0.value > now }
      do throws(DataPathError) {
        outcome = try await access.coordinator.execute(
          .requestGrant(
            upload: try await upload.number(), avoid: avoided.keys.sorted(), placement: nil,
            domain: domain))
      } catch {
        attempt += 1
        let mayPass =
          error.refusalCode == .unavailable
          || (error.refusalCode == .tooFewDomains && !avoided.isEmpty)
        guard mayPass, attempt < Self.grantAttemptLimit, !Task.isCancelled else { throw error }
        // A slow device is better than none; those that really are down the leader knows.
        avoided = [:]
        await access.driver.sleep(.milliseconds(200))
      }
    }
    guard case .grant(let bytes) = outcome else { throw .corrupt("answer to requestGrant") }
    let signed: SignedGrant
    do throws(ValueError) {
      signed = try SignedGrant(decoding: bytes)
    } catch {
      throw .corrupt("the grant: \(error)")
    }
    try await access.map.prepare(epoch: signed.grant.epoch, devices: signed.grant.devices)
    return OpenContainer(signed)
  }

  /// Gives a container back. A grant that has ended by itself is as good.
  private func release(_ container: OpenContainer) async throws(DataPathError) {
    do throws(DataPathError) {
      _ = try await access.coordinator.execute(
        .releaseGrant(grant: container.grant.id, container: container.grant.container))
    } catch {
      guard case .refused = error else { throw error }
    }
  }

  // MARK: Stripes

  /// Sends the open stripe, if there is one.
  func seal() {
    guard let full = open else { return }
    open = nil
    guard !full.entries.isEmpty else { return }
    let container = full.container
    let scheme = container.grant.scheme
    let layout = StripeLayout.smallest(for: full.byteCount, scheme: scheme)
    let padded = layout.dataBlockCount * layout.blockByteCount
    if padded > full.byteCount {
      (full.buffer.base + full.byteCount).initializeMemory(
        as: UInt8.self, repeating: 0, count: padded - full.byteCount)
    }
    let record = StripeRecord(
      stripe: container.takeStripe(), layout: layout,
      firstOrdinal: container.takeOrdinals(full.chunkCount, byteCount: full.byteCount),
      groups: full.entries.map { $0.group.record(at: $0.offset) })
    let sealed = SealedStripe(record: record, groups: full.entries.map(\.group))
    container.outstanding.append(sealed)
    unsettledCount += 1
    let buffer = full.buffer
    tasks.spawn("store stripe") { await self.store(sealed, container, buffer) }
  }

  private func store(_ sealed: SealedStripe, _ container: OpenContainer, _ buffer: Buffer) async {
    await slots.acquire()
    let layout = sealed.record.layout
    let grant = container.grant
    let data = (0..<layout.dataBlockCount).map {
      Slice(buffer: buffer, offset: $0 * layout.blockByteCount, count: layout.blockByteCount)
    }
    // A container that was given up in the meantime gets no more stripes.
    let isGivenUp = container.isDead || access.driver.meets(.containerGivenUp)
    let failures =
      isGivenUp
      ? []
      : await access.stripes.write(
        StripeTarget(
          container: grant.container,
          places: [ShardPlace](grant.devices, generation: grant.generation),
          stripe: sealed.record.stripe), layout: layout, data: data,
        right: .grant(container.signed),
        epoch: grant.epoch, deadline: options.blockDeadline)
    slots.release()
    if isGivenUp || !failures.isEmpty || access.driver.meets(.stripeNotAcknowledged) {
      sealed.state = .failed
      container.isDead = true
      let until = access.driver.now + options.avoidance
      for failure in failures {
        avoided[failure.device] = until
        lastFailure = "\(access.map.nodeName(of: failure.device)): \(failure.error)"
      }
      await register(container)
      // The same groups, for another container: `usableContainer` grants one on other devices.
      for var group in sealed.groups {
        group.attemptCount += 1
        guard group.attemptCount < Self.attemptLimit else {
          group.settle(
            .failure(
              .refused(
                code: RefusalCode.tooFewDomains.rawValue,
                reason: "devices fail again and again, last \(lastFailure)")))
          continue
        }
        await place(group)
      }
      seal()
    } else {
      sealed.state = .acknowledged
      await register(container)
    }
    unsettledCount -= 1
    settled.wakeAll()
  }

  /// Registers the acknowledged stripes at the front of the container's line, in order, and returns when the
  /// caller's own has been.
  private func register(_ container: OpenContainer) async {
    while container.isRegistering { await container.changed.wait() }
    container.isRegistering = true
    defer {
      container.isRegistering = false
      container.changed.wakeAll()
    }
    while true {
      container.outstanding.removeAll { $0.state == .failed }
      var ready: [SealedStripe] = []
      var chunkCount = 0
      for stripe in container.outstanding {
        chunkCount += stripe.record.chunkCount
        guard stripe.state == .acknowledged, ready.isEmpty || chunkCount <= Self.chunkLimit else {
          break
        }
        ready.append(stripe)
      }
      if ready.isEmpty { return }
      var outcome: Result<Void, DataPathError>
      do throws(DataPathError) {
        _ = try await access.coordinator.execute(
          .registerStripes(
            upload: try await upload.number(), grant: container.grant.id,
            container: container.grant.container, stripes: ready.map(\.record),
            dataKeys: Set(ready.flatMap(\.groups).compactMap(\.seal?.keyID)).sorted()))
        outcome = .success(())
      } catch {
        outcome = .failure(error)
      }
      container.outstanding.removeFirst(ready.count)
      for stripe in ready {
        for (index, handle) in stripe.handles.enumerated() {
          switch outcome {
          case .success:
            handle.settle(
              .success(
                ChunkHandle.Location(
                  container: container.grant.container,
                  ordinal: stripe.record.firstOrdinal + UInt64(index))))
          case .failure(let error): handle.settle(.failure(error))
          }
        }
      }
    }
  }
}
