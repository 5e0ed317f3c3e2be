import Glibc
internal import Ring

/// The one network between all machines.
///
/// # Fault model
///
/// - A stream delivers its bytes once and in order, or ends with an error; segments are cut and
///   delayed by the seed. A send is done when its bytes are in the sender's buffer, which says
///   nothing about the peer.
/// - Buffers are bounded (16 to 512 KiB for each direction, drawn per connection): a sender waits
///   for its reader.
/// - A receive gives what has arrived, or by the seed less.
/// - ``cut(_:_:oneWay:pending:connections:)``: segments to the other side wait; a connection whose
///   bytes get no further for 924 s (Linux's 15 retransmissions) ends with -ETIMEDOUT. A new
///   connection tries again after 1, 2, 4 ... 64 s and then gives -ETIMEDOUT, as Linux does.
/// - A closed port answers -ECONNREFUSED, an unknown host -EHOSTUNREACH; ``refuse(_:_:oneWay:)`` makes open
///   ports look closed.
/// - ``forgetConnections(_:_:)`` makes connections half open: whoever sends gets -ETIMEDOUT after 924 s,
///   whoever only waits waits for ever.
/// - A killed process's connections are reset; bytes on their way may still arrive or not. A
///   machine without power says nothing: its peers' connections are half open until they time out
///   or, the machine being up again, get a reset.
/// - After a reset, what had arrived unread may be lost.
/// - Closing with unread bytes resets the peer, as Linux does. While an operation on a socket is
///   under way, closing its descriptor does not close the socket: cancel the operation or call
///   `shutdown` first.
package final class SimulatedNetwork: @unchecked Sendable {
  // Loop-confined.

  /// What happens to bytes that are on their way when a link is cut.
  package enum PendingBytes: Sendable {
    /// They arrive after the healing.
    case held
    /// They never arrive: their connections are reset at the healing.
    case lost
  }

  /// What happens to connections over a link that is cut.
  package enum Connections: Sendable {
    case hang
    /// Both ends see -ECONNRESET at once.
    case reset
  }

  private struct Way: Hashable {
    let from: String
    let to: String
  }

  weak var world: SimulatedWorld?
  let chunks = ChunkPool()
  var chance: SimulationRandom
  /// The way between different hosts where nothing else was set.
  package var defaultLink = LinkOptions.localNetwork
  /// Of a thousand sends, how many take only a part of their bytes. The operation's contract says all of
  /// them; above 0 this also tests code that does not lean on it.
  package var shortSendsPerThousand = 0
  private var links: [Way: Link] = [:]
  private var listeners: [SocketAddress: SimulatedListener] = [:]
  /// Both ends of every connection that is not over, by number.
  private var endpoints: [UInt64: Endpoint] = [:]
  private var nextEndpoint: UInt64 = 0

  init(random: SimulationRandom) { chance = random }

  func removeAll() {
    for endpoint in endpoints.values { endpoint.unlink() }
    endpoints = [:]
    listeners = [:]
    links = [:]
  }

  // MARK: Names

  private func machine(host: String) -> SimulatedMachine? {
    // By name, for two may bear one host name by mistake.
    world?.machines.values.filter { $0.host == host }.min { $0.name < $1.name }
  }

  /// Host of the machine called `name`, or `name` itself.
  private func host(_ name: String) -> String {
    world?.machines[name]?.host ?? name
  }

  /// The host that `name` means on `machine`: nil when there is none.
  func resolve(_ name: String, on machine: SimulatedMachine) -> SimulatedMachine? {
    if name == machine.host { return machine }
    if let found = self.machine(host: name) { return found }
    return SocketAddress(host: name, port: 0).isLoopback ? machine : nil
  }

  // MARK: Faults

  /// Stops all bytes from `a` to `b`, and back unless `oneWay`. Names are machines' or hosts'.
  package func cut(
    _ a: String, _ b: String, oneWay: Bool = false, pending: PendingBytes = .held,
    connections: Connections = .hang
  ) {
    world?.note("network", "cut \(a) \(oneWay ? "->" : "<->") \(b)")
    if cut(ways(a, b, oneWay), pending, connections) { world?.count(.cut) }
  }

  /// - Returns: whether any way was open.
  private func cut(_ ways: [Way], _ pending: PendingBytes, _ connections: Connections) -> Bool {
    var wasOpen = false
    for way in ways {
      let link = link(way.from, way.to)
      wasOpen = wasOpen || !link.isCut
      link.isCut = true
    }
    for endpoint in sortedEndpoints() {
      guard ways.contains(Way(from: endpoint.host, to: endpoint.peerHost)) else { continue }
      if connections == .reset {
        endpoint.fail(ECONNRESET)
        endpoint.peer?.fail(ECONNRESET)
      } else if pending == .lost {
        endpoint.outgoing.loseBytes()
      }
    }
    wake()
    return wasOpen
  }

  private func ways(_ a: String, _ b: String, _ oneWay: Bool) -> [Way] {
    let there = Way(from: host(a), to: host(b))
    return oneWay ? [there] : [there, Way(from: host(b), to: host(a))]
  }

  /// Ends a cut or a refusal, in both directions.
  package func heal(_ a: String, _ b: String) {
    world?.note("network", "heal \(a) <-> \(b)")
    mend { from, to in
      (from == host(a) && to == host(b)) || (from == host(b) && to == host(a))
    }
  }

  package func healAll() {
    world?.note("network", "heal all")
    mend { _, _ in true }
  }

  private func mend(_ isMeant: (String, String) -> Bool) {
    for (way, link) in links where isMeant(way.from, way.to) {
      link.isCut = false
      link.isRefusing = false
    }
    for endpoint in sortedEndpoints() where isMeant(endpoint.host, endpoint.peerHost) {
      endpoint.outgoing.healed()
    }
    wake()
  }

  /// Cuts `name` off from every machine there is now: one fault.
  package func isolate(
    _ name: String, pending: PendingBytes = .held, connections: Connections = .hang
  ) {
    world?.note("network", "isolate \(name)")
    let others = (world?.machines.keys.sorted() ?? []).filter { host($0) != host(name) }
    if cut(others.flatMap { ways(name, $0, false) }, pending, connections) { world?.count(.cut) }
  }

  /// Refuses new connections from `a` to `b`, as a firewall that answers, until healed; those that are open stay.
  package func refuse(_ a: String, _ b: String, oneWay: Bool = true) {
    world?.note("network", "refuse \(a) \(oneWay ? "->" : "<->") \(b)")
    for way in ways(a, b, oneWay) { link(way.from, way.to).isRefusing = true }
  }

  private func endpoints(between a: String, _ b: String) -> [Endpoint] {
    let (a, b) = (host(a), host(b))
    return sortedEndpoints().filter {
      ($0.host == a && $0.peerHost == b) || ($0.host == b && $0.peerHost == a)
    }
  }

  /// Resets every connection between two machines; each end sees -ECONNRESET.
  package func resetConnections(_ a: String, _ b: String) {
    world?.note("network", "reset connections \(a) <-> \(b)")
    let open = endpoints(between: a, b)
    if !open.isEmpty { world?.count(.reset) }
    for endpoint in open { endpoint.fail(ECONNRESET) }
  }

  /// Makes every connection between two machines half open, as a router that forgot them: no byte arrives any
  /// more and nobody is told. New connections are made as ever.
  package func forgetConnections(_ a: String, _ b: String) {
    world?.note("network", "forget connections \(a) <-> \(b)")
    let open = endpoints(between: a, b)
    if !open.isEmpty { world?.count(.halfOpen) }
    for endpoint in open { endpoint.outgoing.die() }
  }

  /// Sets what the way from `a` to `b` is like, and back unless `oneWay`.
  package func setLink(_ a: String, _ b: String, _ options: LinkOptions, oneWay: Bool = false) {
    world?.note(
      "network", "link \(a) \(oneWay ? "->" : "<->") \(b) now within \(options.latency.upperBound)")
    var isSlower = false
    for way in ways(a, b, oneWay) {
      let link = link(way.from, way.to)
      isSlower =
        isSlower || options.latency.upperBound > link.options.latency.upperBound
        || options.bytesPerSecond < link.options.bytesPerSecond
      link.options = options
    }
    if isSlower { world?.count(.slowLink) }
  }

  package func isCut(_ from: String, _ to: String) -> Bool { link(host(from), host(to)).isCut }

  /// Connections that are not over on both ends.
  package var connectionCount: Int {
    Set(endpoints.values.map { min($0.number, $0.peer?.number ?? $0.number) }).count
  }

  // MARK: Links

  func link(_ from: String, _ to: String) -> Link {
    let way = Way(from: from, to: to)
    if let known = links[way] { return known }
    let made = Link(from == to ? .loopback : defaultLink)
    links[way] = made
    return made
  }

  func isBlocked(from: SimulatedMachine, to: SimulatedMachine) -> Bool {
    link(from.host, to.host).isCut || !to.isOn
  }

  /// Something that blocked a way is gone, or has come: looks at every stream again.
  func wake() {
    for endpoint in sortedEndpoints() { endpoint.outgoing.pump() }
  }

  private func sortedEndpoints() -> [Endpoint] {
    endpoints.values.sorted { $0.number < $1.number }
  }

  func drop(_ endpoint: Endpoint) { endpoints[endpoint.number] = nil }

  // MARK: Listening

  func listen(_ process: SimulatedProcess, _ address: SocketAddress, backlog: Int)
    throws(Refusal) -> SimulatedListener
  {
    let isAny = address.host == "0.0.0.0" || address.host == "::"
    guard isAny || resolve(address.host, on: process.machine) === process.machine else {
      throw Refusal(EADDRNOTAVAIL)
    }
    let host = process.machine.host
    var port = address.port
    if port == 0 {
      guard
        let free = process.machine.takePort(isUsed: {
          listeners[SocketAddress(host: host, port: $0)] != nil
        })
      else { throw Refusal(EADDRINUSE) }
      port = free
    }
    let key = SocketAddress(host: host, port: port)
    guard listeners[key] == nil else { throw Refusal(EADDRINUSE) }
    let listener = SimulatedListener(
      process: process, network: self, port: port, backlog: max(1, backlog))
    listeners[key] = listener
    return listener
  }

  func forget(_ listener: SimulatedListener) {
    listeners[SocketAddress(host: listener.machine.host, port: listener.port)] = nil
  }

  // MARK: Connecting

  func connect(_ pending: PendingOperation, to address: SocketAddress) {
    let machine = pending.process.machine
    guard let target = resolve(address.host, on: machine) else {
      return pending.decide(-EHOSTUNREACH, after: chance.within(5_000...50_000))
    }
    tryConnect(pending, to: target, port: address.port, attempt: 0)
  }

  private func latency(_ from: SimulatedMachine, _ to: SimulatedMachine) -> Int64 {
    link(from.host, to.host).options.drawLatency(&chance)
  }

  private func tryConnect(
    _ pending: PendingOperation, to target: SimulatedMachine, port: UInt16, attempt: Int
  ) {
    guard let world else { return }
    let machine = pending.process.machine
    pending.event = world.schedule(after: latency(machine, target)) {
      let listener = self.listeners[SocketAddress(host: target.host, port: port)]
      if self.isBlocked(from: machine, to: target) || self.isBlocked(from: target, to: machine)
        || listener?.isFull == true
      {
        guard attempt < 7 else { return pending.decide(-ETIMEDOUT) }
        pending.event = world.schedule(after: 1_000_000_000 << Int64(attempt)) {
          self.tryConnect(pending, to: target, port: port, attempt: attempt + 1)
        }
        return
      }
      let back = self.latency(target, machine)
      guard let listener else { return pending.decide(-ECONNREFUSED, after: back) }
      if self.link(machine.host, target.host).isRefusing {
        world.count(.refusal)
        return pending.decide(-ECONNREFUSED, after: back)
      }
      self.establish(pending, listener, back)
    }
  }

  private func establish(
    _ pending: PendingOperation, _ listener: SimulatedListener, _ delay: Int64
  ) {
    guard let world else { return }
    let process = pending.process
    let client = Endpoint(number: nextEndpoint, machine: process.machine, network: self)
    let server = Endpoint(number: nextEndpoint + 1, machine: listener.machine, network: self)
    nextEndpoint += 2
    client.join(server)
    server.join(client)
    endpoints[client.number] = client
    endpoints[server.number] = server
    let port = process.machine.takePort { _ in false } ?? 0
    listener.offer(server, from: SocketAddress(host: process.machine.host, port: port))
    pending.withdraw = { client.end(silently: false) }
    pending.event = world.schedule(after: delay) {
      // A reset may have come first; the descriptor is good all the same, its next use shows it.
      pending.withdraw = nil
      pending.finish(process.addDescriptor(.endpoint(client)))
    }
  }
}
