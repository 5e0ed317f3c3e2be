import Glibc

/// One direction of a connection: segments on their way, in order.
final class Pipe {
  enum Content {
    case bytes(ByteChunk)
    /// The sender will send no more.
    case end
    case reset
    /// The sender has read that many bytes of the other direction, so its peer may send as many more.
    case window(Int)
  }

  private struct Segment {
    var due: Instant
    let content: Content
  }

  /// Linux gives a connection up after 15 retransmissions, 924.6 s.
  private static let giveUpAfter: Int64 = 924_600_000_000

  private let network: SimulatedNetwork
  /// Looked up once: hosts do not change while they have connections.
  private lazy var link = receiver.map { network.link(sender.machine.host, $0.machine.host) }
  private unowned let sender: Endpoint
  private weak var receiver: Endpoint?
  private var segments: [Segment] = []
  private var head = 0
  private var lastDue: Instant = 0
  private var isLosing = false
  private var isDead = false
  private var giveUp: SimulatedEvent?

  init(network: SimulatedNetwork, sender: Endpoint, receiver: Endpoint) {
    self.network = network
    self.sender = sender
    self.receiver = receiver
  }

  private var isBlocked: Bool {
    guard let receiver, let link else { return false }
    return isLosing || isDead || link.isCut || !receiver.machine.isOn
  }

  func push(_ content: Content) {
    guard let world = network.world, receiver != nil, let link else { return }
    var left = world.time
    if case .bytes(let bytes) = content {
      let transfer = Int64(
        Double(bytes.count) * 1e9 / Double(max(1, link.options.bytesPerSecond)))
      link.busyUntil = max(link.busyUntil, world.time).addingSaturated(transfer)
      left = link.busyUntil
    }
    let due = max(lastDue, left.addingSaturated(link.options.drawLatency(&network.chance)))
    lastDue = due
    segments.append(Segment(due: due, content: content))
    world.schedule(at: due) { self.pump() }
  }

  /// Delivers what is due, unless the way is blocked.
  func pump() {
    guard let world = network.world else { return }
    while head < segments.count {
      guard segments[head].due <= world.time else { return }
      guard !isBlocked else { return startGivingUp(world) }
      stopGivingUp()
      let content = segments[head].content
      head += 1
      if head == segments.count {
        segments.removeAll(keepingCapacity: true)
        head = 0
      } else if head > 64 && head * 2 > segments.count {
        segments.removeFirst(head)
        head = 0
      }
      receiver?.arrived(content)
    }
  }

  private func startGivingUp(_ world: SimulatedWorld) {
    guard giveUp == nil else { return }
    // A window update alone is not retransmitted: it is no data.
    let hasData = segments[head...].contains { segment in
      if case .window = segment.content { false } else { true }
    }
    guard hasData else { return }
    giveUp = world.schedule(after: Self.giveUpAfter) {
      self.giveUp = nil
      self.clear()
      self.sender.fail(ETIMEDOUT)
    }
  }

  private func stopGivingUp() {
    if let giveUp { network.world?.cancel(giveUp) }
    giveUp = nil
  }

  /// What is on its way will never arrive, nor anything after it.
  func loseBytes() {
    guard head < segments.count else { return }
    isLosing = true
  }

  /// From now on nothing arrives, and nobody is told.
  func die() { isDead = true }

  /// The way is free again: what waited arrives after a new delay, in order.
  func healed() {
    guard let world = network.world, let receiver, let link else { return }
    if isLosing {
      clear()
      isLosing = false
      sender.fail(ECONNRESET)
      receiver.fail(ECONNRESET)
      return
    }
    if isDead { return }
    let options = link.options
    var earliest = world.time
    for index in segments.indices.dropFirst(head) {
      if segments[index].due <= world.time {
        earliest = max(
          earliest, world.time.addingSaturated(options.drawLatency(&network.chance)))
      }
      segments[index].due = max(segments[index].due, earliest)
      earliest = segments[index].due
      world.schedule(at: earliest) { self.pump() }
    }
    lastDue = max(lastDue, earliest)
  }

  /// Forgets what is on its way.
  func clear() {
    stopGivingUp()
    segments = []
    head = 0
  }
}
