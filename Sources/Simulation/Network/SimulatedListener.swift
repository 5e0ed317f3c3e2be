import Glibc
internal import Ring

/// A listening socket and the connections nobody has accepted yet.
final class SimulatedListener {
  let machine: SimulatedMachine
  let port: UInt16
  private let network: SimulatedNetwork
  private let backlog: Int
  private var offered: [(endpoint: Endpoint, from: SocketAddress)] = []
  private var waiting: [(pending: PendingOperation, outcome: Outcome<SocketAddress>)] = []
  private var isShutDown = false
  private var isClosing = false

  init(process: SimulatedProcess, network: SimulatedNetwork, port: UInt16, backlog: Int) {
    machine = process.machine
    self.network = network
    self.port = port
    self.backlog = backlog
  }

  var isFull: Bool { offered.count >= backlog }

  func offer(_ endpoint: Endpoint, from: SocketAddress) {
    offered.append((endpoint, from))
    serve()
  }

  func accept(_ pending: PendingOperation, _ outcome: Outcome<SocketAddress>) {
    if isShutDown { return pending.decide(-EINVAL) }
    waiting.append((pending, outcome))
    pending.withdraw = { [unowned pending] in
      self.waiting.removeAll { $0.pending === pending }
      self.closeIfIdle()
    }
    serve()
  }

  private func serve() {
    while !waiting.isEmpty, !offered.isEmpty {
      let (pending, outcome) = waiting.removeFirst()
      let (endpoint, from) = offered.removeFirst()
      outcome.value = from
      let process = pending.process
      pending.withdraw = nil
      pending.decide(
        process.addDescriptor(.endpoint(endpoint)), after: network.chance.within(1_000...20_000))
    }
    closeIfIdle()
  }

  func shutdown() {
    isShutDown = true
    let all = waiting
    waiting = []
    for (pending, _) in all { pending.decide(-EINVAL) }
    end(silently: false)
  }

  func close() {
    isClosing = true
    closeIfIdle()
  }

  private func closeIfIdle() {
    if isClosing && waiting.isEmpty { end(silently: false) }
  }

  /// Gives the port up and resets what nobody accepted.
  func end(silently: Bool) {
    network.forget(self)
    let left = offered
    offered = []
    for (endpoint, _) in left { endpoint.end(silently: silently) }
  }
}
