import Cluster
import Coding
import Messages
import Metadata
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// What leaders were told is acknowledged, and what replays found.
private final class History: @unchecked Sendable {
  // Loop-confined.
  /// By position: the name in the command.
  var acknowledged: [UInt64: String] = [:]
  var applied: [UInt64: String] = [:]
  var wrong: [String] = []
  var takeOvers = 0
  var rolls: Set<UInt64> = []
  var copied = 0
}

@Suite("The log's rules")
struct LogRuleTests {
  static func name(_ command: Command) -> String {
    if case .openSession(let client) = command { client } else { "?" }
  }

  /// One leader's life: takes over, reads the whole log back, appends until it is killed.
  private static func lead(
    _ process: SimulatedProcess, _ arbiter: ModelArbiter, _ devices: ModelDevices,
    _ harness: SimulatedProcess, _ history: History, table: NodeTable
  ) async {
    let port = ModelPort(process, devices, harness: harness)
    let reader = LogReader(driver: process, port: port, nodes: table)
    let opener = LinkOpener(
      driver: process, port: port, nodes: table, arbiter: arbiter, epoch: arbiter.epoch,
      slow: .seconds(1))
    let takeOver = TakeOver(
      driver: process, port: port, nodes: table, arbiter: arbiter, opener: opener,
      reader: reader, epoch: arbiter.epoch, fenceBound: .milliseconds(50), report: { _ in })
    do throws(LogError) {
      guard let root = arbiter.root else { return }
      let outcome = try await takeOver.run(root)
      guard process.isAlive else { return }
      history.copied += Int(outcome.opened.stripeCount) - 1
      var links = arbiter.root!.links
      guard links.last?.number == outcome.opened.link.number else { return }
      links[links.count - 1].sealedStripes = outcome.opened.stripeCount
      var end: UInt64 = 0
      try await reader.replay(links, after: 0) { batch in
        for (index, command) in batch.commands.enumerated() {
          let position = batch.firstPosition + UInt64(index)
          if position != end + 1 { history.wrong.append("\(position) follows \(end)") }
          end = position
          let name = name(command)
          if let known = history.applied[position], known != name {
            history.wrong.append("\(position): \(known) became \(name)")
          }
          history.applied[position] = name
        }
        return nil
      }
      if end != outcome.nextPosition - 1 {
        history.wrong.append("the log ends at \(end), the take-over says \(outcome.nextPosition)")
      }
      for position in history.acknowledged.keys where position > end {
        history.wrong.append("\(position) was acknowledged and is lost")
      }
      history.takeOvers += 1
      var options = LogWriter.Options()
      options.linkStripeLimit = 30
      options.window = 4
      let writer = LogWriter(
        driver: process, port: port, arbiter: arbiter, opener: opener, epoch: arbiter.epoch,
        options: options, opened: outcome.opened, nextPosition: outcome.nextPosition)
      var count = 0
      while process.isAlive {
        try await writer.waitForRoom()
        var commands: [Command] = []
        for _ in 0...(process.random() % 3) {
          count += 1
          commands.append(.openSession(client: "\(arbiter.epoch)-\(count)"))
        }
        let first = writer.nextPosition
        let promise = writer.append(commands, wallMilliseconds: 0)
        history.rolls.insert(writer.link.number)
        process.spawn("acknowledged") {
          guard case .success(let batch) = await promise.get(), process.isAlive else { return }
          if batch.firstPosition != first { history.wrong.append("a batch moved") }
          for (index, command) in batch.commands.enumerated() {
            let position = first + UInt64(index)
            let name = name(command)
            for known in [history.acknowledged[position], history.applied[position]] {
              if let known, known != name {
                history.wrong.append("\(position): \(known) and \(name) both count")
              }
            }
            history.acknowledged[position] = name
          }
        }
        if process.random() % 4 == 0 { await process.sleep(.microseconds(500)) }
      }
    } catch {
      // Deposed or dead: the next one goes on.
    }
  }

  @Test(
    "no acknowledged batch is lost and none counts in two ways, whoever dies in the middle",
    arguments: paired([(0, 2), (1, 2), (1, 4), (2, 5), (3, 7)]))
  func rules(shape: (m: Int, devices: Int), seed: Seed) throws {
    let (m, count) = shape
    let history = try SimulatedWorld.run(seed: seed.value) { world -> History in
      let devices = ModelDevices(count, random: world.random(named: "devices"))
      let register = ModelRegister(
        RootRecord(
          version: 1, clusterID: 1, epoch: 0, scheme: Scheme(k: 1, m: m)!,
          domains: devices.domains(), links: []))
      let history = History()
      var random = world.random(named: "fates")
      var previous: SimulatedProcess?
      for term in 0..<60 {
        let process = world.process("leader\(term)")
        let table = NodeTable(driver: process)
        table.note(register.root)
        let arbiter = ModelArbiter(register)
        arbiter.isBlind = random.chance(1, in: 2)
        process.spawn("lead") {
          await Self.lead(process, arbiter, devices, world.harness, history, table: table)
        }
        // At most m devices are down at any time; they come and go while the leader works.
        for _ in 0..<random.below(6) {
          await world.sleep(.microseconds(random.below(12_000)))
          let down = devices.ids.filter { !devices.devices[$0]!.isUp }
          if down.count < m, random.chance(2, in: 3) {
            devices.devices[devices.ids[random.below(count)]]!.isUp = false
          } else if let one = down.first {
            devices.devices[one]!.isUp = true
          }
          previous?.kill()
          previous = nil
        }
        await world.sleep(.microseconds(random.below(40_000)))
        if random.chance(1, in: 3) {
          // It goes on beside its successor for a while, not knowing.
          previous = process
        } else {
          process.kill()
        }
        // Whoever is down now stays so through the next take-over, perhaps others than before.
        if random.chance(1, in: 2) {
          for id in devices.ids { devices.devices[id]!.isUp = true }
          for _ in 0..<m where random.chance(2, in: 3) {
            devices.devices[devices.ids[random.below(count)]]!.isUp = false
          }
        }
      }
      previous?.kill()
      // What counts must be readable with any m devices gone, as long as enough are left to go on.
      for id in devices.ids { devices.devices[id]!.isUp = true }
      if count > 2 * m {
        for id in devices.ids.shuffled(using: &random).prefix(m) {
          devices.devices[id]!.isUp = false
        }
      }
      let last = world.process("last")
      let table = NodeTable(driver: last)
      table.note(register.root)
      let before = history.takeOvers
      last.spawn("lead") {
        await Self.lead(last, ModelArbiter(register), devices, world.harness, history, table: table)
      }
      let end = world.now + .seconds(10)
      while history.takeOvers == before && world.now < end { await world.sleep(.milliseconds(10)) }
      if history.takeOvers == before { history.wrong.append("the log cannot be read any more") }
      await world.sleep(.milliseconds(50))
      last.kill()
      return history
    }
    #expect(history.wrong.isEmpty, "\(history.wrong.prefix(5))")
    #expect(history.takeOvers > 5 && history.acknowledged.count > 30)
  }

  @Test(
    "what a term had under way when it ended names no link in the next, though the same coordinator leads"
  )
  func nextTermOfTheSame() throws {
    let (named, terms) = try SimulatedWorld.run(seed: 1) { world -> (Int, Int) in
      let devices = ModelDevices(2, random: world.random(named: "devices"))
      devices.lag = .milliseconds(200)
      let process = world.process("leader")
      let table = NodeTable(driver: process)
      let port = ModelPort(process, devices, harness: world.harness)
      let scheme = Scheme(k: 1, m: 1)!
      let configuration = CoordinatorConfiguration(
        name: "leader", address: SocketAddress(host: "leader", port: 7400),
        dataDirectory: "/leader", key: clusterKey, scheme: scheme, expectedNodes: 2)
      let register = LeaseRegister(world)
      let arbiter = RegisterArbiter(
        register,
        ArbiterSite(driver: process, configuration: configuration, nodes: table, port: port))
      let founding = try await arbiter.acquire()
      table.note(
        try await arbiter.swap(in: founding.epoch) { _ in
          RootRecord(
            version: 1, clusterID: 1, epoch: 0, scheme: scheme, domains: devices.domains(),
            links: [])
        })
      arbiter.lose(.expired)
      var named = 0
      for _ in 0..<50 {
        let term = try await arbiter.acquire()
        let opener = LinkOpener(
          driver: process, port: port, nodes: table, arbiter: arbiter, epoch: term.epoch,
          slow: .seconds(1))
        let opening = process.spawn("open") {
          _ = try? await opener.open(firstPosition: 1, copies: [], sealing: nil)
        }
        await process.sleep(.microseconds(Int64(process.random() % 2000)))
        arbiter.lose(.expired)
        let next = try await arbiter.acquire()
        await opening.wait()
        if register.root != next.root { named += 1 }
        arbiter.lose(.expired)
      }
      return (named, Int(register.epoch))
    }
    #expect(named == 0)
    #expect(terms > 50)
  }
}
