import Cluster
import Coding
import Messages
import TestSupport
import Testing

@testable import DataPath

/// Keeps pages as the coordinator does.
private final class Pages: @unchecked Sendable {
  // Confined to one test.
  var stored: [UInt64: Page] = [:]

  func put(_ page: Page) -> UInt64 {
    let identity = UInt64(stored.count) + 100
    stored[identity] = page
    return identity
  }

  /// All runs below a page, in order, with every rule of pages checked.
  func runs(_ identity: UInt64, byteCount: UInt64?) -> [Run] {
    guard let page = stored[identity] else {
      Issue.record("no page \(identity)")
      return []
    }
    var result: [Run] = []
    switch page {
    case .runs(let runs):
      #expect(!runs.isEmpty && runs.count <= Page.entryLimit)
      #expect(runs.reduce(0) { $0 + Int($1.count) } <= 1024)
      result = runs
    case .children(let children):
      #expect(!children.isEmpty && children.count <= Page.entryLimit)
      for child in children { result += self.runs(child.page, byteCount: child.byteCount) }
    }
    if let byteCount { #expect(result.reduce(0) { $0 + $1.byteCount } == byteCount) }
    return result
  }
}

@Suite struct ManifestBuilderTests {
  /// Chunks that mostly lie side by side; `boundaryOdds`: one in so many ends a page.
  static func chunks(_ count: Int, boundaryOdds: UInt64, _ random: inout SeededGenerator)
    -> [ChunkHandle]
  {
    var container = ContainerID(.data, 1)
    var ordinal: UInt64 = 0
    return (0..<count).map { _ in
      if random.next() % 40 == 0 {
        container = ContainerID(.data, random.next() % 5)
        ordinal = random.next() % 100_000
      }
      let ends = random.next() % boundaryOdds == 0
      let last = ends ? random.next() << 8 : random.next() | 1
      let handle = ChunkHandle(
        fingerprint: Fingerprint(w0: random.next(), w1: 0, w2: 0, w3: last),
        byteCount: Int(random.next() % 100_000) + 1)
      handle.settle(.success(ChunkHandle.Location(container: container, ordinal: ordinal)))
      ordinal += 1
      return handle
    }
  }

  /// Every chunk by itself, from runs.
  static func expand(_ runs: [Run], _ chunks: [ChunkHandle]) -> [ChunkHandle.Location] {
    var result: [ChunkHandle.Location] = []
    for run in runs {
      #expect(run.skip == 0)
      var bytes: UInt64 = 0
      for offset in 0..<UInt64(run.count) {
        if result.count < chunks.count { bytes += UInt64(chunks[result.count].byteCount) }
        result.append(
          ChunkHandle.Location(container: run.container, ordinal: run.firstOrdinal + offset))
      }
      #expect(bytes == run.byteCount)
    }
    return result
  }

  @Test(
    "the manifest names every chunk once and in order, whatever its size",
    arguments: [1, 2, 15, 300, 5000], Seed.several)
  func order(count: Int, seed: Seed) async throws {
    var random = seed.generator
    let chunks = Self.chunks(count, boundaryOdds: random.next() % 300 + 1, &random)
    let pages = Pages()
    var builder = ManifestBuilder { page throws(DataPathError) in pages.put(page) }
    for chunk in chunks { try await builder.add(chunk) }
    let runs: [Run]
    switch try await builder.finish() {
    case .inline: throw Unexpected()
    case .embedded(let embedded):
      #expect(embedded.count <= ObjectContent.embeddedRunLimit && pages.stored.isEmpty)
      runs = embedded
    case .root(let root): runs = pages.runs(root, byteCount: builder.byteCount)
    }
    #expect(builder.byteCount == chunks.reduce(0) { $0 + UInt64($1.byteCount) })
    #expect(try Self.expand(runs, chunks) == chunks.map { try $0.outcome!.get() })
  }

  @Test("chunks side by side in one container are one run")
  func merging() async throws {
    var builder = ManifestBuilder { _ throws(DataPathError) in throw .cancelled }
    for index in 0..<900 {
      let handle = ChunkHandle(
        fingerprint: Fingerprint(w0: 0, w1: 0, w2: 0, w3: 1), byteCount: 10)
      handle.settle(
        .success(
          ChunkHandle.Location(container: ContainerID(.data, 4), ordinal: UInt64(50 + index))))
      try await builder.add(handle)
    }
    #expect(
      try await builder.finish()
        == .embedded([
          Run(
            container: ContainerID(.data, 4), firstOrdinal: 50, count: 900, skip: 0,
            byteCount: 9000)
        ]))
  }

  @Test("equal content gives equal pages wherever it stands", arguments: Seed.several)
  func sharing(seed: Seed) async throws {
    var random = seed.generator
    let common = Self.chunks(3000, boundaryOdds: 200, &random)
    func pages(after prefix: [ChunkHandle]) async throws -> Set<[Run]> {
      let pages = Pages()
      var builder = ManifestBuilder { page throws(DataPathError) in pages.put(page) }
      for chunk in prefix + common { try await builder.add(chunk) }
      _ = try await builder.finish()
      return Set(
        pages.stored.values.compactMap { if case .runs(let runs) = $0 { runs } else { nil } })
    }
    let alone = try await pages(after: [])
    let later = try await pages(after: Self.chunks(700, boundaryOdds: 200, &random))
    // All but those before the first common cut.
    #expect(alone.subtracting(later).count <= 2)
    #expect(alone.count > 5)
  }

  /// Gives equal pages one identity, as the state machine does.
  private final class SharedPages: @unchecked Sendable {
    // Confined to one test.
    var identities: [Page: UInt64] = [:]

    func manifest(of chunks: [ChunkHandle]) async throws -> (root: UInt64, pages: Set<Page>) {
      var pages: Set<Page> = []
      var builder = ManifestBuilder { page throws(DataPathError) in
        pages.insert(page)
        if let known = self.identities[page] { return known }
        self.identities[page] = UInt64(self.identities.count)
        return UInt64(self.identities.count - 1)
      }
      for chunk in chunks { try await builder.add(chunk) }
      guard case .root(let root) = try await builder.finish() else { throw Unexpected() }
      return (root, pages)
    }
  }

  static func interior(_ pages: Set<Page>) -> Set<Page> {
    pages.filter { if case .children = $0 { true } else { false } }
  }

  @Test(
    "two large objects that differ in a few places share nearly all their pages, interior ones too",
    arguments: Seed.several)
  func sharingAfterChanges(seed: Seed) async throws {
    var random = seed.generator
    let store = SharedPages()
    // Pages are as small as they get, so that there are thousands: a few pages of pages.
    let common = Self.chunks(12_000, boundaryOdds: 2, &random)
    let before = try await store.manifest(of: common)
    #expect(Self.interior(before.pages).count > 30)
    for _ in 0..<4 {
      var changed = common
      let place = Int(random.next() % UInt64(common.count))
      switch random.next() % 3 {
      case 0: changed.insert(contentsOf: Self.chunks(1, boundaryOdds: 256, &random), at: place)
      case 1: changed.remove(at: place)
      default: changed.insert(contentsOf: Self.chunks(700, boundaryOdds: 2, &random), at: place)
      }
      let added = changed.count > common.count + 1 ? 350 : 1
      let after = try await store.manifest(of: changed)
      let fresh = after.pages.subtracting(before.pages)
      #expect(fresh.count - Self.interior(fresh).count <= added + 60)
      // The path to the root, what was put in, and what a cut that moved takes with it.
      #expect(Self.interior(fresh).count <= 12 + added / 16, "at \(place) of \(common.count)")
    }
  }

  @Test(
    "equal chunks without end make a manifest that is neither deep nor wide",
    arguments: [UInt64(0), 1])
  func monotony(lastWord: UInt64) async throws {
    let store = SharedPages()
    let chunk = ChunkHandle(
      fingerprint: Fingerprint(w0: 1, w1: 2, w2: 3, w3: lastWord), byteCount: 1)
    chunk.settle(
      .success(ChunkHandle.Location(container: ContainerID(.data, 4), ordinal: 50)))
    let (root, pages) = try await store.manifest(of: Array(repeating: chunk, count: 70_000))
    #expect(pages.count < 40)
    let byIdentity = Dictionary(uniqueKeysWithValues: store.identities.map { ($1, $0) })
    func depth(_ page: UInt64) -> Int {
      guard case .children(let children) = byIdentity[page] else { return 0 }
      #expect(children.count <= Page.entryLimit)
      return 1 + depth(children[0].page)
    }
    #expect(depth(root) <= 6)
  }

  @Test("a chunk that could not be stored fails the manifest with its own error")
  func failure() async throws {
    var builder = ManifestBuilder { _ throws(DataPathError) in 1 }
    let handle = ChunkHandle(fingerprint: Fingerprint(w0: 0, w1: 0, w2: 0, w3: 1), byteCount: 10)
    handle.settle(.failure(.source("gone")))
    do throws(DataPathError) {
      try await builder.add(handle)
      throw DataPathError.cancelled
    } catch {
      #expect(error == .source("gone"))
    }
  }

  @Test("the content hash is the fingerprint of one chunk, else a hash over all of them")
  func contentHash() {
    let empty = ContentHash()
    #expect(empty.finish() == Fingerprint(of: []))
    let single = ContentHash()
    let a = Fingerprint(of: [1, 2, 3])
    let b = Fingerprint(of: [4])
    single.add(a, byteCount: 3)
    #expect(single.finish() == a)
    let double = ContentHash()
    double.add(a, byteCount: 3)
    double.add(b, byteCount: 1)
    #expect(double.finish() == Fingerprint(of: a.bytes + [3, 0, 0, 0] + b.bytes + [1, 0, 0, 0]))
  }
}

struct Unexpected: Error {}
