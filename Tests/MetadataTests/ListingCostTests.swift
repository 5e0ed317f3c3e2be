import CRocks
import Coding
import Glibc
import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

/// What RocksDB steps over to list a thousand keys. Steps are counted rather than time: a busy machine does
/// not change them. `LISTING_KEYS=1000000` looks at a bucket of that many, and prints the times as well.
@Suite("What a listing costs") struct ListingCostTests {
  enum Shape: String, CaseIterable, CustomTestStringConvertible {
    case plain
    /// Every other key was deleted, and has a marker.
    case markers
    /// The first nine tenths of all keys were deleted.
    case desert
    /// Each key has three older versions.
    case versions
    var testDescription: String { rawValue }
    /// Whether a key's current version is a delete marker.
    func isDeleted(_ number: Int, of count: Int) -> Bool {
      switch self {
      case .plain, .versions: false
      case .markers: number % 2 == 1
      case .desert: number < count / 10 * 9
      }
    }
  }

  /// A machine whose bucket holds that many keys, written in any order and then partly deleted.
  private static func fill(
    _ folder: TemporaryFolder, _ shape: Shape, _ count: Int, _ random: inout SeededGenerator
  ) throws -> (machine: StateMachine, store: RocksStore) {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    try desk.ask(.setVersioning(bucket: "bucket", .enabled))
    let store = try RocksStore(path: folder.path + "/\(shape)-\(count)")
    var opening = WriteBatch()
    for entry in try desk.store.scan(KeyRange()) { opening.put(entry.key, entry.value) }
    try store.apply(opening)
    let bucket = try #require(
      try desk.store.get([Key.Family.bucket.rawValue] + Array("bucket".utf8)))
    let identity = try BucketRecord(stored: bucket).identity
    func record(_ number: Int, _ round: Int) -> ObjectRecord {
      ObjectRecord(
        identity: UInt64(1_000_000 * (round + 1) + number), byteCount: 3,
        contentHash: Fingerprint(of: [UInt8(truncatingIfNeeded: number)]),
        attributes: ObjectAttributes(), modified: 1, content: .inline([1, 2, 3]), isNull: false)
    }
    let order = (0..<count).shuffled(using: &random)
    for round in 0..<(shape == .versions ? 4 : 2) {
      for part in stride(from: 0, to: count, by: 100) {
        var batch = WriteBatch()
        for number in order[part..<min(part + 100, count)] {
          let key = Array(name(number).utf8)
          let row = Key.object(bucket: identity, key: key)
          if round == 0 {
            batch.put(row, record(number, 0).encoded)
          } else if shape == .versions {
            let older = record(number, round - 1)
            batch.put(
              Key.version(bucket: identity, key: key, older.identity),
              VersionRecord.object(older).encoded)
            batch.put(row, record(number, round).encoded)
          } else if shape.isDeleted(number, of: count) {
            let older = record(number, 0)
            batch.put(
              Key.version(bucket: identity, key: key, older.identity),
              VersionRecord.object(older).encoded)
            let marker = VersionRecord.marker(
              identity: older.identity + 1_000_000, modified: 2, isNull: false)
            batch.put(Key.version(bucket: identity, key: key, marker.identity), marker.encoded)
            batch.delete(row)
          }
        }
        try store.apply(batch)
      }
    }
    return (try StateMachine(store: store), store)
  }

  private static func name(_ number: Int) -> String {
    let digits = String(number)
    return "folder/" + String(repeating: "0", count: 9 - digits.count) + digits
  }

  /// Steps of listings that begin anywhere, the dearest of a hundred left out, and how long they took.
  private static func cost(
    _ machine: StateMachine, _ count: Int, _ random: inout SeededGenerator
  ) throws -> (steps: UInt64, time: Duration) {
    let context = rocksdb_perfcontext_create()
    defer { rocksdb_perfcontext_destroy(context) }
    rocksdb_set_perf_level(Int32(rocksdb_enable_count))
    defer { rocksdb_set_perf_level(Int32(rocksdb_disable)) }
    var steps: [UInt64] = []
    var times: [Duration] = []
    for _ in 0..<100 {
      let start = Int.random(in: 0..<count, using: &random)
      rocksdb_perfcontext_reset(context)
      let time = try ContinuousClock().measure {
        _ = try machine.list(
          ListObjects(
            level: .strong, bucket: "bucket", prefix: "", after: name(start), delimiter: "",
            limit: 1000))
      }
      times.append(time)
      steps.append(
        rocksdb_perfcontext_metric(context, Int32(rocksdb_internal_key_skipped_count))
          + rocksdb_perfcontext_metric(context, Int32(rocksdb_internal_delete_skipped_count))
          + rocksdb_perfcontext_metric(context, Int32(rocksdb_internal_recent_skipped_count)))
    }
    return (steps.sorted()[98], times.sorted()[98])
  }

  @Test(
    "a thousand keys cost as much in a large bucket as in a small one", arguments: Shape.allCases)
  func cost(shape: Shape) throws {
    let folder = TemporaryFolder()
    var random = Seed(1).generator
    let large = environment("LISTING_KEYS").flatMap { Int($0) } ?? 100_000
    var found: [(steps: UInt64, time: Duration)] = []
    for count in [10_000, large] {
      let (machine, store) = try Self.fill(folder, shape, count, &random)
      defer { store.close() }
      // What it does in the background does not depend on anything here; a minute is for ever.
      let end = ContinuousClock.now + .seconds(60)
      while store.isSettling && ContinuousClock.now < end { sched_yield() }
      found.append(try Self.cost(machine, count, &random))
    }
    if environment("LISTING_KEYS") != nil {
      print(shape, "steps", found.map(\.steps), "times", found.map(\.time))
    }
    // What may be deleted in memory: each a delete and what it hides.
    let inMemory: UInt64 = 2 * 4096
    #expect(found[1].steps <= 2 * found[0].steps + inMemory)
    #expect(found[1].steps <= 4 * 1000 + inMemory)
  }
}
