internal import Cluster
internal import Coding
internal import DataPath
internal import Messages
internal import Node
package import Ring
internal import ShardStore
package import Simulation
internal import Wire

/// The real daemons with their real configuration, on simulated machines: nodes "n0", "n1"…, coordinators "c0"…,
/// clients wherever they like ("client0"… are those that faults know), the arbiter's register on "arbiter".
///
/// A daemon that ended is started again, as a supervisor would do it, unless something holds it down. One that should
/// reopen and does not is a failure, unless a fault excuses it.
package final class SimulatedCluster: @unchecked Sendable {
  // Loop-confined.
  package let world: SimulatedWorld
  package let scenario: Scenario
  let nodes: [NodeSlot]
  let coordinators: [CoordinatorSlot]
  /// One that is only there by mistake.
  let stray: CoordinatorSlot?
  var isStrayWanted = false
  /// Whether coordinators' clocks run as they like now.
  private(set) var areClocksWild: Bool
  let register: ArbiterRegister?
  let masterKeys = SimulatedMasterKeys()
  private(set) lazy var caretaker = Operator(self)
  /// The first thing found wrong by the cluster itself.
  private(set) var failure: TrialFailure?
  /// What the supervisor may start; false once the trial is over.
  private var isSupervised = false

  static let key = ClusterKey(secret: Array(2..<34))

  package init(_ world: SimulatedWorld, _ scenario: Scenario) {
    self.world = world
    self.scenario = scenario
    areClocksWild = scenario.hasWildClocks
    world.network.defaultLink = scenario.network.link
    world.network.shortSendsPerThousand = scenario.network.shortSendsPerThousand
    register = scenario.arbiter == .register ? ArbiterRegister(world) : nil
    nodes = (0..<scenario.nodeCount).map { NodeSlot(world, scenario, number: $0) }
    coordinators = (0..<scenario.coordinatorCount).map {
      CoordinatorSlot(world, scenario, number: $0)
    }
    stray =
      scenario.hasStrayCoordinator
      ? CoordinatorSlot(world, scenario, number: scenario.coordinatorCount) : nil
    stray?.cluster = self
    for slot in nodes { slot.cluster = self }
    for slot in coordinators { slot.cluster = self }
  }

  package var coordinatorAddresses: [SocketAddress] { scenario.coordinatorAddresses }

  var coordinatorNames: [String] { coordinatorAddresses.map(\.host) }

  /// Numbers of nodes whose stored bytes faults may damage for good.
  package var victims: Set<Int> { Set(nodes.filter { !$0.damaged.isEmpty }.map(\.number)) }

  /// The node that is up with a device, and the device's store.
  func holder(of device: DeviceID) -> (slot: NodeSlot, store: ShardStore)? {
    for slot in nodes where slot.isUp {
      if let store = slot.node?.store(of: device) { return (slot, store) }
    }
    return nil
  }

  func fail(_ property: String, _ detail: String) {
    if failure == nil {
      failure = TrialFailure(property: property, detail: detail, at: world.now)
    }
  }

  // MARK: life

  /// Starts everything; see ``waitUntilFounded()``.
  func launch() {
    isSupervised = true
    world.harness.spawn("supervisor") { [self] in
      while isSupervised {
        supervise()
        guard await world.harness.sleep(.milliseconds(100)) else { return }
      }
    }
  }

  /// Waits until the cluster takes commands.
  func waitUntilFounded() async throws {
    try await waitUntilUp(within: .seconds(60))
    try await waitUntilServing(within: .seconds(60), "the cluster starts")
  }

  private func supervise() {
    for slot in coordinators { slot.supervise() }
    if isStrayWanted { stray?.supervise() }
    let leaders = (coordinators + (stray.map { [$0] } ?? [])).filter(\.isLeading)
    if leaders.count > 1 && !areClocksWild {
      fail("one leader", leaders.map(\.name).joined(separator: " and ") + " lead at once")
    }
    for slot in nodes { slot.supervise() }
  }

  /// Waits until a leader answers that hears every node.
  func waitUntilServing(within limit: Duration, _ property: String) async throws {
    let client = client(named: "waiting")
    let end = world.now + limit
    var last = ""
    while true {
      if let failure { throw failure }
      for address in coordinatorAddresses {
        do throws(WireError) {
          let answer = try await client.wire.call(
            GetStatus(), at: address, deadline: .seconds(2)
          ).answer
          // Wiped nodes stay in the map, and stay down.
          let up = answer.nodes.count(where: \.isUp)
          if answer.role == "leader" && up >= scenario.nodeCount {
            await client.close()
            return
          }
          last =
            "\(address) is \(answer.role) and hears \(up) of \(scenario.nodeCount) nodes: \(answer.detail)"
        } catch {
          if error.refusalCode != .notLeader || last.isEmpty { last = "\(address): \(error)" }
        }
      }
      if world.now > end {
        throw TrialFailure(
          property: property, detail: "after \(limit): \(last); \(describe())", at: world.now)
      }
      await world.sleep(.milliseconds(100))
    }
  }

  /// What runs and what does not, for people.
  func describe() -> String {
    (coordinators.map(\.description) + nodes.map(\.description)).filter { !$0.isEmpty }
      .joined(separator: ", ")
  }

  /// Waits until every daemon is up.
  func waitUntilUp(within limit: Duration) async throws {
    let end = world.now + limit
    while true {
      if let failure { throw failure }
      if nodes.allSatisfy(\.isUp) && coordinators.allSatisfy(\.isUp) { return }
      if world.now > end {
        throw TrialFailure(
          property: "every daemon reopens", detail: "after \(limit): \(describe())", at: world.now)
      }
      await world.sleep(.milliseconds(50))
    }
  }

  /// After the last fault: every daemon comes up, victims are looked after as their operator would do it, and the
  /// cluster serves.
  func settle() async throws {
    await tameClocks()
    let victims = nodes.filter { !$0.damaged.isEmpty }
    do {
      try await waitUntilUp(within: .seconds(60))
    } catch {
      // A victim that refuses its damaged disk gets a new one.
      let refusing = victims.filter { !$0.isUp }
      guard scenario.faults.mayLose, failure == nil, !refusing.isEmpty else { throw error }
      for slot in refusing {
        if nodes.count > 1 {
          slot.wipe(rest: .zero)
        } else {
          for device in slot.damaged.sorted() { slot.wipe(device: device, rest: .zero) }
        }
      }
      try await waitUntilUp(within: .seconds(60))
    }
    for slot in victims {
      // A device whose index was found damaged is given up until it is opened again.
      slot.end(.kill, rest: .zero)
      try await waitUntilUp(within: .seconds(60))
    }
    try await waitUntilServing(within: .seconds(60), "serves again")
    try await waitForDevices(within: .seconds(60))
  }

  /// Waits until every device that nothing damaged is open: one that its node left out for a passing reason is opened
  /// once that is gone.
  private func waitForDevices(within limit: Duration) async throws {
    let end = world.now + limit
    while true {
      if let failure { throw failure }
      let missing = nodes.flatMap(\.missingDevices)
      if missing.isEmpty { return }
      if world.now > end {
        throw TrialFailure(
          property: "every daemon reopens",
          detail: "after \(limit): " + missing.joined(separator: ", "), at: world.now)
      }
      await world.sleep(.milliseconds(100))
    }
  }

  /// Clocks run as leases need them from now on. Returns when no lease lasts of which that was not so.
  private func tameClocks() async {
    guard areClocksWild else { return }
    for slot in coordinators { slot.process?.setClockDrift(partsPerMillion: 0) }
    await world.sleep(.seconds(6))
    areClocksWild = false
  }

  /// Everything loses its power at once, and coordinators their disks: what the nodes hold has to be enough.
  func darken() async {
    for slot in nodes { slot.end(.powerCut, rest: .zero) }
    for slot in coordinators {
      slot.end(.powerCut, rest: .zero)
      slot.wipe(rest: .zero)
    }
    await world.sleep(.milliseconds(10))
  }

  /// Nothing is started any more.
  func stopSupervising() { isSupervised = false }

  /// A process of its own on a machine of its own, both of that name.
  package func client(named name: String) -> SwarmClient { SwarmClient(self, name) }

  /// The name of a client of the workload, by which faults find it.
  package static func clientName(_ index: Int) -> String { "client\(index)" }
}
