internal import Coordinator
internal import Metadata
internal import Ring
internal import Simulation

/// One coordinator's end of the ``ArbiterRegister``.
final class SimulatedArbiter: Arbiter, @unchecked Sendable {
  // Loop-confined.
  private let register: ArbiterRegister
  private let site: ArbiterSite
  private let host: String
  private let driver: any Driver
  private let timing: LeaseTiming
  let holder: UInt64
  private var epoch: UInt64 = 0
  /// Told by nodes; the next epoch must be higher.
  private var deposedBy: UInt64 = 0
  private(set) var root: RootRecord?
  /// When the last renewal that was granted was sent, by our clock.
  private var renewedAt: Duration = .zero
  private var loss: Promise<ArbiterError>?
  private var keeper: SpawnedTask?
  private let swapping = Semaphore(1)
  private var isReleased = false
  private(set) var detail = ""
  private(set) var leader: SocketAddress?
  var canHandOver: Bool { true }

  init(_ register: ArbiterRegister, _ site: ArbiterSite, host: String) {
    self.register = register
    self.site = site
    self.host = host
    driver = site.driver
    timing = site.configuration.lease
    holder = register.newHolder()
  }

  private func nap() async throws(ArbiterError) {
    let length = Duration.milliseconds(Int64(100 + driver.random() % 200))
    guard await driver.sleep(length), !isReleased else { throw .stopped }
  }

  func acquire() async throws(ArbiterError) -> Term {
    while true {
      if isReleased { throw .stopped }
      let sentAt = driver.now
      let holder = holder
      let lease = timing.duration
      let above = deposedBy
      let address = site.configuration.address
      let answer = await register.call(
        from: driver, host: host, deadline: timing.duration, isOver: { isReleased },
        request: { register in
          register.acquire(holder, at: address, lease: lease, above: above)
        })
      if isReleased { throw .stopped }
      switch answer {
      case .none:
        leader = nil
        detail = "the arbiter does not answer"
      case .led(let address):
        leader = address
        detail = "another coordinator leads"
      case .won(let won, let found):
        leader = nil
        // Too late already when the answer took long.
        guard driver.now < sentAt + timing.duration - timing.margin else { break }
        detail = ""
        epoch = won
        root = found
        renewedAt = sentAt
        let loss = Promise<ArbiterError>()
        self.loss = loss
        keeper = driver.spawn("lease") { [weak self] in await self?.keep(loss) }
        return Term(epoch: won, root: found)
      }
      try await nap()
    }
  }

  private var expiry: Duration { renewedAt + timing.duration - timing.margin }

  var isHeld: Bool {
    guard let loss, !loss.isFulfilled else { return false }
    return driver.now < expiry
  }

  func waitForLoss() async -> ArbiterError {
    guard let loss else { return .expired }
    return await loss.get()
  }

  func lose(_ reason: ArbiterError) {
    if case .deposed(let other) = reason { deposedBy = max(deposedBy, other) }
    loss?.fulfil(reason)
    keeper?.cancel()
    keeper = nil
  }

  private func keep(_ loss: Promise<ArbiterError>) async {
    var next = driver.now + timing.renewInterval
    while !loss.isFulfilled {
      if driver.meets(.leaseLostEarly) { return lose(.expired) }
      let pause = max(.milliseconds(1), min(next, expiry) - driver.now)
      guard await driver.sleep(pause), !loss.isFulfilled else { return }
      guard driver.now < expiry else { return lose(.expired) }
      let sentAt = driver.now
      next = sentAt + timing.renewInterval
      let (holder, term, lease) = (holder, epoch, timing.duration)
      let answer = await register.call(
        from: driver, host: host, deadline: timing.renewInterval, isOver: { loss.isFulfilled },
        request: { register in register.renew(holder, term, lease: lease) })
      guard !loss.isFulfilled else { return }
      switch answer {
      case .none: next = driver.now + .milliseconds(50)
      case .some(.none): renewedAt = max(renewedAt, sentAt)
      case .some(.some(let other)): return lose(other > epoch ? .deposed(epoch: other) : .expired)
      }
    }
  }

  @discardableResult
  func swap(in term: UInt64, _ edit: (RootRecord?) -> RootRecord) async throws(ArbiterError)
    -> RootRecord
  {
    await swapping.acquire()
    defer { swapping.release() }
    guard term == epoch else { throw .expired }
    guard let loss, !loss.isFulfilled else { throw await waitForLoss() }
    let version = root?.version ?? 0
    var next = edit(root)
    next.epoch = epoch
    next.version = version + 1
    while !loss.isFulfilled {
      let (holder, term, record) = (holder, epoch, next)
      let answer = await register.call(
        from: driver, host: host, deadline: .seconds(1), isOver: { loss.isFulfilled },
        request: { register in register.swap(holder, term, expecting: version, record) })
      if loss.isFulfilled { break }
      switch answer {
      case .none:
        guard await driver.sleep(.milliseconds(50)) else {
          lose(.stopped)
          continue
        }
      case .done: return counted(next)
      case .conflict(let current):
        // An answer was lost, and it was done.
        if current == next { return counted(next) }
        lose(.expired)
      case .deposed(let other): lose(.deposed(epoch: other))
      case .expired: lose(.expired)
      }
    }
    throw await loss.get()
  }

  private func counted(_ next: RootRecord) -> RootRecord {
    root = next
    site.nodes.note(next)
    return next
  }

  func release() async {
    isReleased = true
    let (holder, term) = (holder, epoch)
    let wasHeld = isHeld
    lose(.stopped)
    guard wasHeld else { return }
    _ = await register.call(from: driver, host: host, deadline: .seconds(1)) { register in
      register.release(holder, term)
    }
  }
}
