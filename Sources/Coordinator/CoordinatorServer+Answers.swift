import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

extension CoordinatorServer {
  /// Answers one request of any peer that proved the cluster's key.
  func answer(_ method: UInt16, _ packet: Packet, _ peer: Peer) async throws(Refusal) -> Packet {
    switch method {
    case Hello.method:
      return try await reply(packet) { (hello: Hello) throws(Refusal) in
        try self.hello(hello, from: peer.address)
      }
    case GetStatus.method:
      return try await reply(packet) { (_: GetStatus) throws(Refusal) in self.status() }
    case OpenSession.method:
      return try await reply(packet) { (request: OpenSession) async throws(Refusal) in
        try await self.openSession(request)
      }
    case KeepSession.method:
      return try await reply(packet) { (request: KeepSession) async throws(Refusal) in
        try await self.keepSession(request)
      }
    case Execute.method:
      return try await reply(packet) { (request: Execute) async throws(Refusal) in
        try await self.execute(request)
      }
    case ExecuteAll.method:
      return try await reply(packet) { (request: ExecuteAll) async throws(Refusal) in
        try await self.execute(request)
      }
    case CloseSession.method:
      return try await reply(packet) { (request: CloseSession) async throws(Refusal) in
        try await self.closeSession(request)
      }
    case GetMap.method:
      return try await reply(packet) { (request: GetMap) async throws(Refusal) in
        try await self.map(request)
      }
    case StatObject.method:
      return try await reply(packet) { (request: StatObject) async throws(Refusal) in
        try await self.stat(request)
      }
    case ListObjects.method:
      return try await reply(packet) { (request: ListObjects) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.list(request)
        }
      }
    case ListBuckets.method:
      return try await reply(packet) { (request: ListBuckets) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.listBuckets()
        }
      }
    case ResolveRange.method:
      return try await reply(packet) { (request: ResolveRange) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.resolve(request)
        }
      }
    case ListParts.method:
      return try await reply(packet) { (request: ListParts) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.listParts(request)
        }
      }
    case ListMultiparts.method:
      return try await reply(packet) { (request: ListMultiparts) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.listMultiparts(request)
        }
      }
    case FindPart.method:
      return try await reply(packet) { (request: FindPart) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.findPart(request)
        }
      }
    case CoverRange.method:
      return try await reply(packet) { (request: CoverRange) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.cover(request)
        }
      }
    case FindChunks.method:
      return try await reply(packet) { (request: FindChunks) async throws(Refusal) in
        try await self.query(.eventual) { (machine) throws(StoreError) in
          try machine.findChunks(request.fingerprints, in: request.domain)
        }
      }
    case GetUsage.method:
      return try await reply(packet) { (request: GetUsage) async throws(Refusal) in
        try await self.usage(request)
      }
    case GetRepairStatus.method:
      return try await reply(packet) { (_: GetRepairStatus) async throws(Refusal) in
        try await self.repairStatus()
      }
    case SetDevices.method:
      return try await reply(packet) { (request: SetDevices) async throws(Refusal) in
        try await self.setDevices(request)
      }
    case CollectGarbage.method:
      return try await reply(packet) { (request: CollectGarbage) async throws(Refusal) in
        try await collectGarbage(request)
      }
    case ChangeScheme.method:
      return try await reply(packet) { (request: ChangeScheme) async throws(Refusal) in
        try await self.changeScheme(request)
      }
    case GetBucket.method:
      return try await reply(packet) { (request: GetBucket) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.bucket(request.name)
        }
      }
    case ListVersions.method:
      return try await reply(packet) { (request: ListVersions) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.listVersions(request)
        }
      }
    case FindVersion.method:
      return try await reply(packet) { (request: FindVersion) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.find(request)
        }
      }
    case GetBucketSettings.method:
      return try await reply(packet) { (request: GetBucketSettings) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.settings(request)
        }
      }
    case ListClasses.method:
      return try await reply(packet) { (request: ListClasses) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          ListClasses.Answer(classes: try machine.classUsage())
        }
      }
    case NextTransitions.method:
      return try await reply(packet) { (request: NextTransitions) async throws(Refusal) in
        try await self.leading().nextTransitions(request)
      }
    case DefineClass.method:
      return try await reply(packet) { (request: DefineClass) async throws(Refusal) in
        try await self.defineClass(request)
      }
    case SetBucketClass.method:
      return try await reply(packet) { (request: SetBucketClass) async throws(Refusal) in
        try await self.setBucketClass(request)
      }
    case GetKeys.method:
      return try await reply(packet) { (request: GetKeys) async throws(Refusal) in
        try await self.keys(request)
      }
    case ListKeyDomains.method:
      return try await reply(packet) { (request: ListKeyDomains) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          ListKeyDomains.Answer(domains: try machine.describeKeyDomains())
        }
      }
    case CreateKeyDomain.method:
      return try await reply(packet) { (request: CreateKeyDomain) async throws(Refusal) in
        try await self.createKeyDomain(request)
      }
    case RotateKeys.method:
      return try await reply(packet) { (request: RotateKeys) async throws(Refusal) in
        try await self.rotateKeys(request)
      }
    case GetWrappedKeys.method:
      return try await reply(packet) { (request: GetWrappedKeys) async throws(Refusal) in
        try await self.wrappedKeys(request.wanted)
      }
    case CreateClientKeyDomain.method:
      return try await reply(packet) { (request: CreateClientKeyDomain) async throws(Refusal) in
        try await self.createClientKeyDomain(request)
      }
    case RewrapClientKeyDomain.method:
      return try await reply(packet) { (request: RewrapClientKeyDomain) async throws(Refusal) in
        try await self.rewrapClientKeyDomain(request)
      }
    case SetBucketKeyDomain.method:
      return try await reply(packet) { (request: SetBucketKeyDomain) async throws(Refusal) in
        try await self.setBucketKeyDomain(request)
      }
    case ListUsers.method:
      return try await reply(packet) { (request: ListUsers) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.users(request)
        }
      }
    case GetUser.method:
      return try await reply(packet) { (request: GetUser) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.user(request)
        }
      }
    case FindAccessKey.method:
      return try await reply(packet) { (request: FindAccessKey) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.accessKey(request)
        }
      }
    case GetBucketAccess.method:
      return try await reply(packet) { (request: GetBucketAccess) async throws(Refusal) in
        try await self.query(request.level) { (machine) throws(StoreError) in
          try machine.bucketAccess(request.bucket)
        }
      }
    case StartCheck.method:
      return try await reply(packet) { (request: StartCheck) throws(Refusal) in
        try self.leading().startCheck(request)
      }
    case CheckStatus.method:
      return try await reply(packet) { (request: CheckStatus) throws(Refusal) in
        try self.leading().checkStatus(request)
      }
    case FollowLog.method:
      return try await reply(packet) { (request: FollowLog) throws(Refusal) in
        try self.followLog(request)
      }
    case StepDown.method:
      return try await reply(packet) { (_: StepDown) async throws(Refusal) in
        try await self.stepDown()
      }
    default: throw Refusal(.unknownMethod, "method \(method)")
    }
  }

  private func reply<Request: Call>(
    _ packet: Packet, _ body: (Request) async throws(Refusal) -> Request.Answer
  ) async throws(Refusal) -> Packet {
    let request: Request
    do {
      request = try Request(decoding: packet.message)
    } catch {
      throw Refusal(.malformed, "request \(Request.method): \(error)")
    }
    return Packet(message: try await body(request).encoded)
  }

  // MARK: who leads

  /// The leadership, when it may answer at this moment.
  func leading() throws(Refusal) -> Leadership {
    guard let leadership, leadership.isLeading() else { throw notLeading() }
    return leadership
  }

  /// Where the leader is, when the arbiter says who leads; else what is waited for here.
  func notLeading() -> Refusal {
    if leadership == nil, !isTakingOver, let leader = arbiter.leader {
      return Refusal(.notLeader, leader.description)
    }
    return Refusal(.notLeader, detail)
  }

  // MARK: nodes

  private func hello(_ hello: Hello, from origin: SocketAddress) throws(Refusal) -> Hello.Answer {
    if let root = arbiter.root, hello.clusterID != 0, hello.clusterID != root.clusterID {
      throw Refusal(
        .failed, "node \(hello.name) belongs to another cluster than this coordinator")
    }
    if let other = nodes.note(hello, from: origin) {
      throw Refusal(
        .failed, "node \(hello.node) runs at \(other) already; \(hello.name) is a copy of it")
    }
    // Where no quorum of nodes renews the lease, one node that has accepted another is enough to know.
    if let leadership, leadership.isLeading(), !arbiter.leaseNeedsNodes, arbiter.asksNodesForRoot,
      hello.clusterID != 0, hello.clusterID == arbiter.root?.clusterID,
      hello.highestEpoch > leadership.epoch
    {
      arbiter.lose(.deposed(epoch: hello.highestEpoch))
    }
    let interval = UInt32(clamping: configuration.helloInterval.wholeMilliseconds)
    guard let leadership, leadership.isLeading(), let root = arbiter.root else {
      return Hello.Answer(
        clusterID: 0, leaderEpoch: 0, mapEpoch: 0, intervalMilliseconds: interval)
    }
    return Hello.Answer(
      clusterID: root.clusterID, leaderEpoch: leadership.epoch, mapEpoch: keeper.map.epoch,
      intervalMilliseconds: interval)
  }

  // MARK: sessions and commands

  private func openSession(_ request: OpenSession) async throws(Refusal) -> OpenSession.Answer {
    let leadership = try leading()
    let (_, outcome) = try await leadership.submit(.openSession(client: request.client))
    switch outcome {
    case .number(let session):
      leadership.sessions.open(session, at: driver.now)
      return OpenSession.Answer(
        session: session,
        lifetimeMilliseconds: UInt32(clamping: configuration.sessionLifetime.wholeMilliseconds))
    case .refused(let code, let reason): throw Refusal(code: code, reason: reason)
    default: throw Refusal(.failed, "a session was answered with something else")
    }
  }

  /// The leadership, for a session that goes on; its client was heard of.
  func leading(session: UInt64) async throws(Refusal) -> Leadership {
    let leadership = try leading()
    while leadership.sessions.isEnding(session) {
      await leadership.sessionsDecided.wait()
      guard leadership.isLeading() else { throw notLeading() }
    }
    guard leadership.sessions.contains(session) else {
      throw Refusal(.noSuchSession, "session \(session)")
    }
    leadership.sessions.hear(session, at: driver.now)
    return leadership
  }

  private func keepSession(_ request: KeepSession) async throws(Refusal) -> Done {
    _ = try await leading(session: request.session)
    return Done()
  }

  private func closeSession(_ request: CloseSession) async throws(Refusal) -> Done {
    let leadership = try leading()
    let (_, outcome) = try await leadership.submit(.closeSession(session: request.session))
    leadership.sessions.close(request.session)
    if case .refused(let code, let reason) = outcome { throw Refusal(code: code, reason: reason) }
    return Done()
  }

  var placement: Placement {
    Placement(
      map: keeper.map, free: nodes.free, leastFree: configuration.leastFree,
      policy: configuration.placement,
      work: [.emptiest, .roundRobin].contains(configuration.placement) ? [:] : nodes.work,
      groupCache: placementGroups)
  }

  /// Of classes without one of their own.
  var scheme: Scheme { keeper.scheme ?? arbiter.root?.scheme ?? configuration.scheme }

  /// What containers of a domain are to have.
  func scheme(of domain: ChunkDomain) -> Scheme {
    keeper.classes[domain.storageClass]?.scheme ?? scheme
  }

  func place(
    _ scheme: Scheme, avoiding avoid: [DeviceID]
  ) -> ClientCommand.Placement? {
    placementTurn &+= 1
    let placement = placement
    let turn = placementTurn
    guard let chosen = placement.choose(class: scheme, avoiding: avoid, turn: turn) else {
      return nil
    }
    // Slow devices get nothing new as long as the others are enough for as wide a scheme.
    let slow = nodes.degraded
    let quick =
      slow.isEmpty
      ? nil : placement.choose(class: scheme, avoiding: avoid + slow.sorted(), turn: turn)
    let (scheme, devices) = quick?.scheme == chosen.scheme ? quick! : chosen
    return ClientCommand.Placement(scheme: scheme, devices: devices)
  }

  // MARK: queries

  /// Reads the state as fresh as `level` asks.
  func query<Value: Sendable>(
    _ level: ReadLevel,
    _ body: @escaping @Sendable (StateMachine) throws(StoreError) -> Value
  ) async throws(Refusal) -> Value {
    switch level {
    case .strong:
      // Whatever was answered before this query came is acknowledged and applied already; what is
      // acknowledged and not yet applied may have been seen by nobody, but waiting for it is cheap.
      let leadership = try leading()
      await keeper.waitForPosition(leadership.writer?.acknowledgedPosition ?? 0) {
        !leadership.isLeading()
      }
      let value = try await read(body)
      // A paused process must find its lease expired before it answers.
      guard leadership.isLeading() else { throw notLeading() }
      return value
    case .position(let position):
      guard let leadership, leadership.isLeading() else {
        // Whatever is applied at a standby is acknowledged.
        try await followed(to: position)
        return try await read { (machine) throws(StoreError) in
          // It may be made anew meanwhile.
          guard machine.appliedPosition >= position else { throw .device("the state is made anew") }
          return try body(machine)
        }
      }
      guard position <= leadership.writer?.acknowledgedPosition ?? 0 else {
        throw Refusal(.unavailable, "position \(position) is not in the log yet")
      }
      await keeper.waitForPosition(position) { !leadership.isLeading() }
      guard keeper.appliedPosition >= position else { throw notLeading() }
      return try await read(body)
    case .eventual:
      guard keeper.isOpen, !isTakingOver else { throw notLeading() }
      return try await read(body)
    }
  }

  private func read<Value: Sendable>(
    _ body: @escaping @Sendable (StateMachine) throws(StoreError) -> Value
  ) async throws(Refusal) -> Value {
    do throws(StoreError) {
      return try await keeper.read(body)
    } catch {
      switch error {
      case .refused(let refusal): throw refusal
      case .corrupt(let why):
        log.error("the state is damaged", ["reason": why])
        leadership?.stateIsWrong(error)
        // Never for good: a copy of the command that asks may be on its way to the log.
        throw Refusal(.unavailable, "the coordinator's state is damaged and will be rebuilt")
      case .device(let why): throw Refusal(.unavailable, why)
      case .gap: throw Refusal(.unavailable, "\(error)")
      }
    }
  }

  private func map(_ request: GetMap) async throws(Refusal) -> GetMap.Answer {
    let (map, scheme) = try await query(request.level) { (machine) throws(StoreError) in
      (machine.map, machine.scheme)
    }
    return GetMap.Answer(
      map: map, down: nodes.down, scheme: scheme, degraded: nodes.degraded.sorted())
  }

  private func stat(_ request: StatObject) async throws(Refusal) -> StatObject.Answer {
    let margins = margins
    let damaged = Set(margins.wrongBlocks.keys)
    let found = try await query(request.level) { (machine) throws(StoreError) in
      try machine.stat(request.name, version: request.version, showing: damaged)
    }
    var answer = found.answer
    for index in answer.containers.indices {
      let missing = answer.containers[index].places.count { margins.isMissing($0.device) }
      answer.containers[index].missing = max(
        answer.containers[index].missing, UInt32(missing))
      answer.containers[index].damaged = UInt32(
        margins.worstDamage(
          of: answer.containers[index].container, places: answer.containers[index].places,
          among: found.stripes[answer.containers[index].container] ?? []))
    }
    return answer
  }

  private func usage(_ request: GetUsage) async throws(Refusal) -> GetUsage.Answer {
    let (counters, classes) = try await query(request.level) { (machine) throws(StoreError) in
      (machine.usage, try machine.classUsage())
    }
    var stored: UInt64 = 0
    var links: UInt64 = 0
    var capacity: UInt64 = 0
    var free: UInt64 = 0
    for entry in nodes.all where nodes.isUp(entry.record.id) {
      for report in entry.reports {
        stored &+= report.used
        links &+= report.linkBytes
        if report.isFailed { continue }
        capacity &+= report.capacity
        free &+= report.free
      }
    }
    // What a writer could store: data blocks' part of the free bytes.
    let live = placement.liveDomains().count
    if let scheme = effectiveScheme(class: scheme, liveDomains: live) {
      free = free / UInt64(scheme.width) * UInt64(scheme.k)
    } else {
      free = 0
    }
    return GetUsage.Answer(
      objectCount: counters.objectCount, logicalBytes: counters.logicalBytes,
      uniqueBytes: counters.uniqueBytes, compressedBytes: counters.compressedBytes,
      storedBytes: stored, metadataBytes: links, capacityBytes: capacity, freeBytes: free,
      containerCount: counters.containerCount, trashCount: counters.trashCount, classes: classes)
  }

  // MARK: status

  /// What it waits for, for people; empty when all is well.
  var detail: String {
    if let leadership, leadership.isLeading() {
      return leadership.writer?.blocked ?? leadership.logShortage ?? ""
    }
    if !takeOverDetail.isEmpty { return takeOverDetail }
    return arbiter.detail.isEmpty ? "starting" : arbiter.detail
  }

  private func standing(of device: DeviceRecord) -> DeviceStanding {
    if device.state == .retired { return .retired }
    if leadership?.repairs.isLost(device.id) == true { return .lost }
    if nodes.isLate(device.id) {
      if nodes.silence(of: device.id) == nil && nodes.isNew { return .unknown }
      return nodes.isFailed(device.id) ? .failed : .offline
    }
    if device.state == .draining { return .draining }
    return nodes.degraded.contains(device.id) ? .degraded : .healthy
  }

  private func status() -> GetStatus.Answer {
    let isLeader = leadership?.isLeading() == true
    var records: [NodeID: NodeRecord] = [:]
    for node in keeper.map.nodes { records[node.id] = node }
    for entry in nodes.all where records[entry.record.id] == nil {
      records[entry.record.id] = entry.record
    }
    return GetStatus.Answer(
      name: configuration.name,
      role: isLeader
        ? "leader" : isTakingOver ? "starting" : arbiter.leader != nil ? "standby" : "waiting",
      detail: detail, clusterID: arbiter.root?.clusterID ?? 0, epoch: leadership?.epoch ?? 0,
      position: keeper.appliedPosition, scheme: scheme,
      nodes: records.keys.sorted().map { id in
        GetStatus.Node(
          record: records[id]!, isUp: nodes.isUp(id), devices: nodes.entry(id)?.reports ?? [],
          standings: records[id]!.devices.map { standing(of: $0) })
      })
  }
}
