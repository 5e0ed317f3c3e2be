package import Ring

/// What a server lets its peers take up. Stated in the handshake; a peer that exceeds it is cut off.
package struct ServerLimits: Sendable {
  /// Unanswered requests of one connection.
  package var requestsPerConnection = 256
  /// Bytes of their bodies; at least ``WireLimits/bodyByteCount``.
  package var bodyBytesPerConnection = 64 << 20
  /// Unanswered requests of all connections: beyond it, connections are not read.
  package var requestCount = 8192
  /// Bytes of their bodies: beyond it, connections are not read. At least ``WireLimits/bodyByteCount``.
  package var bodyByteCount = 256 << 20
  /// Answers of one connection waiting to be sent, beyond which it is not read.
  package var answerByteCount = 64 << 20
  package var connectionCount = 8192
  /// Connections that have not yet proved the key. A further one takes the place of the oldest.
  package var unprovenConnectionCount = 512
  /// How long ``WireServer/stop()`` waits for running requests.
  package var grace = Duration.seconds(5)
  package init() {}
}

/// Answers requests on any number of connections from peers that prove the cluster's key.
///
/// One task runs the handler for each request; requests of one connection run side by side, and are
/// answered as they end. At its deadline, when its caller cancels it, or when its connection ends, a
/// request's task is cancelled.
package final class WireServer: @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  private let name: String
  private let security: TransportSecurity
  let limits: ServerLimits
  let handler:
    @Sendable (_ method: UInt16, _ request: Packet, _ peer: Peer) async throws(Refusal) -> Packet
  private let proofKey: [UInt8]
  private let tlsKey: [UInt8]
  private lazy var tls = TLSContext(key: tlsKey, isServer: true)
  let requests: Semaphore
  let bodies: Semaphore
  let deadlines: DeadlineWatch
  var statistics = WireStatistics()
  var versions = WireVersion.supported

  /// Told why a connection was refused or broken: one line without line breaks, nothing secret.
  package var onTrouble: (@Sendable (_ peer: SocketAddress, _ reason: WireError) -> Void)?

  private var listener: Listener?
  private var acceptLoop: SpawnedTask?
  private var silenceWatch: SpawnedTask?
  private var isStopping = false
  private let tasks: TaskSet
  /// In no order that means anything.
  private var links: [ServerLink] = []
  private let noneLeft = WaitQueue()
  /// Links that had requests when their deadlines were last looked through, or have some since.
  var watched: [ServerLink] = []
  /// The link whose silence is looked at next.
  private var silenceCursor = 0
  /// Oldest first.
  private var unproven: [(id: UInt64, connection: Connection)] = []
  private var connectionCount = 0
  private var nextOrder: UInt64 = 0

  /// - Parameters:
  ///   - name: what we call ourselves to peers, at most 200 bytes.
  ///   - handler: answers one request, or refuses it.
  package init(
    driver: any Driver, key: ClusterKey, name: String, security: TransportSecurity = .automatic,
    limits: ServerLimits = .init(),
    handler:
      @escaping @Sendable (_ method: UInt16, _ request: Packet, _ peer: Peer)
      async throws(Refusal) -> Packet
  ) {
    precondition(
      limits.bodyBytesPerConnection >= WireLimits.bodyByteCount
        && limits.bodyByteCount >= WireLimits.bodyByteCount && limits.requestsPerConnection > 0
        && limits.requestCount > 0)
    self.driver = driver
    self.name = name
    self.security = security
    self.limits = limits
    self.handler = handler
    proofKey = Handshake.proofKey(key)
    tlsKey = key.subkey("wire tls")
    requests = Semaphore(limits.requestCount)
    bodies = Semaphore(limits.bodyByteCount)
    deadlines = DeadlineWatch(driver)
    tasks = TaskSet(driver)
    deadlines.expire = { [unowned self] now in
      var earliest: Duration?
      for link in watched {
        if let next = link.expire(now), earliest.map({ next < $0 }) ?? true { earliest = next }
      }
      watched.removeAll { !$0.isWatched }
      return earliest
    }
  }

  deinit { deadlines.stop() }

  /// Listens, and accepts connections until ``stop()``.
  ///
  /// - Returns: the address with its real port, where `address` says 0.
  package func start(on address: SocketAddress) async throws(RingError) -> SocketAddress {
    precondition(listener == nil)
    let listener = try await Listener.listen(on: address, driver: driver)
    self.listener = listener
    acceptLoop = driver.spawn("wire accept") { [self] in
      while !isStopping && !Task.isCancelled {
        do {
          let connection = try await listener.accept()
          take(connection)
        } catch {
          // Too many open files, or a peer that was gone before we looked: neither is the end.
          if isStopping || Task.isCancelled { break }
          guard await driver.sleep(.milliseconds(20)) else { break }
        }
      }
      await listener.close()
    }
    silenceWatch = driver.spawn("wire silence") { [self] in
      // A hundred thousand at once would keep all others waiting.
      while await driver.sleep(Silence.tick / silenceSteps) {
        for _ in 0..<(links.count + silenceSteps - 1) / silenceSteps {
          if silenceCursor >= links.count { silenceCursor = 0 }
          links[silenceCursor].tick()
          silenceCursor += 1
        }
      }
      // The loop stops, without us being told.
      if !isStopping { endLinks() }
    }
    return listener.address
  }

  /// In how many steps all links are looked at, a few dozen in each.
  private var silenceSteps: Int { max(1, (links.count + 63) / 64) }

  private func take(_ connection: Connection) {
    if isStopping || connectionCount >= limits.connectionCount + limits.unprovenConnectionCount {
      tasks.spawn("wire refusal") { await connection.close() }
      return
    }
    connectionCount += 1
    nextOrder += 1
    let id = nextOrder
    unproven.append((id, connection))
    if unproven.count > limits.unprovenConnectionCount {
      let oldest = unproven.removeFirst().connection
      tasks.spawn("wire refusal") { await oldest.shutdown() }
    }
    tasks.spawn("wire handshake") { [self] in await welcome(connection, id) }
  }

  private func welcome(_ connection: Connection, _ id: UInt64) async {
    let outcome = await within(Handshake.deadline, driver) {
      [self] () async -> Result<(FrameReader, Agreement), WireError> in
      do throws(WireError) {
        return .success(try await agree(connection))
      } catch {
        return .failure(error)
      }
    }
    unproven.removeAll { $0.id == id }
    let link: ServerLink
    switch outcome.value {
    case .failure(let error):
      onTrouble?(connection.peer, outcome.inTime ? error : .unreachable("no handshake in time"))
      await connection.close()
      connectionCount -= 1
      return
    case .success((let reader, let agreement)):
      let peer = Peer(
        address: connection.peer, name: agreement.peerName, connection: driver.random())
      link = ServerLink(
        server: self,
        core: Link(driver: driver, connection: connection, reader: reader, agreement: agreement),
        peer: peer)
    }
    link.place = links.count
    links.append(link)
    if isStopping { link.goAway() }
    link.start()
  }

  /// Told by the link when all of it is over.
  func ended(_ link: ServerLink, _ reason: WireError) {
    links.swapAt(link.place, links.count - 1)
    links[link.place].place = link.place
    links.removeLast()
    if link.isWatched { watched.removeAll { $0 === link } }
    connectionCount -= 1
    statistics.bytesSent &+= link.sentByteCount
    statistics.bytesReceived &+= link.receivedByteCount
    if case .malformed = reason { onTrouble?(link.peer.address, reason) }
    if links.isEmpty { noneLeft.wakeAll() }
  }

  /// From the first byte to the proof of the key.
  private func agree(_ connection: Connection) async throws(WireError) -> (FrameReader, Agreement) {
    let reader = FrameReader(PlainStream(connection), pool: driver.buffers)
    var refusal: Handshake.Reason?
    switch try await reader.peek() {
    case 0x16:
      // A TLS record of the handshake.
      try await reader.secure(tls, driver.buffers)
    case Handshake.magic[0]:
      let mayBePlain =
        switch security {
        case .never: true
        case .automatic: connection.peer.isOnThisMachine
        case .always: false
        }
      if !mayBePlain { refusal = .demandsTLS }
    default:
      throw .malformed("no handshake")
    }
    if links.count >= limits.connectionCount { refusal = .tooMany }
    let greeting = Greeting(
      name: name, requestLimit: limits.requestsPerConnection,
      bodyLimit: limits.bodyBytesPerConnection)
    let agreement = try await Handshake.server(
      reader, greeting: greeting, versions: versions, proofKey: proofKey, refuse: refusal,
      driver: driver)
    return (reader, agreement)
  }

  /// What was moved so far, open connections included.
  package var currentStatistics: WireStatistics {
    var sum = statistics
    for link in links {
      sum.bytesSent &+= link.sentByteCount
      sum.bytesReceived &+= link.receivedByteCount
      sum.openConnections += 1
    }
    return sum
  }

  /// Accepts no more, lets requests that were taken up end within the limits' `grace`, and closes all
  /// connections.
  package func stop() async {
    if isStopping { return }
    isStopping = true
    acceptLoop?.cancel()
    await acceptLoop?.wait()
    silenceWatch?.cancel()
    for (_, connection) in unproven { await connection.shutdown() }
    let open = links
    for link in open { link.goAway() }
    let impatience = driver.spawn("wire grace") { [self] in
      if await driver.sleep(limits.grace) { endLinks() }
    }
    for link in open { await link.finish() }
    impatience.cancel()
    tasks.cancelAll()
    await tasks.waitUntilEmpty()
    endLinks()
    while !links.isEmpty { await noneLeft.wait() }
    deadlines.stop()
  }

  private func endLinks() {
    for link in links { link.end(.disconnected("the server has stopped")) }
  }
}
