import Ring

/// The connections to one address, and the calls that wait for one.
final class Route: @unchecked Sendable {
  // Loop-confined.
  let address: SocketAddress
  private let client: WireClient
  private var driver: any Driver { client.driver }
  private(set) var links: [ClientLink] = []
  private var attemptCount = 0
  /// Oldest first; some may be over.
  private var backlog: [PendingCall] = []
  private var lastUse: Duration = .zero
  /// After a failure, further connections beside one that works are not tried before.
  private var nextWidening: Duration = .zero
  private var isReconnecting = false
  private var isPumping = false

  /// How long after its last call a broken connection is remade unasked.
  private static let interest = Duration.seconds(30)
  private static let shortestBackOff = Duration.milliseconds(10)
  private static let longestBackOff = Duration.seconds(1)

  init(_ address: SocketAddress, client: WireClient) {
    self.address = address
    self.client = client
  }

  func start(_ call: PendingCall) {
    lastUse = driver.now
    if backlog.isEmpty, let link = choose(for: call) {
      link.dispatch(call)
      widen()
    } else {
      backlog.append(call)
      pump()
    }
  }

  private func choose(for call: PendingCall) -> ClientLink? {
    var best: ClientLink?
    for link in links where link.hasRoom(for: call) {
      if best.map({ link.load < $0.load }) ?? true { best = link }
    }
    return best
  }

  /// Opens another connection when all that are open are busy and more are allowed.
  private func widen() {
    guard links.count + attemptCount < client.connectionsPerAddress,
      links.allSatisfy({ $0.load > 1 }), driver.now >= nextWidening
    else { return }
    attempt()
  }

  private func pump() {
    if isPumping { return }
    isPumping = true
    defer { isPumping = false }
    var used = 0
    while used < backlog.count {
      let call = backlog[used]
      if !call.isOver {
        guard let link = choose(for: call) else { break }
        link.dispatch(call)
      }
      used += 1
    }
    if used > 0 { backlog.removeFirst(used) }
    if !backlog.isEmpty && attemptCount == 0 && !links.contains(where: { $0.isOpen }) { attempt() }
  }

  /// One attempt, shared by all calls that wait. When it fails and no connection is left, they fail.
  private func attempt() {
    if client.isClosed { return fail(WireClient.closed(address)) }
    attemptCount += 1
    client.tasks.spawn("wire connection") { [self] in
      if let link = await reach() { await serve(link) }
    }
  }

  /// Counted by the caller as one attempt.
  private func reach() async -> ClientLink? {
    let outcome = await client.establish(address)
    attemptCount -= 1
    switch outcome {
    case .success(let link):
      return link
    case .failure(let error):
      nextWidening = driver.now + Self.longestBackOff
      if attemptCount == 0 && !links.contains(where: { $0.isOpen }) { fail(error) }
      return nil
    }
  }

  private func serve(_ link: ClientLink) async {
    if client.isClosed { link.end(WireClient.closed(address)) }
    links.append(link)
    client.watchSilence()
    link.roomChanged = { [unowned self, unowned link] in
      takeBack(link.takeReturned())
      pump()
    }
    pump()
    let unsent = await link.run()
    client.statistics.bytesSent &+= link.sentByteCount
    client.statistics.bytesReceived &+= link.receivedByteCount
    links.removeAll { $0 === link }
    takeBack(link.takeReturned() + unsent)
    if client.isClosed { fail(WireClient.closed(address)) }
    pump()
    reconnectLater()
  }

  private func takeBack(_ calls: [PendingCall]) {
    for call in calls { call.id = 0 }
    backlog.insert(contentsOf: calls, at: 0)
  }

  private func fail(_ error: WireError) {
    let calls = backlog
    backlog.removeAll()
    for call in calls { call.finish(.failure(error)) }
  }

  /// Remakes a broken connection that was in use, so that the next call finds one. A call that comes
  /// in between does not wait for the back-off.
  private func reconnectLater() {
    if isReconnecting || client.isClosed { return }
    isReconnecting = true
    client.tasks.spawn("wire reconnection") { [self] in
      var backOff = Self.shortestBackOff
      var made: ClientLink?
      while made == nil {
        // Between half and all of it, so that many clients do not come back in step.
        let jitter = Double(driver.random() >> 11) / Double(UInt64(1) << 53)
        guard await driver.sleep(backOff * (0.5 + jitter / 2)) else { break }
        if client.isClosed || !links.isEmpty || driver.now - lastUse > Self.interest { break }
        if attemptCount == 0 {
          attemptCount += 1
          made = await reach()
        }
        backOff = min(backOff * 2, Self.longestBackOff)
      }
      isReconnecting = false
      if let made { await serve(made) }
    }
  }

  func tick() {
    for link in links { link.tick() }
    backlog.removeAll { $0.isOver }
  }

  /// See ``DeadlineWatch``.
  func expire(_ now: Duration, _ due: inout [PendingCall]) -> Duration? {
    var earliest: Duration?
    func consider(_ deadline: Duration?) {
      if let deadline, earliest.map({ deadline < $0 }) ?? true { earliest = deadline }
    }
    for link in links { consider(link.expire(now, &due)) }
    for call in backlog where !call.isOver {
      if call.deadline <= now { due.append(call) } else { consider(call.deadline) }
    }
    return earliest
  }

  func close() {
    fail(WireClient.closed(address))
    for link in links { link.end(WireClient.closed(address)) }
  }
}
