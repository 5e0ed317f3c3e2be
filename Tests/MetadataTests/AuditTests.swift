import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing

@testable import Metadata

@Suite("What a check of the state finds")
struct AuditTests {
  /// A store with much in it, and its machine.
  private func scene(_ seed: Seed, steps: Int = 250) throws -> (MemoryStore, StateMachine) {
    var workload = Workload(seed: seed)
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    func apply(_ commands: [Command]) throws {
      let first = workload.model.position
      for command in commands { _ = workload.model.apply(command) }
      _ = try machine.apply(batch(commands, after: first))
    }
    try apply(Workload.opening)
    for _ in 0..<steps { try apply([workload.next()]) }
    return (store, machine)
  }

  private func violations(in store: some SnapshotStore, slices: Int) throws -> [String] {
    let snapshot = try store.snapshot()
    defer { snapshot.close() }
    do {
      return try StateAudit.violations(in: AuditSource(snapshot), sliceCount: slices)
    } catch StoreError.corrupt(let why) {
      return [why]
    }
  }

  @Test(
    "in one piece or in slices: nothing where all is well, something wherever an entry is gone or another's",
    arguments: Seed.several)
  func slices(seed: Seed) throws {
    let (store, _) = try scene(seed)
    var random = seed.generator
    for slices in [1, 2, 3, 7, 100] { #expect(try violations(in: store, slices: slices) == []) }
    let derived: [Key.Family] = [
      .containerEdge, .pageEdge, .pageInfo, .container, .deviceContainer, .directory, .object,
      .part,
    ]
    for family in derived {
      let rows = try store.scan(KeyRange(prefix: Key.family(family))).filter { row in
        // A part without bytes has no edge that would be missed.
        try family != .part || PartRecord(stored: row.value).part.page != 0
      }
      guard let row = rows.randomElement(using: &random) else { continue }
      var batch = WriteBatch()
      batch.delete(row.key)
      try store.apply(batch)
      for slices in [1, 3, 7] {
        #expect(try !violations(in: store, slices: slices).isEmpty, "\(family) in \(slices)")
      }
      batch = WriteBatch()
      batch.put(row.key, row.value)
      // An edge from nothing, an index entry of nothing, a record that cannot be read.
      var other = row.key
      other[other.count - 1] ^= 0x55
      let isNew = try store.get(other) == nil
      if isNew { batch.put(other, row.value) }
      try store.apply(batch)
      for slices in [1, 3, 7] where isNew {
        #expect(try !violations(in: store, slices: slices).isEmpty, "\(family) in \(slices)")
      }
      batch = WriteBatch()
      if isNew { batch.delete(other) }
      try store.apply(batch)
      #expect(try violations(in: store, slices: 3) == [])
    }
  }

  @Test("RocksDB is audited as it was at one moment while it changes")
  func snapshot() async throws {
    try await withTemporaryFolder { folder in
      let rocks = try RocksStore(path: folder + "/state")
      let (memory, _) = try scene(Seed(5))
      var batch = WriteBatch()
      for row in try memory.scan(KeyRange()) { batch.put(row.key, row.value) }
      try rocks.apply(batch)
      let snapshot = try rocks.snapshot()
      batch = WriteBatch()
      for row in try memory.scan(KeyRange(prefix: Key.family(.containerEdge))) {
        batch.delete(row.key)
      }
      try rocks.apply(batch)
      for slices in [1, 4] {
        #expect(
          try StateAudit.violations(in: AuditSource(snapshot), sliceCount: slices) == [])
      }
      snapshot.close()
      #expect(try !violations(in: rocks, slices: 1).isEmpty)
      rocks.close()
    }
  }

  @Test(
    "objects that cannot be read are named, all of them and no others", arguments: Seed.several)
  func lostObjects(seed: Seed) throws {
    var (store, machine) = try scene(seed)
    var steps = 250
    func devices() throws -> Set<DeviceID> {
      Set(try machine.containers(after: nil, limit: .max).flatMap(\.devices))
    }
    // With an object at least that is not inlined.
    while try unreadable(machine, devices(), []).isEmpty {
      steps += 50
      (store, machine) = try scene(seed, steps: steps)
    }
    var random = seed.generator
    let containers = try machine.containers(after: nil, limit: .max)
    var lostCount = 0
    for round in 0..<40 {
      let all = try devices().sorted()
      // All of them are gone once.
      let missing = Set(all.shuffled(using: &random).prefix(round == 0 ? all.count : round % 4))
      var wrong: [ContainerID: [BlockKey]] = [:]
      var bad: Set<BlockKey> = []
      for record in containers {
        for stripe in try machine.stripes(of: record.id, from: 0, limit: .max)
        where Bool.random(using: &random) {
          for index in stripe.layout.storedBlocks where Int.random(in: 0..<3, using: &random) == 0 {
            let key = BlockKey(
              shard: record.places.shards(of: record.id)[index], stripe: stripe.stripe)
            wrong[record.id, default: []].append(key)
            bad.insert(key)
          }
        }
        // Of an old generation: nobody reads it.
        wrong[record.id, default: []].append(
          BlockKey(
            shard: ShardKey(container: record.id, generation: 1 << 40, shardIndex: 0), stripe: 0))
      }
      let snapshot = try store.snapshot()
      let lost = try LostObjects.find(
        in: AuditSource(snapshot), isMissing: missing.contains, wrongBlocks: wrong)
      snapshot.close()
      let expected = try unreadable(machine, missing, bad)
      #expect(Self.sorted(lost.objects) == Self.sorted(expected))
      #expect(lost.objectCount == expected.count)
      lostCount += expected.count
    }
    #expect(lostCount > 0)
  }

  private static func sorted(_ names: [ObjectName]) -> [ObjectName] {
    names.sorted { ($0.bucket, $0.key) < ($1.bucket, $1.key) }
  }

  /// The slow way: every version is resolved, every stripe of it looked at.
  private func unreadable(
    _ machine: StateMachine, _ missing: Set<DeviceID>, _ bad: Set<BlockKey>
  ) throws -> [ObjectName] {
    var names: [ObjectName] = []
    for bucket in try machine.listBuckets().buckets.map(\.name) {
      let versions = try machine.listVersions(
        ListVersions(
          level: .strong, bucket: bucket, prefix: "", delimiter: "", afterKey: "",
          after: .unnamed, limit: 1000)
      ).entries
      for entry in versions where !entry.isMarker {
        let name = ObjectName(bucket: bucket, key: entry.key)
        var first: UInt64 = 0
        var isLost = false
        while first < entry.byteCount {
          let plan = try machine.resolve(
            ResolveRange(
              level: .strong, name: name, identity: entry.identity, first: first,
              byteCount: entry.byteCount - first))
          for stripe in plan.stripes {
            let container = plan.containers[Int(stripe.containerIndex)]
            let shards = container.places.shards(of: container.container)
            let left = stripe.layout.storedBlocks.count {
              !missing.contains(container.places[$0].device)
                && !bad.contains(BlockKey(shard: shards[$0], stripe: stripe.stripe))
            }
            if left < stripe.layout.dataBlockCount { isLost = true }
          }
          guard !plan.isLast else { break }
          first += plan.pieces.reduce(0) { $0 + UInt64($1.take) }
        }
        if isLost { names.append(name) }
      }
    }
    return names
  }
}
