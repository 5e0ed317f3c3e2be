import Glibc
import TestSupport
import Testing

@testable import Metadata

/// A folder that is removed with everything in it.
final class TemporaryFolder {
  let path: String
  init() {
    var template = Array("/tmp/cairn-metadata-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }
  deinit {
    for name in Self.files(in: path) {
      for file in Self.files(in: path + "/" + name) { unlink(path + "/" + name + "/" + file) }
      rmdir(path + "/" + name)
    }
    rmdir(path)
  }

  /// Names of the files in the folder's subfolder.
  static func files(in path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }
  static func read(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else { return [] }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = fread(&buffer, 1, buffer.count, file)
      if count == 0 { return bytes }
      bytes += buffer[..<count]
    }
  }
  static func write(_ path: String, _ bytes: [UInt8]) {
    guard let file = fopen(path, "wb") else {
      Issue.record("\(path) cannot be written")
      return
    }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }
}

/// A dictionary that is sorted whenever it is asked.
private struct PlainMap {
  var entries: [[UInt8]: [UInt8]] = [:]
  mutating func apply(_ batch: WriteBatch) {
    for change in batch.changes {
      switch change {
      case .put(let key, let value): entries[key] = value
      case .delete(let key): entries[key] = nil
      }
    }
  }
  func scan(_ range: KeyRange, limit: Int, backward: Bool) -> [StoreEntry] {
    var found =
      entries
      .filter {
        !$0.key.lexicographicallyPrecedes(range.lower)
          && (range.upper.map($0.key.lexicographicallyPrecedes) ?? true)
      }
      .map { StoreEntry(key: $0.key, value: $0.value) }
      .sorted { $0.key.lexicographicallyPrecedes($1.key) }
    if backward { found.reverse() }
    return Array(found.prefix(limit))
  }
}

@Suite("Ordered stores")
struct StoreTests {
  private static func key(_ random: inout SeededGenerator) -> [UInt8] {
    // Few distinct bytes, so that keys are prefixes of each other and bounds fall on keys.
    (0..<Int.random(in: 0..<5, using: &random)).map { _ in
      [0, 1, 0x7F, 0xFF].randomElement(using: &random)!
    }
  }
  private static func range(_ random: inout SeededGenerator) -> KeyRange {
    switch Int.random(in: 0..<3, using: &random) {
    case 0: KeyRange(prefix: key(&random))
    case 1: KeyRange(from: key(&random))
    default: KeyRange(from: key(&random), below: key(&random))
    }
  }
  private static func batch(_ random: inout SeededGenerator, _ count: Int) -> WriteBatch {
    var batch = WriteBatch()
    for _ in 0..<count {
      if Int.random(in: 0..<3, using: &random) > 0 {
        batch.put(key(&random), random.bytes(Int.random(in: 0..<4, using: &random)))
      } else {
        batch.delete(key(&random))
      }
    }
    return batch
  }
  private static func compare(
    _ store: any OrderedStore, _ plain: PlainMap, _ random: inout SeededGenerator
  ) throws {
    for _ in 0..<20 {
      let key = key(&random)
      #expect(try store.get(key) == plain.entries[key])
      let range = range(&random)
      let limit = Int.random(in: 0..<40, using: &random)
      for backward in [false, true] {
        let found = try store.scan(range, limit: limit, backward: backward)
        #expect(found == plain.scan(range, limit: limit, backward: backward))
      }
    }
  }

  @Test("both stores answer as a plain map does", arguments: Seed.several)
  func plain(seed: Seed) throws {
    var random = seed.generator
    let folder = TemporaryFolder()
    let memory = MemoryStore()
    let rocks = try RocksStore(path: folder.path + "/state")
    var plain = PlainMap()
    for step in 0..<40 {
      let batch = Self.batch(&random, 10)
      plain.apply(batch)
      try memory.apply(batch)
      try rocks.apply(batch)
      if step % 17 == 3 { try rocks.flush() }
      try Self.compare(memory, plain, &random)
      try Self.compare(rocks, plain, &random)
    }
  }

  @Test(
    "a sorted map of many keys stays sorted through insertion and removal", arguments: Seed.several)
  func sortedMap(seed: Seed) {
    var random = seed.generator
    var map = SortedMap<Int>()
    var plain: [[UInt8]: Int] = [:]
    for step in 0..<6000 {
      let key = random.bytes(2)
      if Int.random(in: 0..<3, using: &random) > 0 || step < 3000 {
        map.set(key, step)
        plain[key] = step
      } else {
        map.remove(key)
        plain[key] = nil
      }
    }
    var keys: [[UInt8]] = []
    map.visit(KeyRange()) { key, value in
      keys.append(key)
      #expect(plain[key] == value)
      return true
    }
    #expect(keys == plain.keys.sorted { $0.lexicographicallyPrecedes($1) })
    #expect(map.count == plain.count)
    for key in plain.keys { #expect(map[key] == plain[key]) }
  }

  @Test("a view shows the store with its own changes over it", arguments: Seed.several)
  func view(seed: Seed) throws {
    var random = seed.generator
    let store = MemoryStore()
    var plain = PlainMap()
    for _ in 0..<60 {
      let view = StoreView(store)
      var changed = plain
      for change in Self.batch(&random, Int.random(in: 0..<40, using: &random)).changes {
        var one = WriteBatch()
        switch change {
        case .put(let key, let value):
          view.put(key, value)
          one.put(key, value)
        case .delete(let key):
          view.delete(key)
          one.delete(key)
        }
        changed.apply(one)
      }
      for _ in 0..<20 {
        let key = Self.key(&random)
        #expect(try view.get(key) == changed.entries[key])
        let range = Self.range(&random)
        let limit = Int.random(in: 0..<40, using: &random)
        for backward in [false, true] {
          #expect(
            try view.scan(range, limit: limit, backward: backward)
              == changed.scan(range, limit: limit, backward: backward))
        }
      }
      if Bool.random(using: &random) {
        try view.commit()
        plain = changed
      }
      #expect(try store.scan(KeyRange()) == plain.scan(KeyRange(), limit: .max, backward: false))
    }
  }

  @Test(
    "a crash of a memory store keeps what was flushed and a prefix of what came after",
    arguments: Seed.several)
  func crash(seed: Seed) throws {
    var random = seed.generator
    let store = MemoryStore()
    var states = [PlainMap()]
    for _ in 0..<200 {
      let batch = Self.batch(&random, 3)
      var next = states.last!
      next.apply(batch)
      states.append(next)
      try store.apply(batch)
      switch Int.random(in: 0..<10, using: &random) {
      case 0:
        try store.flush()
        states = [states.last!]
      case 1:
        let kept = Int.random(in: 0..<states.count, using: &random)
        store.crash(keeping: kept)
        states = [states[kept]]
      default: break
      }
      #expect(store.unflushedBatchCount == states.count - 1)
      #expect(
        try store.scan(KeyRange()) == states.last!.scan(KeyRange(), limit: .max, backward: false))
    }
  }
}

@Suite("RocksDB underneath")
struct RocksTests {
  private static func fill(_ store: RocksStore, _ count: Int) throws {
    for round in 0..<count / 100 {
      var batch = WriteBatch()
      for index in 0..<100 {
        let number = UInt64(round * 100 + index)
        batch.put(Key.of(.page, number &* 0x9E37_79B9_7F4A_7C15), Array("value \(number)".utf8))
      }
      try store.apply(batch)
    }
  }

  @Test("what was flushed is there after closing and opening again")
  func reopen() throws {
    let folder = TemporaryFolder()
    var wanted: [StoreEntry] = []
    do {
      let store = try RocksStore(path: folder.path + "/state")
      try Self.fill(store, 1000)
      try store.flush()
      wanted = try store.scan(KeyRange())
      store.close()
      #expect(throws: StoreError.device("the store is closed")) { try store.get([1]) }
    }
    let store = try RocksStore(path: folder.path + "/state")
    #expect(try store.scan(KeyRange()) == wanted)
    #expect(wanted.count == 1000)
  }

  @Test("a store that is open elsewhere is refused as in use, not as damaged")
  func locked() throws {
    let folder = TemporaryFolder()
    let store = try RocksStore(path: folder.path + "/state")
    defer { store.close() }
    #expect {
      _ = try RocksStore(path: folder.path + "/state")
    } throws: {
      if case .device? = $0 as? StoreError { true } else { false }
    }
    #expect {
      _ = try RocksStore(path: folder.path + "/no/such/state")
    } throws: {
      if case .device? = $0 as? StoreError { true } else { false }
    }
  }

  @Test(
    "a flipped byte, a cut or a missing file is reported as damage, or harms nothing",
    arguments: Seed.several)
  func damage(seed: Seed) throws {
    var random = seed.generator
    let folder = TemporaryFolder()
    let path = folder.path + "/state"
    var wanted: [StoreEntry] = []
    do {
      let store = try RocksStore(path: path)
      try Self.fill(store, 2000)
      try store.flush()
      try Self.fill(store, 300)
      try store.flush()
      wanted = try store.scan(KeyRange())
      store.close()
    }
    let files = TemporaryFolder.files(in: path).filter { !$0.hasPrefix("LO") }
    let contents = files.map { TemporaryFolder.read(path + "/" + $0) }
    let known = Set(wanted)
    var reported = 0
    var round = 0
    // Chance may meet what harms nothing for long (10001117937355111095).
    while round < 15 || reported < 3 && round < 90 {
      defer { round += 1 }
      let harmed = Int.random(in: 0..<files.count, using: &random)
      mkdir(path, 0o700)
      for (name, bytes) in zip(files, contents) { TemporaryFolder.write(path + "/" + name, bytes) }
      var bytes = contents[harmed]
      switch round % 3 {
      case 0 where !bytes.isEmpty:
        bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
          1 << UInt8.random(in: 0..<8, using: &random)
        TemporaryFolder.write(path + "/" + files[harmed], bytes)
      case 1 where !bytes.isEmpty:
        bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
        TemporaryFolder.write(path + "/" + files[harmed], bytes)
      default: unlink(path + "/" + files[harmed])
      }
      do throws(StoreError) {
        let store = try RocksStore(path: path)
        defer { store.close() }
        let found = try store.scan(KeyRange())
        // Whole batches may be gone with a manifest; wrong bytes may not come.
        #expect(known.isSuperset(of: found), "\(files[harmed])")
      } catch {
        if case .corrupt = error {
          reported += 1
        } else {
          Issue.record("\(files[harmed]): \(error)")
        }
      }
      try RocksStore.discard(path: path)
      for name in TemporaryFolder.files(in: path) { unlink(path + "/" + name) }
    }
    #expect(reported > 2)
    // After discarding it starts anew.
    let store = try RocksStore(path: path)
    #expect(try store.scan(KeyRange()) == [])
  }

  @Test("the same commands give the same bytes in memory and in RocksDB", arguments: Seed.several)
  func same(seed: Seed) throws {
    var workload = Workload(seed: seed)
    let folder = TemporaryFolder()
    let rocks = try RocksStore(path: folder.path + "/state")
    let memory = MemoryStore()
    var onRocks = try StateMachine(store: rocks)
    let inMemory = try StateMachine(store: memory)
    for command in Workload.opening { _ = workload.model.apply(command) }
    let opening = batch(Workload.opening, after: 0)
    #expect(try onRocks.apply(opening) == inMemory.apply(opening))
    for step in 0..<250 {
      let first = workload.model.position
      var commands: [Command] = []
      for _ in 0..<workload.number(1..<6) {
        commands.append(workload.next())
        _ = workload.model.apply(commands.last!)
      }
      let next = batch(commands, after: first)
      #expect(try onRocks.apply(next) == inMemory.apply(next))
      if step % 50 == 49 {
        try rocks.flush()
        #expect(try digest(of: rocks) == digest(of: memory))
        onRocks = try StateMachine(store: rocks)
      }
    }
    #expect(try digest(of: rocks) == digest(of: memory))
    #expect(try violations(in: rocks) == [])
  }

  /// What the disk has of an open store at this moment: what a kill would leave.
  private static func crashImage(of path: String, to copy: String) {
    while true {
      mkdir(copy, 0o700)
      for name in TemporaryFolder.files(in: copy) { unlink(copy + "/" + name) }
      let names = TemporaryFolder.files(in: path)
      for name in names where name != "LOCK" {
        TemporaryFolder.write(copy + "/" + name, TemporaryFolder.read(path + "/" + name))
      }
      // A file that RocksDB removed or made meanwhile: this is no one moment.
      if TemporaryFolder.files(in: path) == names { return }
    }
  }

  @Test(
    "killed or closed at any moment and opened again, both stores are at a batch's end with the same bytes",
    arguments: Seed.several)
  func crashes(seed: Seed) throws {
    var workload = Workload(seed: seed)
    var log = [batch(Workload.opening, after: 0)]
    for command in Workload.opening { _ = workload.model.apply(command) }
    for _ in 0..<400 {
      let first = workload.model.position
      var commands: [Command] = []
      for _ in 0..<workload.number(1..<8) {
        commands.append(workload.next())
        _ = workload.model.apply(commands.last!)
      }
      log.append(batch(commands, after: first))
    }
    let folder = TemporaryFolder()
    // So small that RocksDB flushes by itself now and then, between two batches of its choice.
    var settings = RocksSettings()
    settings.memtableByteCount = 64 << 10
    var generation = 0
    var path: String { folder.path + "/state-\(generation)" }
    var rocks = try RocksStore(path: path, settings: settings)
    let memory = MemoryStore()
    var onRocks = try StateMachine(store: rocks)
    var inMemory = try StateMachine(store: memory)
    var next = 0
    var flushed: UInt64 = 0
    var lost = 0
    var steps = 0
    while next < log.count {
      #expect(try onRocks.apply(log[next]) == inMemory.apply(log[next]))
      next += 1
      steps += 1
      if workload.chance(4) {
        try rocks.flush()
        try memory.flush()
        flushed = onRocks.appliedPosition
      }
      guard steps < 1200, workload.chance(7) else { continue }
      let isKill = workload.chance(60)
      let before = path
      if isKill {
        generation += 1
        Self.crashImage(of: before, to: path)
      }
      rocks.close()
      rocks = try RocksStore(path: path, settings: settings)
      onRocks = try StateMachine(store: rocks)
      let position = onRocks.appliedPosition
      #expect(position >= flushed && position <= inMemory.appliedPosition)
      let kept = log[..<next].filter {
        $0.lastPosition > flushed && $0.lastPosition <= position
      }
      #expect(position == kept.last?.lastPosition ?? flushed)
      lost += memory.unflushedBatchCount - kept.count
      memory.crash(keeping: kept.count)
      inMemory = try StateMachine(store: memory)
      flushed = position
      #expect(try digest(of: rocks) == digest(of: memory))
      next = log.firstIndex { $0.firstPosition > position } ?? log.count
    }
    #expect(lost > 0)
    #expect(try digest(of: rocks) == digest(of: memory))
    #expect(try violations(in: rocks) == [])
    rocks.close()
  }

  @Test("state of another format, or rows without a state, are damage")
  func foreign() throws {
    let store = MemoryStore()
    var batch = WriteBatch()
    batch.put(Key.state, [99, 1, 2])
    try store.apply(batch)
    #expect {
      _ = try StateMachine(store: store)
    } throws: {
      if case .corrupt? = $0 as? StoreError { true } else { false }
    }
    store.erase()
    batch = WriteBatch()
    batch.put(Key.of(.session, 4), [1])
    try store.apply(batch)
    #expect {
      _ = try StateMachine(store: store)
    } throws: {
      if case .corrupt? = $0 as? StoreError { true } else { false }
    }
  }
}
