import Cluster
import Coding
import Messages
import Ring

/// Gathers the new chunks of one domain into groups, has them compressed and, in a key domain, sealed, and hands them to its ``StripePacker``. Shared by all
/// objects of a writer, so that many small ones share a group. Loop-confined.
///
/// Chunks gather in the order they come. A chunk that a sample says will not shrink goes its own way, as a raw group of its own, and
/// the others go on gathering. A group is closed when the next chunk would make it larger than its class wants, when
/// everybody who could add to it waits for it, or after a few milliseconds. Groups are compressed several at a time and stored
/// in their order.
final class GroupPacker: @unchecked Sendable {
  // Loop-confined.
  private struct OpenGroup {
    var buffer: Buffer
    var byteCount = 0
    var handles: [ChunkHandle] = []
  }

  private let access: ClusterAccess
  private let tasks: OwnedTasks
  private let options: StripePacker.Options
  /// As it was when the writer asked; a later change counts for the next upload.
  private let storageClass: StorageClass
  private let groupLimit: Int
  /// Nil in a plain domain.
  private let sealer: GroupSealer?
  private let stripes: StripePacker
  private var open: OpenGroup?
  /// Closed and not handed on yet, by turn.
  private var closed: [UInt64: [ChunkHandle]] = [:]
  private var nextTurn: UInt64 = 0
  private var handedOn: UInt64 = 0
  private let handed = WaitQueue()
  private var abandoned: DataPathError?
  /// Objects that may still add chunks, and so are worth waiting for.
  var producerCount = 0 { didSet { flushIfAllWait() } }
  private var isWanted = false
  /// What is closed goes out as soon as it is compressed.
  private var isFlushing = false
  private var isTimerRunning = false
  private var flushCount = 0

  /// Of new chunks, for the writer's report.
  private(set) var newByteCount: UInt64 = 0
  /// Of their groups.
  var groupByteCount: UInt64 { stripes.groupByteCount }

  /// Groups under way to being compressed: one for each lane, and one that waits.
  private static let closedLimit = GroupCodecs.laneCount + 1

  init(
    _ access: ClusterAccess, upload: UploadIdentity, tasks: OwnedTasks,
    _ bucket: GetBucket.Answer, domain: KeyedDomain?, options: StripePacker.Options
  ) {
    self.access = access
    self.tasks = tasks
    self.options = options
    storageClass = bucket.storageClass
    groupLimit = storageClass.groupLimit(isSealed: domain != nil)
    sealer = domain.map { GroupSealer(access, upload: upload, tasks: tasks, domain: $0) }
    stripes = StripePacker(
      access, upload: upload, tasks: tasks, domain: bucket.domain, options: options)
  }

  /// Copies the chunk into the open group; the handle settles when its stripe is registered, or cannot be stored.
  func pack(_ handle: ChunkHandle, _ bytes: ChunkBytes) async {
    newByteCount += UInt64(handle.byteCount)
    while abandoned == nil, stripes.isCongested || closed.count >= Self.closedLimit {
      if stripes.isCongested { await stripes.settled.wait() } else { await handed.wait() }
    }
    if let abandoned { return handle.settle(.failure(abandoned)) }
    let slice = bytes.slice
    guard storageClass.codec != .raw, Compressibility.isWorthTrying(slice) else {
      return await store(
        EncodedGroup(
          codec: .raw, handles: [handle], plainByteCount: slice.count, payload: slice))
    }
    if let open,
      open.byteCount + slice.count > groupLimit
        || open.handles.count >= StorageClass.groupChunkLimit
    {
      close()
    }
    if open == nil {
      open = OpenGroup(
        buffer: access.driver.buffers.take(max(slice.count, groupLimit)))
    }
    let target = open!.buffer.base + open!.byteCount
    slice.withBytes { target.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    open!.byteCount += slice.count
    open!.handles.append(handle)
    if access.driver.meets(.groupShort) { close() }
  }

  /// Has the open group compressed.
  private func close() {
    guard let group = open else { return }
    open = nil
    let turn = nextTurn
    nextTurn += 1
    closed[turn] = group.handles
    tasks.spawn("compress group") { [self] in
      let plain = Slice(buffer: group.buffer, offset: 0, count: group.byteCount)
      let payload = await access.codecs.compress(plain, storageClass)
      let encoded = EncodedGroup(
        codec: payload == nil ? .raw : storageClass.codec, handles: group.handles,
        plainByteCount: group.byteCount, payload: payload ?? plain)
      let stored = abandoned == nil ? await sealed(encoded) : nil
      while handedOn != turn { await handed.wait() }
      if let stored, abandoned == nil { await stripes.pack(stored) }
      closed[turn] = nil
      handedOn += 1
      handed.wakeAll()
      if isFlushing && closed.isEmpty { endFlush() }
    }
  }

  private func store(_ group: EncodedGroup) async {
    if let group = await sealed(group) { await stripes.pack(group) }
  }

  /// The group as it is to be stored; nil when there is no key for it, which its chunks are told.
  private func sealed(_ group: EncodedGroup) async -> EncodedGroup? {
    guard let sealer else { return group }
    do throws(DataPathError) {
      return await access.codecs.seal(group, try await sealer.next(group.payload.count))
    } catch {
      group.settle(.failure(error))
      return nil
    }
  }

  /// Somebody waits for what is packed: it goes out when nobody else can add to it, at the latest after `patience`.
  func want() {
    guard open != nil || !closed.isEmpty || stripes.hasOpen else { return }
    isWanted = true
    flushIfAllWait()
    guard isWanted, !isTimerRunning else { return }
    isTimerRunning = true
    let count = flushCount
    tasks.spawn("flush group") { [self] in
      await access.driver.sleep(options.patience)
      isTimerRunning = false
      guard isWanted else { return }
      if flushCount == count { flush() } else { want() }
    }
  }

  private func flushIfAllWait() {
    if isWanted && producerCount == 0 { flush() }
  }

  private func flush() {
    isWanted = false
    flushCount += 1
    close()
    if closed.isEmpty { endFlush() } else { isFlushing = true }
  }

  private func endFlush() {
    isFlushing = false
    stripes.seal()
  }

  /// Whoever waits for a chunk, or to pack one, hears of `error` now. What is under way ends without effect.
  func abandon(_ error: DataPathError) {
    guard abandoned == nil else { return }
    abandoned = error
    for handle in open?.handles ?? [] { handle.settle(.failure(error)) }
    open = nil
    for (_, handles) in closed.sorted(by: { $0.key < $1.key }) {
      for handle in handles { handle.settle(.failure(error)) }
    }
    isWanted = false
    stripes.abandon(error)
    handed.wakeAll()
  }

  /// Sends what is open, waits until every stripe is settled, and gives the containers back.
  func finish() async throws(DataPathError) {
    while open != nil || !closed.isEmpty {
      flush()
      if !closed.isEmpty { await handed.wait() }
    }
    try await stripes.finish()
  }
}
