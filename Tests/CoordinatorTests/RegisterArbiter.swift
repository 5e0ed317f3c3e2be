import Coordinator
import Metadata
import Ring
import Simulation

/// A register with a lease that all coordinators ask, as they would ask etcd: one value, one clock, no faults of its
/// own. Who asks waits for the answer, and may be cut off from it.
final class LeaseRegister: @unchecked Sendable {
  // Loop-confined.
  private let world: SimulatedWorld
  let duration: Duration
  private(set) var root: RootRecord?
  private(set) var epoch: UInt64 = 0
  private(set) var holder: String?
  private var until = Duration.zero
  /// Coordinators whose requests and answers are lost.
  var cutOff: Set<String> = []
  /// How often the root was written by one who held no lease any more; refused each time.
  private(set) var refusedSwaps = 0

  init(_ world: SimulatedWorld, duration: Duration = .seconds(3)) {
    self.world = world
    self.duration = duration
  }

  /// The next epoch, or nil while another holds the lease.
  func claim(_ name: String, above floor: UInt64) -> UInt64? {
    guard holder == nil || world.now >= until else { return nil }
    epoch = max(epoch, floor) + 1
    holder = name
    until = world.now + duration
    return epoch
  }
  func renew(_ epoch: UInt64) -> Bool {
    guard epoch == self.epoch, holder != nil, world.now < until else { return false }
    until = world.now + duration
    return true
  }
  /// The root that counts afterwards.
  func swap(_ next: RootRecord, epoch: UInt64) -> RootRecord? {
    guard epoch == self.epoch, next.version == (root?.version ?? 0) + 1 else {
      refusedSwaps += 1
      return root
    }
    root = next
    return next
  }
  func resign(_ epoch: UInt64) { if epoch == self.epoch { holder = nil } }
}

/// One coordinator's end of a ``LeaseRegister``.
final class RegisterArbiter: Arbiter, @unchecked Sendable {
  // Loop-confined.
  private let register: LeaseRegister
  private let driver: any Driver
  private let name: String
  private let margin = Duration.milliseconds(300)
  private var epoch: UInt64 = 0
  private var floor: UInt64 = 0
  private var expiry = Duration.zero
  private var loss: Promise<ArbiterError>?
  private let swapping = Semaphore(1)
  private var isReleased = false
  private(set) var root: RootRecord?
  private(set) var detail = ""

  init(_ register: LeaseRegister, _ site: ArbiterSite) {
    self.register = register
    driver = site.driver
    name = site.configuration.name
  }

  /// There and back; nil when one of the two was lost, or the wait was in vain.
  private func ask<Value>(_ body: (LeaseRegister) -> Value?) async -> Value? {
    guard await driver.sleep(.microseconds(Int64(driver.random() % 4000))),
      !register.cutOff.contains(name)
    else { return nil }
    let value = body(register)
    guard await driver.sleep(.microseconds(Int64(driver.random() % 4000))),
      !register.cutOff.contains(name)
    else { return nil }
    return value
  }

  func acquire() async throws(ArbiterError) -> Term {
    while !isReleased {
      let sentAt = driver.now
      let floor = floor
      if let epoch = await ask({ $0.claim(name, above: floor) }), !isReleased {
        self.epoch = epoch
        expiry = sentAt + register.duration - margin
        let known = await ask { Optional<RootRecord?>.some($0.root) }
        guard let known, driver.now < expiry, !isReleased else { continue }
        root = known
        detail = ""
        let promise = Promise<ArbiterError>()
        loss = promise
        driver.spawn("register renewal") { [self] in await renew(epoch, promise) }
        return Term(epoch: epoch, root: root)
      }
      detail = "another coordinator leads"
      guard await driver.sleep(.milliseconds(300)) else { break }
    }
    throw .stopped
  }

  private func renew(_ epoch: UInt64, _ promise: Promise<ArbiterError>) async {
    while !promise.isFulfilled {
      let sentAt = driver.now
      let answer = await ask { $0.renew(epoch) }
      guard !promise.isFulfilled else { return }
      if answer == false { return lose(.expired) }
      if answer == true { expiry = max(expiry, sentAt + register.duration - margin) }
      if driver.now >= expiry { return lose(.expired) }
      guard await driver.sleep(min(.seconds(1), expiry - driver.now)) else { return }
    }
  }

  var isHeld: Bool { loss?.isFulfilled == false && driver.now < expiry }
  func waitForLoss() async -> ArbiterError { await loss?.get() ?? .expired }
  func lose(_ reason: ArbiterError) {
    guard let loss, !loss.isFulfilled else { return }
    if case .deposed(let other) = reason { floor = max(floor, other) }
    loss.fulfil(reason)
    register.resign(epoch)
  }

  func swap(in term: UInt64, _ edit: (RootRecord?) -> RootRecord) async throws(ArbiterError)
    -> RootRecord
  {
    await swapping.acquire()
    defer { swapping.release() }
    guard term == epoch else { throw .expired }
    guard let promise = loss else { throw .expired }
    var next = edit(root)
    next.epoch = epoch
    next.version = (root?.version ?? 0) + 1
    let epoch = epoch
    while !promise.isFulfilled {
      // What was written and not heard of is written again: the register knows it by its version.
      if let now = await ask({ $0.root == next ? next : $0.swap(next, epoch: epoch) }),
        !promise.isFulfilled
      {
        guard now == next else {
          lose(.deposed(epoch: now.epoch))
          break
        }
        root = next
        return next
      }
      guard await driver.sleep(.milliseconds(100)) else { break }
    }
    throw promise.isFulfilled ? await promise.get() : .stopped
  }

  func release() async {
    isReleased = true
    lose(.stopped)
  }
}
