package import Ring

/// What a client or server has moved since its start.
package struct WireStatistics: Sendable, Equatable {
  /// Calls begun, or requests taken up.
  package var calls: UInt64 = 0
  /// Of these, calls that ended without an answer or with a refusal.
  package var failures: UInt64 = 0
  package var bytesSent: UInt64 = 0
  package var bytesReceived: UInt64 = 0
  package var openConnections = 0
  package init() {}
}

/// Calls to any number of servers. Connections are made on demand, shared by concurrent calls, and
/// remade after a failure.
///
/// Bodies of requests are read until the call ends, and beyond when it was cancelled: nobody writes to
/// a slice that was handed on.
package final class WireClient: @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  private let name: String
  private let security: TransportSecurity
  let connectionsPerAddress: Int
  private let proofKey: [UInt8]
  private let tlsKey: [UInt8]
  /// What keys of key domains are sealed with on their way, whatever the connection.
  package let keyTransport: [UInt8]
  private lazy var tls = TLSContext(key: tlsKey, isServer: false)
  private var routes: [SocketAddress: Route] = [:]
  /// In the order of first use: nothing may depend on the order of a dictionary.
  private var routeOrder: [Route] = []
  let tasks: TaskSet
  private let deadlines: DeadlineWatch
  private var isWatchingSilence = false
  private var silenceWatch: SpawnedTask?
  private(set) var isClosed = false
  var statistics = WireStatistics()

  /// What is stated in the handshake; the server states its own, and the smaller holds.
  var requestLimit = 1024
  var bodyLimit = 256 << 20
  var versions = WireVersion.supported

  /// - Parameters:
  ///   - name: what we call ourselves to servers, at most 200 bytes: "client", "node n3".
  ///   - connectionsPerAddress: more than one lets several cores of the kernel share the work.
  package init(
    driver: any Driver, key: ClusterKey, name: String, security: TransportSecurity = .automatic,
    connectionsPerAddress: Int = 1
  ) {
    precondition(connectionsPerAddress >= 1)
    self.driver = driver
    self.name = name
    self.security = security
    self.connectionsPerAddress = connectionsPerAddress
    proofKey = Handshake.proofKey(key)
    tlsKey = key.subkey("wire tls")
    keyTransport = key.subkey("keys of key domains")
    tasks = TaskSet(driver)
    deadlines = DeadlineWatch(driver)
    deadlines.expire = { [unowned self] now in expire(now) }
  }

  deinit { deadlines.stop() }

  /// Sends `request` and waits for the answer.
  ///
  /// - Parameters:
  ///   - deadline: how long the answer is waited for, from now. The server is told, and gives up too.
  /// - Throws: ``WireError``. A request that never left when its deadline passed is `unreachable`,
  ///   so that the caller knows that it may send it again.
  package func call(
    _ address: SocketAddress, method: UInt16, _ request: Packet, deadline: Duration
  ) async throws(WireError) -> Packet {
    guard request.message.count <= WireLimits.messageByteCount,
      request.bodyByteCount <= WireLimits.bodyByteCount
    else {
      throw .malformed(
        "request of \(request.message.count) and \(request.bodyByteCount) bytes: too large")
    }
    if Task.isCancelled { throw .cancelled }
    statistics.calls += 1
    // Longer than the frame can say is for ever.
    let limit = min(deadline, .seconds(4_000_000))
    let call = PendingCall(method: method, packet: request, deadline: driver.now + limit)
    let result = await withTaskCancellationHandler {
      await withUnsafeContinuation { caller in
        call.wait(caller)
        start(call, address)
      }
    } onCancel: {
      cancel(call)
    }
    if case .failure = result { statistics.failures += 1 }
    return try result.get()
  }

  private func start(_ call: PendingCall, _ address: SocketAddress) {
    if call.isOver { return }
    if isClosed { return call.finish(.failure(Self.closed(address))) }
    let route: Route
    if let known = routes[address] {
      route = known
    } else {
      route = Route(address, client: self)
      routes[address] = route
      routeOrder.append(route)
    }
    deadlines.note(call.deadline)
    route.start(call)
  }

  private func cancel(_ call: PendingCall) {
    if call.isOver { return }
    call.finish(.failure(.cancelled))
    call.link?.abandon(call)
  }

  static func closed(_ address: SocketAddress) -> WireError {
    .unreachable("\(address): this client is closed")
  }

  private func expire(_ now: Duration) -> Duration? {
    var earliest: Duration?
    var due: [PendingCall] = []
    for route in routeOrder {
      due.removeAll(keepingCapacity: true)
      if let next = route.expire(now, &due), earliest.map({ next < $0 }) ?? true { earliest = next }
      for call in due {
        let reason: WireError =
          call.hasLeft ? .deadline : .unreachable("\(route.address): not sent before the deadline")
        call.finish(.failure(reason))
        call.link?.abandon(call)
      }
    }
    return earliest
  }

  /// Connects and goes through the handshake, within ``Handshake/deadline``.
  func establish(_ address: SocketAddress) async -> Result<ClientLink, WireError> {
    let greeting = Greeting(name: name, requestLimit: requestLimit, bodyLimit: bodyLimit)
    let wantsTLS =
      switch security {
      case .always: true
      case .never: false
      case .automatic: !address.isOnThisMachine
      }
    let outcome = await within(Handshake.deadline, driver) {
      [self] () async -> Result<ClientLink, WireError> in
      let connection: Connection
      do throws(RingError) {
        connection = try await Connection.connect(to: address, on: driver)
      } catch {
        return .failure(.unreachable(error.description))
      }
      do throws(WireError) {
        let reader = FrameReader(PlainStream(connection), pool: driver.buffers)
        if wantsTLS { try await reader.secure(tls, driver.buffers) }
        let agreement = try await Handshake.client(
          reader, greeting: greeting, versions: versions, proofKey: proofKey, driver: driver)
        return .success(
          ClientLink(
            Link(driver: driver, connection: connection, reader: reader, agreement: agreement)))
      } catch {
        await connection.close()
        // Nothing has been asked yet, so nothing can have been carried out.
        if case .disconnected(let text) = error { return .failure(.unreachable(text)) }
        if case .unreachable(let text) = error {
          return .failure(.unreachable("\(address): \(text)"))
        }
        return .failure(error)
      }
    }
    if case .failure = outcome.value, !outcome.inTime {
      return .failure(.unreachable("\(address): no handshake in time"))
    }
    return outcome.value
  }

  /// Looks after silent connections for as long as there are any.
  func watchSilence() {
    if isWatchingSilence || isClosed { return }
    isWatchingSilence = true
    silenceWatch = driver.spawn("wire silence") { [self] in
      while await driver.sleep(Silence.tick) {
        for route in routeOrder { route.tick() }
        if routeOrder.allSatisfy({ $0.links.isEmpty }) {
          isWatchingSilence = false
          return
        }
      }
      // Closed, or the loop stops: a connection that is just being made is not to outlive it.
      isClosed = true
      for route in routeOrder { route.close() }
    }
  }

  /// What was moved so far, open connections included.
  package var currentStatistics: WireStatistics {
    var sum = statistics
    for link in routeOrder.flatMap(\.links) {
      sum.bytesSent &+= link.sentByteCount
      sum.bytesReceived &+= link.receivedByteCount
      sum.openConnections += 1
    }
    return sum
  }

  /// Fails what is under way and closes every connection; later calls are `unreachable`.
  package func close() async {
    isClosed = true
    deadlines.stop()
    silenceWatch?.cancel()
    for route in routeOrder { route.close() }
    tasks.cancelAll()
    await tasks.waitUntilEmpty()
    routes.removeAll()
    routeOrder.removeAll()
  }
}

extension SocketAddress {
  /// Loopback, also as an IPv6 listener sees IPv4.
  var isOnThisMachine: Bool { isLoopback || host.hasPrefix("::ffff:127.") }
}
