import Cluster
import Coding
import Messages
import Ring
import Stripes
import Wire

/// Packs new chunks into stripes, stores the stripes, registers them. Shared by all objects of a writer, so that many
/// small ones share a stripe: group commit. Loop-confined.
///
/// A stripe is sealed when it is full, when everybody who could add to it waits for it, or after a few milliseconds.
/// When a device does not acknowledge, its container is given up at its last acknowledged stripe and the
/// stripe's chunks are packed again, for another container.
final class StripePacker: @unchecked Sendable {
  // Loop-confined.
  struct Options: Sendable {
    /// Stripes being stored at once.
    var stripesInFlight = 4
    /// How long a stripe that somebody waits for stays open.
    var patience = Duration.milliseconds(5)
    var blockDeadline = Duration.seconds(15)
    /// For how long a device that failed is not asked for.
    var avoidance = Duration.seconds(30)
  }

  private struct Entry {
    var handle: ChunkHandle
    var offset: Int
  }

  /// The stripe being filled: one contiguous run of bytes that becomes its data blocks as it is.
  private struct OpenStripe {
    var container: OpenContainer
    var buffer: Buffer
    var byteCount = 0
    var entries: [Entry] = []
  }

  private let access: ClusterAccess
  private let upload: UploadIdentity
  private let tasks: OwnedTasks
  private let options: Options
  private var open: OpenStripe?
  private var container: OpenContainer?
  private let granting: SharedWork<OpenContainer>
  private let slots: Semaphore
  private var avoided: [DeviceID: Duration] = [:]
  /// Stripes sealed and not settled yet.
  private var unsettledCount = 0
  private let settled = WaitQueue()
  private var containers: [OpenContainer] = []
  private var isTimerRunning = false
  private var sealCount = 0
  private var lastFailure = ""
  /// How often a chunk is sent to yet another container.
  private static let attemptLimit = 8
  /// How often a grant is asked for while the leader cannot give one.
  private static let grantAttemptLimit = 20
  /// Chunks in one stripe, and in one command of several: at most 50 bytes each, so less than half of what the leader takes.
  private static let chunkLimit = 4096
  /// Why nothing more is stored.
  private var abandoned: DataPathError?
  /// Objects that may still add chunks, and so are worth waiting for.
  var producerCount = 0 { didSet { flushIfAllWait() } }
  private var isWanted = false

  /// Of new chunks, for the writer's report.
  private(set) var newByteCount: UInt64 = 0

  init(_ access: ClusterAccess, upload: UploadIdentity, tasks: OwnedTasks, options: Options) {
    self.access = access
    self.upload = upload
    self.tasks = tasks
    self.options = options
    slots = Semaphore(options.stripesInFlight)
    granting = SharedWork(tasks, "request grant")
  }

  /// Copies the chunk into the open stripe; the handle settles when the stripe is registered, or cannot be stored.
  func pack(_ handle: ChunkHandle, _ bytes: ChunkBytes) async {
    newByteCount += UInt64(handle.byteCount)
    // Each sealed stripe holds its memory until it is settled.
    while unsettledCount > options.stripesInFlight && abandoned == nil { await settled.wait() }
    await pack(handle, bytes.slice)
  }

  private func pack(_ handle: ChunkHandle, _ slice: Slice) async {
    while true {
      if let abandoned { return handle.settle(.failure(abandoned)) }
      let container: OpenContainer
      do throws(DataPathError) {
        container = try await usableContainer()
      } catch {
        handle.settle(.failure(error))
        return
      }
      // No suspension from here on: the open stripe is ours.
      if let abandoned { return handle.settle(.failure(abandoned)) }
      let frameByteCount = GroupHeader.byteCount + slice.count
      if let full = open,
        full.container !== container
          || full.byteCount + frameByteCount > StripeLayout.capacity(of: container.grant.scheme)
          || full.entries.count >= min(Self.chunkLimit, container.ordinalsLeft)
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
      let header = GroupHeader(
        codec: .raw, chunkCount: 1, plainByteCount: slice.count, payloadByteCount: slice.count)
      let target = open!.buffer.base + offset
      header.encoded.withUnsafeBytes {
        target.copyMemory(from: $0.baseAddress!, byteCount: GroupHeader.byteCount)
      }
      slice.withBytes {
        (target + GroupHeader.byteCount).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
      }
      open!.entries.append(Entry(handle: handle, offset: offset))
      open!.byteCount += frameByteCount
      if access.driver.meets(.stripeShort) { seal() }
      return
    }
  }

  /// Somebody waits for what is packed: it goes out when nobody else can add to it, at the latest after `patience`.
  func want() {
    guard open != nil else { return }
    isWanted = true
    flushIfAllWait()
    guard isWanted, !isTimerRunning else { return }
    isTimerRunning = true
    let count = sealCount
    tasks.spawn("flush stripe") { [self] in
      await access.driver.sleep(options.patience)
      isTimerRunning = false
      guard isWanted else { return }
      if sealCount == count { seal() } else { want() }
    }
  }

  private func flushIfAllWait() {
    if isWanted && producerCount == 0 { seal() }
  }

  /// Whoever waits for a chunk, or to pack one, hears of `error` now. Stripes under way end without effect.
  func abandon(_ error: DataPathError) {
    guard abandoned == nil else { return }
    abandoned = error
    for entry in open?.entries ?? [] { entry.handle.settle(.failure(error)) }
    open = nil
    isWanted = false
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
            upload: try await upload.number(), avoid: avoided.keys.sorted(), placement: nil))
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

  private func seal() {
    guard let full = open else { return }
    open = nil
    isWanted = false
    sealCount += 1
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
      firstOrdinal: container.takeOrdinals(full.entries.count, byteCount: full.byteCount),
      groups: full.entries.map { entry in
        StripeRecord.Group(
          offset: UInt32(entry.offset),
          storedByteCount: UInt32(GroupHeader.byteCount + entry.handle.byteCount), codec: .raw,
          chunks: [
            StripeRecord.Chunk(
              fingerprint: entry.handle.fingerprint, byteCount: UInt32(entry.handle.byteCount))
          ])
      })
    let sealed = SealedStripe(record: record, handles: full.entries.map(\.handle))
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
      // The same chunks, for another container: `usableContainer` grants one on other devices.
      for (handle, group) in zip(sealed.handles, sealed.record.groups) {
        handle.attemptCount += 1
        guard handle.attemptCount < Self.attemptLimit else {
          handle.settle(
            .failure(
              .refused(
                code: RefusalCode.tooFewDomains.rawValue,
                reason: "devices fail again and again, last \(lastFailure)")))
          continue
        }
        await pack(
          handle,
          Slice(
            buffer: buffer, offset: Int(group.offset) + GroupHeader.byteCount,
            count: handle.byteCount))
      }
      want()
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
        chunkCount += stripe.handles.count
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
            container: container.grant.container, stripes: ready.map(\.record)))
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
