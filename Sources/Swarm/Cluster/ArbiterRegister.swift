internal import Metadata
internal import Ring
internal import Simulation

/// What a consensus store would keep for the cluster: the highest epoch, who holds the lease, the root record. It is
/// linearizable and never loses anything; what can go wrong is the way to it. Runs as the process "arbiter" on a
/// machine of that name, so links to it can be cut.
final class ArbiterRegister: @unchecked Sendable {
  // Loop-confined.
  enum SwapAnswer {
    case done
    case deposed(epoch: UInt64)
    case expired
    /// The root is another one than was expected.
    case conflict(RootRecord?)
  }

  static let machineName = "arbiter"

  private let world: SimulatedWorld
  private let process: SimulatedProcess
  private var random: SimulationRandom
  private var epoch: UInt64 = 0
  private var holder: UInt64 = 0
  private var holderAddress: SocketAddress?
  private var expiry: Duration = .zero
  private var root: RootRecord?
  private var nextHolder: UInt64 = 1

  // Faults.
  /// Added to each way.
  var slowness: Duration = .zero
  var isUnreachable = false
  /// Of a hundred requests, how many are lost, half of them after they took effect.
  var failurePercent = 0

  init(_ world: SimulatedWorld) {
    self.world = world
    process = world.process(Self.machineName)
    random = world.random(named: "arbiter")
  }

  func newHolder() -> UInt64 {
    defer { nextHolder += 1 }
    return nextHolder
  }

  /// Who holds a lease now.
  var currentHolder: UInt64? { world.now < expiry ? holder : nil }

  // MARK: what it does, each in one step

  enum AcquireAnswer {
    case won(epoch: UInt64, root: RootRecord?)
    case led(by: SocketAddress?)
  }

  /// Gives the lead to `asker` under a new epoch unless another's lease may still last.
  func acquire(_ asker: UInt64, at address: SocketAddress, lease: Duration, above: UInt64)
    -> AcquireAnswer
  {
    guard holder == asker || world.now >= expiry else { return .led(by: holderAddress) }
    // Room below for nothing: epochs only have to rise.
    epoch = max(epoch, above) + 1
    holder = asker
    holderAddress = address
    expiry = world.now + lease
    return .won(epoch: epoch, root: root)
  }

  /// Nil when the lease goes on, else the epoch that is highest now.
  func renew(_ asker: UInt64, _ term: UInt64, lease: Duration) -> UInt64? {
    guard holder == asker, epoch == term, world.now < expiry else { return epoch }
    expiry = world.now + lease
    return nil
  }

  func release(_ asker: UInt64, _ term: UInt64) {
    if holder == asker && epoch == term { expiry = world.now }
  }

  func swap(_ asker: UInt64, _ term: UInt64, expecting version: UInt64, _ next: RootRecord)
    -> SwapAnswer
  {
    guard holder == asker, epoch == term else { return .deposed(epoch: epoch) }
    guard world.now < expiry else { return .expired }
    guard (root?.version ?? 0) == version else { return .conflict(root) }
    root = next
    return .done
  }

  // MARK: the way there and back

  /// Sends a request from `caller`'s machine; nil when no answer came within `deadline` (it may have taken effect, or
  /// take effect later), or when `isOver` said so meanwhile.
  func call<Answer: Sendable>(
    from caller: any Driver, host: String, deadline: Duration, isOver: () -> Bool = { false },
    request: @escaping @Sendable (ArbiterRegister) -> Answer
  ) async -> Answer? {
    // A killed process's tasks run on until they notice.
    if let process = caller as? SimulatedProcess, !process.isAlive { return nil }
    let box = AnswerBox<Answer>()
    let there = latency()
    let back = latency()
    let fate = random.below(200)
    let isLostBefore = fate < failurePercent
    let isLostAfter = !isLostBefore && fate < 2 * failurePercent
    if !isLostBefore {
      process.spawn("request") { [self] in
        guard await process.sleep(there) else { return }
        if isUnreachable || world.network.isCut(host, Self.machineName) { return }
        let answer = request(self)
        guard !isLostAfter, await process.sleep(back) else { return }
        if isUnreachable || world.network.isCut(Self.machineName, host) { return }
        box.answer = answer
      }
    }
    // Slept by the caller's own driver: an answer to a paused or killed process is not heard.
    let end = caller.now + deadline
    var nap = there + back + .microseconds(1)
    while !isOver() {
      let rest = end - caller.now
      guard rest > .zero else { return nil }
      guard await caller.sleep(min(nap, rest, .milliseconds(100))) else { return nil }
      if let answer = box.answer { return answer }
      nap = .milliseconds(20)
    }
    return nil
  }

  private func latency() -> Duration {
    .nanoseconds(random.within(200_000...3_000_000)) + slowness
  }
}

private final class AnswerBox<Answer>: @unchecked Sendable {
  // Loop-confined.
  var answer: Answer?
}
