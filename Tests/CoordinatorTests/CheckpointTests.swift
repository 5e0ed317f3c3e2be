import Cluster
import Coding
import Glibc
import Messages
import Metadata
import TestSupport
import Testing

@testable import Coordinator

@Suite("Checkpoints")
struct CheckpointTests {
  /// A folder that is gone after `body`.
  static func inFolder(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/cairn-checkpoint-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw TestFailure("mkdtemp") }
    let folder = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
    defer {
      for name in ["a", "b"] {
        try? RocksStore.discard(path: folder + "/" + name)
        rmdir(folder + "/" + name)
      }
      rmdir(folder)
    }
    try body(folder)
  }

  private static func batches(_ random: inout SeededGenerator, _ count: Int) -> [LogBatch] {
    var position: UInt64 = 1
    var batches = [
      LogBatch(
        epoch: 1, firstPosition: 1, acknowledged: 0, wallMilliseconds: 5,
        commands: [.found(clusterID: 9, scheme: Scheme("2+1")!, created: 5)])
    ]
    position += 1
    for _ in 0..<count {
      let commands = (0..<Int.random(in: 1...20, using: &random)).map { _ -> Command in
        .openSession(client: String(repeating: "x", count: Int(random.next() % 200)))
      }
      batches.append(
        LogBatch(
          epoch: 1, firstPosition: position, acknowledged: 0, wallMilliseconds: 6,
          commands: commands))
      position += UInt64(commands.count)
    }
    return batches
  }

  private static func everything(_ store: any OrderedStore) throws -> [StoreEntry] {
    try store.scan(KeyRange())
  }

  @Test(
    "a copy holds one moment's state while the store goes on, and fills another store",
    arguments: Seed.several)
  func copy(seed: Seed) throws {
    var random = seed.generator
    try Self.inFolder { folder in
      let source = try RocksStore(path: folder + "/a")
      let memory = MemoryStore()
      let machine = try StateMachine(store: source)
      let model = try StateMachine(store: memory)
      let all = Self.batches(&random, 300)
      let cut = Int.random(in: 1..<all.count, using: &random)
      for batch in all[..<cut] {
        _ = try machine.apply(batch)
        _ = try model.apply(batch)
      }
      let position = machine.appliedPosition
      let wanted = try Self.everything(memory)
      for (snapshot, target) in [
        (try source.snapshot(), MemoryStore() as any OrderedStore),
        (try memory.snapshot(), try RocksStore(path: folder + "/b") as any OrderedStore),
      ] {
        var pieces: [CheckpointPiece] = []
        var rest = all[cut...]
        while true {
          let entries = try snapshot.next(byteCount: 2000)
          if let batch = rest.popFirst() {
            _ = try machine.apply(batch)
            _ = try model.apply(batch)
          }
          if entries.isEmpty { break }
          pieces.append(
            CheckpointPiece(
              clusterID: 9, position: position, index: UInt64(pieces.count), isLast: false,
              entries: entries))
        }
        snapshot.close()
        pieces[pieces.count - 1].isLast = true
        let loader = CheckpointLoader(into: target, clusterID: 9, position: position)
        for piece in pieces {
          // Before its end, a store that is being filled must not be taken for a state.
          #expect(throws: StoreError.self) { try loader.finish() }
          try loader.add(try CheckpointPiece(framed: piece.framed))
        }
        try loader.finish()
        let filled = try Self.everything(target)
        #expect(filled == wanted)
        let restored = try StateMachine(store: target)
        #expect(restored.appliedPosition == position && restored.clusterID == 9)
      }
      source.close()
    }
  }

  @Test("a store filled in part is not taken for a state, and foreign pieces are refused")
  func partial() throws {
    var random = SeededGenerator(seed: 3)
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    for batch in Self.batches(&random, 20) { _ = try machine.apply(batch) }
    let snapshot = try store.snapshot()
    let entries = try snapshot.next(byteCount: .max)
    let target = MemoryStore()
    let loader = CheckpointLoader(into: target, clusterID: 9, position: machine.appliedPosition)
    var piece = CheckpointPiece(
      clusterID: 9, position: machine.appliedPosition, index: 0, isLast: false,
      entries: Array(entries.prefix(entries.count / 2)))
    try loader.add(piece)
    #expect(throws: StoreError.self) { try StateMachine(store: target) }
    // Out of order, of another cluster, of another moment.
    #expect(throws: StoreError.self) { try loader.add(piece) }
    piece.index = 1
    piece.clusterID = 8
    #expect(throws: StoreError.self) { try loader.add(piece) }
    piece.clusterID = 9
    piece.position += 1
    #expect(throws: StoreError.self) { try loader.add(piece) }
    var bytes = piece.framed
    bytes[60] ^= 1
    #expect((try? CheckpointPiece(framed: bytes)) != piece)
  }
}
