package import HTTP
package import Ring
package import Service
package import Wire

/// A webhook that writes are told to. Loop-confined.
///
/// What waits is bounded in bytes; when that is full, what comes is lost, counted and said in the log. Events of one key stay in
/// order: each key has its lane, and a lane has one request under way.
package final class NotificationTarget: @unchecked Sendable {
  // Loop-confined.
  package struct Configuration: Sendable {
    /// As ARNs have it.
    package var name: String
    package var endpoint: HTTPEndpoint
    /// Of the request: "/path".
    package var target: String
    /// For an endpoint that is secure.
    package var trust: TLSTrust?
    /// The field of that name; empty: none.
    package var authorization = ""
    /// A folder for what is not delivered yet; empty: that is in memory alone.
    package var queue = ""
    /// Of events that wait.
    package var byteLimit = 64 << 20
    package init(name: String, endpoint: HTTPEndpoint, target: String) {
      self.name = name
      self.endpoint = endpoint
      self.target = target
    }
  }

  package static func isName(_ text: String) -> Bool { NotificationARN.isName(text) }

  package struct Failure: Error {
    package var reason: String
    package var path: String
  }

  private struct Waiting {
    var body: [UInt8]
    /// Nil: there is no journal; fulfilled with nil: it is not in there.
    var kept: Promise<UInt64?>?
  }
  private struct Lane {
    var queue = Queue<Waiting>()
    var task: SpawnedTask?
  }

  let configuration: Configuration
  private let driver: any Driver
  private let log: Log
  private let client: HTTPClient
  private let journal: NotificationJournal?
  private var lanes: [Lane]
  private var waitingByteCount = 0
  private(set) var waitingCount = 0
  package private(set) var deliveredCount: UInt64 = 0
  package private(set) var lostCount: UInt64 = 0
  /// By reason: what was lost since it was last told.
  private var untoldLosses: [String: UInt64] = [:]
  private var nextReport = Duration.zero
  private var isFailing = false
  private var isFailureTold = false
  private var nextFailureReport = Duration.zero
  private var isStopping = false
  private let changed = WaitQueue()

  /// Requests under way at once.
  static let laneCount = 8
  /// What an event takes besides its bytes, about.
  private static let overhead = 128
  private static let deadline = Duration.seconds(10)
  private static let longestPause = Duration.seconds(60)
  /// Of an event that the webhook itself says is wrong.
  private static let refusalLimit = 5
  private static let grace = Duration.seconds(5)
  private static let reportInterval = Duration.seconds(60)

  private init(
    _ configuration: Configuration, _ journal: NotificationJournal?, _ driver: any Driver,
    _ log: Log
  ) {
    self.configuration = configuration
    self.journal = journal
    self.driver = driver
    self.log = log
    var limits = HTTPClient.Limits()
    limits.idle = Self.laneCount
    limits.bodyByteCount = 1 << 20
    client = HTTPClient(
      driver: driver, endpoint: configuration.endpoint, trust: configuration.trust, limits: limits)
    lanes = [Lane](repeating: Lane(), count: Self.laneCount)
  }

  /// Goes on with what the last process left in the queue.
  package static func open(_ configuration: Configuration, on driver: any Driver, log: Log)
    async throws(Failure) -> NotificationTarget
  {
    guard !configuration.queue.isEmpty else {
      return NotificationTarget(configuration, nil, driver, log)
    }
    do throws(NotificationJournal.Failure) {
      let (journal, found) = try await NotificationJournal.open(
        configuration.queue, on: driver, log: log)
      let target = NotificationTarget(configuration, journal, driver, log)
      if !found.isEmpty {
        log.info(
          "notifications are left from before",
          ["target": configuration.name, "count": found.count])
      }
      for event in found {
        let kept = Promise<UInt64?>()
        kept.fulfil(event.segment)
        target.add(Waiting(body: event.body, kept: kept), event.lane)
      }
      return target
    } catch {
      throw Failure(reason: error.reason, path: error.path)
    }
  }

  // MARK: Events

  /// Returns when the event is as safe as the target's configuration has it.
  ///
  /// - Parameter lane: the same for all events of a key.
  func send(_ body: [UInt8], lane: UInt32) async {
    guard waitingByteCount + body.count + Self.overhead <= configuration.byteLimit,
      body.count <= NotificationJournal.bodyByteLimit
    else { return lose(1, "too many wait") }
    let kept = journal?.append(lane, body)
    add(Waiting(body: body, kept: kept), lane)
    _ = await kept?.get()
  }

  private func add(_ event: Waiting, _ lane: UInt32) {
    waitingByteCount += event.body.count + Self.overhead
    waitingCount += 1
    let index = Int(lane % UInt32(Self.laneCount))
    lanes[index].queue.append(event)
    guard lanes[index].task == nil else { return }
    lanes[index].task = driver.spawn("notifications") { [self] in
      await run(index)
      lanes[index].task = nil
      changed.wakeAll()
    }
  }

  private func run(_ index: Int) async {
    while let event = lanes[index].queue.first, await deliver(event.body) {
      _ = lanes[index].queue.popFirst()
      waitingByteCount -= event.body.count + Self.overhead
      waitingCount -= 1
      if let kept = event.kept, let segment = await kept.get() { journal?.done(segment) }
    }
  }

  private enum Outcome {
    case taken
    /// Another time it may be.
    case failed(String)
    /// The webhook says that the event itself is wrong.
    case refused(String)
  }

  /// - Returns: false: the target is being stopped.
  private func deliver(_ body: [UInt8]) async -> Bool {
    var attempt = 0
    var refusalCount = 0
    while true {
      switch await post(body, deadline: Self.deadline) {
      case .taken:
        deliveredCount += 1
        if isFailing, isFailureTold {
          log.info(
            "notifications are delivered again",
            ["target": configuration.name, "waiting": waitingCount])
        }
        isFailing = false
        return true
      case .failed(let reason):
        if Task.isCancelled { return false }
        if !isFailing {
          // One that takes some and not others would fill the log.
          isFailureTold = driver.now >= nextFailureReport
          if isFailureTold {
            nextFailureReport = driver.now + Self.reportInterval
            log.warning(
              "notifications cannot be delivered",
              ["target": configuration.name, "reason": reason])
          }
          isFailing = true
          changed.wakeAll()
        }
      case .refused(let reason):
        refusalCount += 1
        if refusalCount == Self.refusalLimit {
          lose(1, reason)
          return true
        }
      }
      guard !isStopping, await driver.sleep(pause(after: attempt)) else { return false }
      attempt += 1
    }
  }

  /// Twice as long each time, and never the same for two.
  private func pause(after attempt: Int) -> Duration {
    let whole = min(Self.longestPause, .milliseconds(500 << min(attempt, 7)))
    return whole / 2 + .milliseconds(Int64(driver.random() % UInt64(whole.wholeMilliseconds / 2)))
  }

  private func post(_ body: [UInt8], deadline: Duration) async -> Outcome {
    var fields = HTTPFields([
      .init("Content-Type", "application/json"), .init("User-Agent", "Cairn"),
    ])
    if !configuration.authorization.isEmpty {
      fields.add("Authorization", configuration.authorization)
    }
    do throws(HTTPError) {
      let answer = try await client.send(
        HTTPRequest("POST", configuration.target, fields: fields, body: body, isRepeatable: true),
        deadline: deadline)
      switch answer.status {
      case 200...299: return .taken
      case 400, 410, 413, 415, 422: return .refused("HTTP \(answer.status)")
      default: return .failed("HTTP \(answer.status)")
      }
    } catch {
      return .failed(error.description)
    }
  }

  /// Whether the webhook takes this now.
  ///
  /// - Returns: nil when it does; else the reason, for people.
  func test(_ body: [UInt8]) async -> String? {
    switch await post(body, deadline: .seconds(5)) {
    case .taken: nil
    case .failed(let reason), .refused(let reason): reason
    }
  }

  private func lose(_ count: Int, _ reason: String) {
    lostCount += UInt64(count)
    untoldLosses[reason, default: 0] += UInt64(count)
    guard driver.now >= nextReport else { return }
    tellLosses()
    nextReport = driver.now + Self.reportInterval
  }

  private func tellLosses() {
    for (reason, count) in untoldLosses.sorted(by: { $0.key < $1.key }) {
      log.error(
        "notifications are lost",
        ["target": configuration.name, "count": count, "all": lostCount, "reason": reason])
    }
    untoldLosses = [:]
  }

  // MARK: The end

  /// Waits a little for what waits, as long as the webhook takes it.
  func stop() async {
    isStopping = true
    let timer = driver.spawn("notifications' end") { [self] in
      await driver.sleep(Self.grace)
      isFailing = true
      changed.wakeAll()
    }
    while waitingCount > 0 && !isFailing { await changed.wait() }
    timer.cancel()
    await timer.wait()
    for lane in lanes { lane.task?.cancel() }
    while lanes.contains(where: { $0.task != nil }) { await changed.wait() }
    await journal?.close()
    await client.close()
    if waitingCount > 0 {
      if journal == nil {
        lostCount += UInt64(waitingCount)
        untoldLosses["the gateway stops", default: 0] += UInt64(waitingCount)
      } else {
        log.info(
          "notifications stay in the queue",
          ["target": configuration.name, "count": waitingCount])
      }
    }
    tellLosses()
  }
}
