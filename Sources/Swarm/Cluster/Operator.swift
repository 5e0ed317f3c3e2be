internal import Coding
internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// Who looks after the cluster while clients work: changes its scheme, and has it checked now and then. Loop-confined.
final class Operator: @unchecked Sendable {
  private unowned let cluster: SimulatedCluster
  private var scenario: Scenario { cluster.scenario }
  private var world: SimulatedWorld { cluster.world }
  /// What is under way, for people.
  private var tasks: Set<String> = []
  private var isStopping = false

  init(_ cluster: SimulatedCluster) { self.cluster = cluster }

  func start() {
    if let change = scenario.schemeChange {
      begin("the scheme changes") { [self] client in
        guard await world.harness.sleep(change.time) else { return }
        await setScheme(change.scheme, client)
      }
    }
    if let interval = scenario.rotationInterval {
      begin("rotations end") { [self] client in
        var random = world.random(named: "operator/keys")
        while await world.harness.sleep(interval), !isStopping {
          let domain = scenario.keyDomains[random.below(scenario.keyDomains.count)]
          await rotate(random.chance(1, in: 2) ? domain : "", client)
        }
      }
    }
    if let interval = scenario.checkInterval {
      begin("checks end") { [self] client in
        var random = world.random(named: "operator/check")
        while await world.harness.sleep(interval), !isStopping {
          await lookOnce(client, repairs: random.chance(1, in: 2))
        }
      }
    }
  }

  private func begin(_ what: String, _ body: @escaping @Sendable (SwarmClient) async -> Void) {
    tasks.insert(what)
    world.harness.spawn("operator") { [self] in
      let client = cluster.client(named: "operator, that \(what)")
      await body(client)
      await client.close()
      tasks.remove(what)
    }
  }

  /// Begins nothing more, and waits until what is under way has come about.
  func stop(within limit: Duration) async throws {
    isStopping = true
    let end = world.now + limit
    while let first = tasks.min() {
      if let failure = cluster.failure { throw failure }
      if world.now > end {
        throw TrialFailure(property: first, detail: "not within \(limit)", at: world.now)
      }
      await world.sleep(.milliseconds(200))
    }
  }

  /// Again and again until it is so.
  private func setScheme(_ scheme: Scheme, _ client: SwarmClient) async {
    while true {
      do throws(DataPathError) {
        if try await client.coordinator.query(ChangeScheme(scheme: scheme)).scheme == scheme {
          return
        }
      } catch {
        // Nodes may be gone for good.
        if error.refusalCode == .tooLittleLeft { return }
      }
      guard await world.harness.sleep(.seconds(1)) else { return }
    }
  }

  /// A domain's key, or the master key; one that everything was wrapped anew under makes those before it needless.
  private func rotate(_ domain: String, _ client: SwarmClient) async {
    if domain.isEmpty { cluster.masterKeys.current += 1 }
    let current = cluster.masterKeys.current
    do throws(DataPathError) {
      _ = try await client.coordinator.query(RotateKeys(domain: domain.isEmpty ? nil : domain))
      if domain.isEmpty { cluster.masterKeys.oldest = current }
    } catch {
      // Nobody leads, or the lead was lost on the way: the next one goes on.
      if error.refusalCode == .keyUnavailable || error.refusalCode == .noSuchKeyDomain {
        cluster.fail("keys open", "rotation of '\(domain)': \(error)")
      }
    }
  }

  /// In the midst of it all devices and objects may lack anything, but the state agrees with itself.
  private func lookOnce(_ client: SwarmClient, repairs: Bool) async {
    do throws(DataPathError) {
      let found = try await Self.check(client, repairs: repairs) ?? []
      if let wrong = found.first(where: { $0.kind == .state }) {
        cluster.fail("the state fits together", "admin fsck: \(wrong.subject): \(wrong.text)")
      }
    } catch {
      // Nobody leads, or nobody can be reached.
    }
  }

  /// `admin fsck`.
  ///
  /// - Returns: all that it found; nil when it was not ended, because the lead was lost or something could not be read.
  static func check(_ client: SwarmClient, repairs: Bool) async throws(DataPathError)
    -> [CheckStatus.Finding]?
  {
    let id = try await client.coordinator.query(
      StartCheck(parts: [.state, .devices, .objects], repairs: repairs)
    ).check
    var findings: [CheckStatus.Finding] = []
    while true {
      let answer: CheckStatus.Answer
      do throws(DataPathError) {
        answer = try await client.coordinator.query(
          CheckStatus(check: id, after: UInt64(findings.count)))
      } catch {
        if error.refusalCode == .noSuchCheck { return nil }
        throw error
      }
      findings += answer.findings
      guard answer.findings.isEmpty else { continue }
      if answer.isDone { return answer.failure.isEmpty ? findings : nil }
      guard await client.driver.sleep(.milliseconds(50)) else { throw .cancelled }
    }
  }
}
