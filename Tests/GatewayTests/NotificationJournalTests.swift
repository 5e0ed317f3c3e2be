import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Gateway

@Suite("What waits to be told, in files") struct NotificationJournalTests {
  /// What was appended, by number; the body of one says its number.
  private final class Ledger: @unchecked Sendable {
    // Loop-confined.
    var count = 0
    var kept: Set<Int> = []
    var done: Set<Int> = []
    var segments: [Int: UInt64] = [:]
    /// Syncs of the folder that failed.
    var folderFaultCount = 0
  }

  private static func body(_ number: Int, _ random: inout SeededGenerator) -> [UInt8] {
    let rest =
      Int.random(in: 0..<20, using: &random) == 0 ? Int.random(in: 0..<60_000, using: &random) : 40
    return Array("\(number) ".utf8) + random.bytes(rest)
  }
  private static func number(_ body: [UInt8]) -> Int? {
    Int(String(decoding: body.prefix { $0 != 32 }, as: UTF8.self))
  }

  private static func open(_ process: SimulatedProcess) async throws -> (
    journal: NotificationJournal, found: [NotificationJournal.Found]
  ) {
    try await NotificationJournal.open(
      "/var/queue", on: process, log: Log(driver: process, level: .error))
  }

  @Test(
    "whatever crashes, what was kept and is not delivered is found, in order, and nothing that never was",
    // With 29 a folder's sync failed, and the next event was kept in a file without a lasting name.
    arguments: Seed.several + [Seed(29)], [false, true])
  func crashes(seed: Seed, isPowerCut: Bool) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let ledger = Ledger()
      for life in 0..<10 {
        let process = world.process("gateway")
        world.disk("gateway").faults = nil
        let (journal, found) = try await Self.open(process)
        let numbers = found.compactMap { Self.number($0.body) }
        #expect(numbers.count == found.count)
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        #expect(numbers.allSatisfy { $0 < ledger.count })
        #expect(ledger.kept.subtracting(ledger.done).isSubset(of: numbers))
        for (number, event) in zip(numbers, found) {
          ledger.segments[number] = event.segment
          ledger.kept.insert(number)
        }
        let (seeds, length) = (
          (0..<4).map { _ in random.next() },
          Duration.microseconds(Int64.random(in: 1000...1_500_000, using: &random))
        )
        if Bool.random(using: &random) {
          var random = SeededGenerator(seed: random.next())
          world.disk("gateway").faults = { access in
            let percent =
              switch access.kind {
              // That of the folder is what makes a new file's name last.
              case .synchronize: access.path == "/var/queue" ? 40 : 3
              case .write: 3
              case .open, .remove: 10
              default: 0
              }
            guard Int.random(in: 0..<100, using: &random) < percent else { return .none }
            if access.kind == .synchronize && access.path == "/var/queue" {
              ledger.folderFaultCount += 1
            }
            return .fail(5)
          }
        }
        // Sometimes more comes than is delivered.
        let patience = Int.random(in: 2...4, using: &random)
        await withTaskGroup { group in
          for seed in seeds {
            group.addTask {
              var random = SeededGenerator(seed: seed)
              while process.isAlive {
                let number = ledger.count
                ledger.count += 1
                let promise = journal.append(
                  UInt32.random(in: 0...7, using: &random), Self.body(number, &random))
                let segment = await promise.get()
                if let segment {
                  ledger.kept.insert(number)
                  ledger.segments[number] = segment
                }
                while Int.random(in: 0..<5, using: &random) >= patience,
                  let next = ledger.kept.subtracting(ledger.done).min(),
                  let segment = ledger.segments[next], process.isAlive
                {
                  ledger.done.insert(next)
                  journal.done(segment)
                }
                await process.sleep(.milliseconds(Int64.random(in: 0...40, using: &random)))
              }
            }
          }
          group.addTask {
            await world.sleep(length)
            if life == 4 { await journal.close() }
            if isPowerCut { process.machine.powerCut() } else { process.kill() }
          }
        }
      }
      #expect(ledger.done.count > 20 && ledger.folderFaultCount > 0)
    }
  }

  @Test("one process at a time; what is delivered leaves no file")
  func files() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("gateway")
      let (journal, _) = try await Self.open(process)
      await #expect(throws: NotificationJournal.Failure.self) {
        try await Self.open(
          world.process("other", SimulatedProcess.Options(machine: process.machine)))
      }
      var segments: [UInt64] = []
      for number in 0..<20 {
        let body = Array("\(number) ".utf8) + [UInt8](repeating: 7, count: 60_000)
        segments.append(try #require(await journal.append(UInt32(number), body).get()))
      }
      #expect(Set(segments).count > 3)
      for segment in segments { journal.done(segment) }
      await world.sleep(.seconds(3))
      let names = try await process.list("/var/queue").map {
        String(decoding: $0.name, as: UTF8.self)
      }
      #expect(names == ["lock"])
      let last = try #require(await journal.append(1, [1]).get())
      #expect(last > segments.max()!)
      await journal.close()
      #expect(try await process.list("/var/queue").count == 2)
    }
  }

  @Test("bytes that are changed are no event, and never trap", arguments: Seed.several)
  func damage(seed: Seed) {
    var random = seed.generator
    for _ in 0..<40 {
      var bytes: [UInt8] = []
      var events: [NotificationJournal.Found] = []
      for _ in 0..<Int.random(in: 0...6, using: &random) {
        let event = NotificationJournal.Found(
          lane: UInt32(truncatingIfNeeded: random.next()),
          body: random.bytes(Int.random(in: 1...200, using: &random)), segment: 9)
        events.append(event)
        bytes += NotificationJournal.encode(event.lane, event.body)
      }
      let whole = NotificationJournal.events(in: bytes, segment: 9)
      #expect(whole.events == events && whole.gaps.isEmpty)
      for _ in 0..<50 {
        var changed = bytes
        var wrong: Int?
        switch Int.random(in: 0..<3, using: &random) {
        case 0: changed += random.bytes(Int.random(in: 1...100, using: &random))
        case 1: changed.removeLast(Int.random(in: 0...changed.count, using: &random))
        default:
          guard !changed.isEmpty else { continue }
          wrong = Int.random(in: 0..<changed.count, using: &random)
          changed[wrong!] ^= UInt8.random(in: 1...255, using: &random)
        }
        let (found, gaps) = NotificationJournal.events(in: changed, segment: 9)
        guard let wrong else {
          #expect(found == Array(events.prefix(found.count)))
          continue
        }
        // One event is lost, the one with that byte, and no other.
        var left = events
        var end = 0
        let lost = events.firstIndex { event in
          end += NotificationJournal.encode(event.lane, event.body).count
          return wrong < end
        }
        let rotten = left.remove(at: lost!)
        #expect(found == left)
        #expect(
          gaps == [
            end - NotificationJournal.encode(rotten.lane, rotten.body).count..<end
          ])
      }
      _ = NotificationJournal.events(
        in: random.bytes(Int.random(in: 0...300, using: &random)), segment: 1)
    }
  }
}
