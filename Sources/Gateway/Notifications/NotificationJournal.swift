import Coding
import Glibc  // Flags alone.
import Ring
import Service
import Wire

/// Events that are not delivered yet, in files, so that they outlive the process. docs/formats.md has the bytes. Loop-confined.
///
/// A **segment** is a file of events, one after the other; it is removed as a whole when all of them were delivered. What one had
/// that was not removed comes again after a restart, delivered or not.
final class NotificationJournal: @unchecked Sendable {
  // Loop-confined.
  private final class Segment: @unchecked Sendable {
    // Loop-confined.
    let number: UInt64
    /// While it is written to.
    var file: File?
    var byteCount = 0
    /// Events that are not delivered.
    var waitingCount = 0
    init(_ number: UInt64, _ file: File?) {
      self.number = number
      self.file = file
    }
  }

  /// One that was there when the journal was opened.
  struct Found: Equatable {
    var lane: UInt32
    var body: [UInt8]
    var segment: UInt64
  }

  private let driver: any Driver
  private let log: Log
  private let folder: String
  private let lockFile: File
  private var segments: [UInt64: Segment] = [:]
  private var current: Segment?
  private var next: UInt64 = 1
  private var gathered = Queue<(bytes: [UInt8], promise: Promise<UInt64?>)>()
  private var isWriting = false
  private var isFailing = false
  private var isRemovalDue = false
  private let quiet = WaitQueue()
  private var tasks = 0

  /// The next event begins another segment.
  static let segmentByteCount = 256 << 10
  static let bodyByteLimit = 64 << 10
  private static let headByteCount = 12
  private static let suffix = ".events"

  private init(_ folder: String, _ lockFile: File, _ driver: any Driver, _ log: Log) {
    self.folder = folder
    self.lockFile = lockFile
    self.driver = driver
    self.log = log
  }

  struct Failure: Error {
    var reason: String
    var path: String
  }

  /// - Parameter folder: made when it is not there; one process at a time.
  /// - Returns: what was not delivered when the last process ended, in order.
  static func open(_ folder: String, on driver: any Driver, log: Log) async throws(Failure) -> (
    journal: NotificationJournal, found: [Found]
  ) {
    do throws(RingError) {
      try await makeFolder(folder, driver)
      let lockFile = try await File.open(
        folder + "/lock", O_RDWR | O_CREAT, mode: 0o600, on: driver)
      guard try await lockFile.lock() else {
        await lockFile.close()
        throw RingError(errno: EBUSY, operation: "lock", subject: folder)
      }
      let journal = NotificationJournal(folder, lockFile, driver, log)
      return (journal, try await journal.load())
    } catch {
      throw Failure(
        reason: error.errno == EBUSY ? "another gateway uses this queue" : error.reason,
        path: folder)
    }
  }

  /// A folder that survives a power cut, and with it what is put there.
  private static func makeFolder(_ folder: String, _ driver: any Driver) async throws(RingError) {
    var parents: [String] = []
    var rest = folder[...]
    while let cut = rest.utf8.lastIndex(of: UInt8(ascii: "/")) {
      let wasThere = await driver.exists(String(rest))
      rest = rest[..<cut]
      // The nearest one in any case: a process may have ended between making it and this.
      if !wasThere || parents.isEmpty { parents.append(rest.isEmpty ? "/" : String(rest)) }
      if wasThere { break }
    }
    try await driver.makeDirectories(folder, mode: 0o700)
    for parent in parents { try await driver.synchronizeDirectory(parent) }
  }

  private func path(_ number: UInt64) -> String {
    let digits = String(number, radix: 16)
    return folder + "/" + String(repeating: "0", count: 16 - digits.utf8.count) + digits
      + Self.suffix
  }

  private func load() async throws(RingError) -> [Found] {
    var numbers: [UInt64] = []
    for entry in try await driver.list(folder) {
      let name = String(decoding: entry.name, as: UTF8.self)
      guard name.utf8.count == 16 + Self.suffix.utf8.count, name.hasSuffix(Self.suffix),
        let number = UInt64(name.dropLast(Self.suffix.utf8.count), radix: 16), number < .max,
        path(number) == folder + "/" + name
      else { continue }
      numbers.append(number)
    }
    var found: [Found] = []
    for number in numbers.sorted() {
      let bytes = try await driver.readFile(path(number), limit: 16 << 20)
      let (events, gaps) = Self.events(in: bytes, segment: number)
      if let first = gaps.first {
        // At the end of the file: of a write that a crash cut, nobody was told that it was kept.
        log.warning(
          first.upperBound == bytes.count
            ? "the end of a notification queue's file cannot be read"
            : "notifications in a queue's file cannot be read and are lost",
          [
            "file": path(number), "from": first.lowerBound, "gaps": gaps.count,
            "bytes": gaps.reduce(0) { $0 + $1.count },
          ])
      }
      next = number + 1
      let segment = Segment(number, nil)
      segment.waitingCount = events.count
      segments[number] = segment
      if events.isEmpty { await remove(segment) }
      found += events
    }
    return found
  }

  /// - Returns: events that are whole, and what lies between them and is none. After bytes that are no event the next one is looked
  ///   for at each place: its checksum tells it.
  static func events(in bytes: [UInt8], segment: UInt64) -> (events: [Found], gaps: [Range<Int>]) {
    var events: [Found] = []
    var gaps: [Range<Int>] = []
    var gap: Int?
    var place = 0
    while place < bytes.count {
      if let event = event(in: bytes, at: place, segment: segment) {
        if let first = gap { gaps.append(first..<place) }
        gap = nil
        events.append(event)
        place += headByteCount + event.body.count
      } else {
        if gap == nil { gap = place }
        place += 1
      }
    }
    if let gap { gaps.append(gap..<bytes.count) }
    return (events, gaps)
  }

  private static func event(in bytes: [UInt8], at place: Int, segment: UInt64) -> Found? {
    guard bytes.count - place > headByteCount else { return nil }
    func number(_ offset: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[place + offset + $1]) << UInt32(8 * $1) }
    }
    let (count, checksum, lane) = (Int(number(0)), number(4), number(8))
    // JSON: most places that are no event are passed over without a checksum.
    guard (1...bodyByteLimit).contains(count), count <= bytes.count - place - headByteCount
    else { return nil }
    let body = Array(bytes[place + headByteCount..<place + headByteCount + count])
    guard Self.checksum(lane, body) == checksum else { return nil }
    return Found(lane: lane, body: body, segment: segment)
  }

  private static func checksum(_ lane: UInt32, _ body: [UInt8]) -> UInt32 {
    var writer = ByteWriter(reserving: 4)
    writer.fixed(lane)
    return CRC32C.checksum(body, seed: CRC32C.checksum(writer.bytes))
  }

  static func encode(_ lane: UInt32, _ body: [UInt8]) -> [UInt8] {
    var writer = ByteWriter(reserving: headByteCount + body.count)
    writer.fixed(UInt32(body.count))
    writer.fixed(checksum(lane, body))
    writer.fixed(lane)
    writer.raw(body)
    return writer.bytes
  }

  // MARK: Writing

  /// What comes while one write is under way goes into the next together.
  ///
  /// - Parameter body: 1 ... ``bodyByteLimit`` bytes.
  /// - Returns: fulfilled when it is durable, with its segment; with nil when it could not be kept.
  func append(_ lane: UInt32, _ body: [UInt8]) -> Promise<UInt64?> {
    precondition((1...Self.bodyByteLimit).contains(body.count))
    let promise = Promise<UInt64?>()
    gathered.append((Self.encode(lane, body), promise))
    if !isWriting {
      isWriting = true
      start("write notifications") { [self] in await writeAll() }
    }
    return promise
  }

  private func start(_ name: String, _ body: @escaping @Sendable () async -> Void) {
    tasks += 1
    driver.spawn(name) { [self] in
      await body()
      tasks -= 1
      quiet.wakeAll()
    }
  }

  private func writeAll() async {
    while !gathered.isEmpty {
      var bytes: [UInt8] = []
      var promises: [Promise<UInt64?>] = []
      while let first = gathered.first,
        promises.isEmpty || bytes.count + first.bytes.count <= Self.segmentByteCount
      {
        bytes += first.bytes
        promises.append(first.promise)
        _ = gathered.popFirst()
      }
      let segment = await write(bytes, eventCount: promises.count)
      for promise in promises { promise.fulfil(segment) }
    }
    isWriting = false
  }

  /// - Returns: the segment's number.
  private func write(_ bytes: [UInt8], eventCount: Int) async -> UInt64? {
    do throws(RingError) {
      let segment = try await openSegment()
      // Before they are written: it is not to go meanwhile.
      segment.waitingCount += eventCount
      do throws(RingError) {
        try await segment.file?.writeDurably(
          [Slice(copying: bytes, pool: driver.buffers)], at: UInt64(segment.byteCount))
      } catch {
        // What is behind a torn end could not be read.
        segment.waitingCount -= eventCount
        await retire(segment)
        throw error
      }
      segment.byteCount += bytes.count
      if isFailing { log.info("the notification queue is written again", ["folder": folder]) }
      isFailing = false
      return segment.number
    } catch {
      if !isFailing {
        log.error(
          "notifications are kept in memory alone", ["folder": folder, "reason": error.reason])
      }
      isFailing = true
      return nil
    }
  }

  private func openSegment() async throws(RingError) -> Segment {
    if let current {
      if current.byteCount < Self.segmentByteCount { return current }
      await retire(current)
    }
    let number = next
    next += 1
    let file = try await File.open(
      path(number), O_WRONLY | O_CREAT | O_EXCL, mode: 0o600, on: driver)
    do throws(RingError) {
      try await driver.synchronizeDirectory(folder)
    } catch {
      // Its name may not last: nothing is to be kept in it.
      await file.close()
      _ = await driver.submit(.remove(path: path(number), isDirectory: false))
      throw error
    }
    let segment = Segment(number, file)
    segments[number] = segment
    current = segment
    return segment
  }

  /// Nothing more is written to it.
  private func retire(_ segment: Segment) async {
    if current === segment { current = nil }
    let file = segment.file
    segment.file = nil
    await file?.close()
    if segment.waitingCount == 0 { await remove(segment) }
  }

  // MARK: Delivered

  /// One event of a segment is not needed any more.
  func done(_ number: UInt64) {
    guard let segment = segments[number] else { return }
    segment.waitingCount -= 1
    guard segment.waitingCount == 0 else { return }
    if segment !== current {
      start("remove notifications") { [self] in await remove(segment) }
    } else if !isRemovalDue {
      // More may come at once; a file for each would cost two syncs of the folder.
      isRemovalDue = true
      start("remove notifications") { [self] in
        await driver.sleep(.seconds(1))
        isRemovalDue = false
        if let current, current.waitingCount == 0, !isWriting { await retire(current) }
      }
    }
  }

  private func remove(_ segment: Segment) async {
    guard segments.removeValue(forKey: segment.number) != nil else { return }
    do throws(RingError) {
      try await driver.remove(path(segment.number))
    } catch {
      log.warning(
        "a file of delivered notifications stays",
        ["file": path(segment.number), "reason": error.reason])
    }
  }

  /// Returns when all that was appended is written.
  func close() async {
    while tasks > 0 { await quiet.wait() }
    if let current { await retire(current) }
    await lockFile.close()
  }
}
