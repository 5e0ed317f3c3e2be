import Cluster
import Messages
import Metadata
import Ring
import Wire

/// Extends the log: one batch is one stripe of the open link, a few under way at a time, acknowledged in order.
///
/// When a device fails or is slow past a bound, or the link is full, the link is sealed at its last acknowledged
/// stripe, the next one is opened on other devices, and what was not acknowledged goes there again at
/// the same positions.
final class LogWriter: @unchecked Sendable {
  // Loop-confined.
  struct Options: Sendable {
    var linkByteLimit = 64 << 20
    var linkStripeLimit: UInt64 = 4096
    /// A device that has not stored a block by then is given up.
    var slow = Duration.seconds(3)
    /// Batches under way.
    var window = 3
  }

  private final class Entry: @unchecked Sendable {
    // Loop-confined.
    var batch: LogBatch
    let promise = Promise<Result<LogBatch, LogError>>()
    var isDone = false
    var stripe: UInt64 = 0
    init(_ batch: LogBatch) { self.batch = batch }
  }

  private let driver: any Driver
  private let port: any NodePort
  private let arbiter: any Arbiter
  private let opener: LinkOpener
  private let epoch: UInt64
  private let options: Options

  private(set) var link: RootRecord.Link
  private var nextStripe: UInt64
  /// Of the open link, as each of its devices stores it.
  private(set) var linkByteCount: Int
  /// Stripes of the open link below this number are acknowledged.
  private(set) var acknowledged: UInt64
  /// Of the next batch.
  private(set) var nextPosition: UInt64
  /// The last position that is acknowledged.
  private(set) var acknowledgedPosition: UInt64
  /// Written to the open link and not acknowledged yet, in order.
  private var inFlight: [Entry] = []
  /// Not written to any link yet, because the next one is being opened.
  private var waiting: [Entry] = []
  /// Writes under way, those of the entries before a roll included.
  private var writeCount = 0
  private var isRolling = false
  private var rollingSince = Duration.zero
  private var failure: LogError?
  private let changed = WaitQueue()

  /// - Parameter opened: the link this leader opened at its take-over.
  init(
    driver: any Driver, port: any NodePort, arbiter: any Arbiter, opener: LinkOpener,
    epoch: UInt64, options: Options, opened: LinkOpener.Opened, nextPosition: UInt64
  ) {
    self.driver = driver
    self.port = port
    self.arbiter = arbiter
    self.opener = opener
    self.epoch = epoch
    self.options = options
    link = opened.link
    nextStripe = opened.stripeCount
    acknowledged = opened.stripeCount
    linkByteCount = opened.byteCount
    self.nextPosition = nextPosition
    acknowledgedPosition = nextPosition - 1
  }

  /// What keeps it from going on, for people; empty when all is well.
  var detail: String { isRolling ? opener.detail : "" }

  /// Why nothing can be logged now, when that has been so for a while: there is no sense in waiting for it.
  var blocked: String? {
    guard isRolling, !opener.detail.isEmpty, driver.now - rollingSince > .seconds(2) else {
      return nil
    }
    return opener.detail
  }

  /// The most bytes that a batch's commands may have together.
  static let batchByteLimit = StripeLayout.largestBlockByteCount - 4096

  /// Waits until a batch can be appended without queueing behind a full window.
  func waitForRoom() async throws(LogError) {
    while inFlight.count + waiting.count >= options.window {
      if let failure { throw failure }
      await changed.wait()
    }
    if let failure { throw failure }
  }

  /// Takes the next positions for `commands` and starts writing them. The promise is fulfilled when
  /// the batch is acknowledged, in the order of the calls.
  func append(_ commands: [Command], wallMilliseconds: UInt64) -> Promise<
    Result<LogBatch, LogError>
  > {
    precondition(!commands.isEmpty && commands.count <= LogBatch.commandLimit)
    let entry = Entry(
      LogBatch(
        epoch: epoch, firstPosition: nextPosition, acknowledged: acknowledged,
        wallMilliseconds: wallMilliseconds, commands: commands))
    if let failure {
      entry.promise.fulfil(.failure(failure))
      return entry.promise
    }
    nextPosition += UInt64(commands.count)
    if isRolling {
      waiting.append(entry)
    } else if isFull || driver.meets(.linkFullEarly) {
      waiting.append(entry)
      roll()
    } else {
      write(entry)
    }
    return entry.promise
  }

  private var isFull: Bool {
    nextStripe >= options.linkStripeLimit || linkByteCount >= options.linkByteLimit
  }

  private func write(_ entry: Entry) {
    entry.stripe = nextStripe
    entry.isDone = false
    entry.batch.acknowledged = acknowledged
    nextStripe += 1
    let bytes = entry.batch.framed
    linkByteCount += LinkStripe.storedByteCount(bytes.count, link.scheme)
    inFlight.append(entry)
    writeCount += 1
    let link = link.place
    let acknowledged = acknowledged
    driver.spawn("log write") { [self] in
      let failures = await port.write(
        link, stripe: entry.stripe, bytes: bytes, acknowledged: acknowledged, epoch: epoch,
        deadline: options.slow)
      finish(entry, failures)
    }
  }

  private func finish(_ entry: Entry, _ failures: [LinkFailure]) {
    writeCount -= 1
    defer { changed.wakeAll() }
    if failure != nil { return }
    if failures.isEmpty {
      entry.isDone = true
      while let first = inFlight.first, first.isDone {
        inFlight.removeFirst()
        acknowledged = first.stripe + 1
        acknowledgedPosition = first.batch.lastPosition
        first.promise.fulfil(.success(first.batch))
      }
    } else if let stale = failures.first(where: { $0.error.refusalCode == .staleEpoch }) {
      let reason = ArbiterError.deposed(epoch: stale.error.staleEpoch ?? epoch)
      arbiter.lose(reason)
      fail(.lost(reason))
    } else {
      opener.noteFailures(failures)
      if !isRolling { roll() }
    }
  }

  /// Goes on in another link, so that a checkpoint lets this one go.
  ///
  /// - Returns: false when that is taking too long.
  func endLink(within limit: Duration) async -> Bool {
    let end = driver.now + limit
    if !isRolling && failure == nil && acknowledged > 1 { roll() }
    while isRolling, failure == nil, driver.now < end {
      guard await driver.sleep(.milliseconds(20)) else { return false }
    }
    return !isRolling && failure == nil
  }

  /// Goes on in another link.
  private func roll() {
    isRolling = true
    rollingSince = driver.now
    driver.spawn("log roll") { [self] in
      // A write under way may still end well; each ends within the bound for slow devices.
      while writeCount > 0 { await changed.wait() }
      if failure != nil { return }
      do throws(LogError) {
        let opened = try await opener.open(
          firstPosition: acknowledgedPosition + 1, copies: [], sealing: acknowledged)
        if failure != nil { return }
        link = opened.link
        nextStripe = opened.stripeCount
        acknowledged = opened.stripeCount
        linkByteCount = opened.byteCount
        isRolling = false
        // At the same positions again, then those that came meanwhile.
        let entries = inFlight + waiting
        inFlight = []
        waiting = []
        for entry in entries { write(entry) }
      } catch {
        fail(error)
      }
      changed.wakeAll()
    }
  }

  /// Ends everything: nothing is appended any more, and whether what is under way counts is unknown.
  func fail(_ error: LogError) {
    guard failure == nil else { return }
    failure = error
    opener.stop()
    for entry in inFlight + waiting { entry.promise.fulfil(.failure(error)) }
    inFlight = []
    waiting = []
    changed.wakeAll()
  }

  /// Waits until all that was appended is acknowledged or failed.
  func drain() async {
    while failure == nil && !(inFlight.isEmpty && waiting.isEmpty) { await changed.wait() }
  }
}
