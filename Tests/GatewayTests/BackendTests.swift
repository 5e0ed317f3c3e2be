import DataPath
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import Gateway

/// Bytes in memory, as a source; one that fails gives them all and then judges them wrong.
private final class BytesSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let bytes: [UInt8]
  private let fails: Bool
  private var offset = 0
  init(_ bytes: [UInt8], fails: Bool = false) {
    self.bytes = bytes
    self.fails = fails
  }
  var byteCount: UInt64? { fails ? nil : UInt64(bytes.count) }
  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let count = min(slice.count, bytes.count - offset, 70_000)
    if count == 0, fails { throw .source("as planned") }
    if count > 0 {
      bytes[offset..<offset + count].withUnsafeBytes { from in
        slice[0..<count].withMutableBytes { $0.copyMemory(from: from) }
      }
    }
    offset += count
    return count
  }
  func rewind() -> Bool {
    offset = 0
    return true
  }
}

private final class BytesSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private(set) var bytes: [UInt8] = []
  var isOrdered: Bool { true }
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    for slice in slices { bytes += slice.array }
  }
}

enum BackendKind: String, CaseIterable, Sendable, CustomTestStringConvertible {
  case cluster, filesystem
  var testDescription: String { rawValue }

  func open(_ world: SimulatedWorld) async throws -> any ObjectBackend {
    switch self {
    case .cluster: try await TestCluster.start(world)
    case .filesystem:
      try await FilesystemBackend.open("/base/of/it", on: world.process("gateway"))
    }
  }
}

@Suite("What every backend does")
struct BackendTests {
  private func run(
    _ kind: BackendKind, _ seed: Seed = Seed(1),
    _ body: @escaping @Sendable (any ObjectBackend, SimulatedWorld) async throws -> Void
  ) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let backend = try await kind.open(world)
      try await backend.createBucket("bucket")
      try await body(backend, world)
      await backend.close()
    }
  }

  private static func name(_ key: String) -> ObjectName { ObjectName(bucket: "bucket", key: key) }

  private static func put(
    _ backend: any ObjectBackend, _ key: String, _ bytes: [UInt8],
    _ precondition: Precondition = .none, attributes: ObjectAttributes = ObjectAttributes()
  ) async throws -> UInt64 {
    try await backend.put(
      name(key), source: BytesSource(bytes), precondition: precondition
    ) { attributes }.identity
  }
  private static func get(
    _ backend: any ObjectBackend, _ key: String, _ range: Range<UInt64>? = nil
  )
    async throws -> [UInt8]
  {
    let found = try await backend.find(name(key), wanted: 0..<0)
    let sink = BytesSink()
    let range = range ?? 0..<found.byteCount
    if !range.isEmpty { try await backend.read(found, range, into: sink) }
    return sink.bytes
  }
  private static func error(_ body: @Sendable () async throws -> Void) async -> BackendError? {
    do {
      try await body()
      return nil
    } catch {
      return error as? BackendError
    }
  }
  private static func refused(
    _ wanted: BackendError, _ body: @Sendable () async throws -> Void
  ) async {
    let found = await error(body)
    #expect(found == wanted)
  }
  private static func keys(_ backend: any ObjectBackend) async throws -> [String] {
    try await backend.list(ListRequest(bucket: "bucket")).entries.map(\.key)
  }

  @Test("buckets are made, listed, refused and removed", arguments: BackendKind.allCases)
  func buckets(kind: BackendKind) throws {
    try run(kind) { backend, _ in
      await Self.refused(.bucketExists) { _ = try await backend.createBucket("bucket") }
      for wrong in ["B", "..", "a/b", ".cairn"] {
        let refusal = await Self.error { _ = try await backend.createBucket(wrong) }
        guard case .invalidName = refusal else {
          Issue.record("\(wrong): \(String(describing: refusal))")
          continue
        }
        #expect(try await !backend.bucketExists(wrong))
      }
      try await backend.createBucket("another")
      #expect(try await backend.buckets().map(\.name) == ["another", "bucket"])
      _ = try await Self.put(backend, "k", [1])
      await Self.refused(.bucketNotEmpty) { _ = try await backend.removeBucket("bucket") }
      await Self.refused(.bucketNotFound) { _ = try await backend.removeBucket("nowhere") }
      try await backend.removeBucket("another")
      #expect(try await backend.bucketExists("bucket"))
      #expect(try await !backend.bucketExists("another"))
      let nowhere = ObjectName(bucket: "nowhere", key: "k")
      await Self.refused(.bucketNotFound) { _ = try await backend.find(nowhere, wanted: 0..<0) }
      await Self.refused(.bucketNotFound) {
        _ = try await backend.list(ListRequest(bucket: "nowhere"))
      }
    }
  }

  @Test(
    "what is put is there, whole and in ranges, whatever its name", arguments: BackendKind.allCases,
    Seed.several)
  func names(kind: BackendKind, seed: Seed) throws {
    try run(kind, seed) { backend, _ in
      var random = seed.generator
      let keys = [
        "plain", "a", "a/b", "a/b/c", "../../etc/passwd", "..", ".", "./x", "a//b", "/front",
        "end/",
        "/", "//", "%", "%2E", "%f", "a%f", "a%", "%25", "ü/日本",
        String(repeating: "long", count: 256),
        String(repeating: "é", count: 300), "nul\u{0}", "\u{1}", "space and\nline", "a%+", "%+/x",
      ]
      var stored: [String: [UInt8]] = [:]
      for key in keys.shuffled(using: &random) {
        let bytes = random.bytes([0, 1, 4096, 4097, 200_000].randomElement(using: &random)!)
        _ = try await Self.put(
          backend, key, bytes, attributes: ObjectAttributes(contentType: "t/\(bytes.count)"))
        stored[key] = bytes
      }
      let sorted = keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
      #expect(try await Self.keys(backend) == sorted)
      for key in keys.shuffled(using: &random) {
        let bytes = stored[key]!
        #expect(try await Self.get(backend, key) == bytes, "\(key)")
        let found = try await backend.find(Self.name(key), wanted: 0..<0)
        #expect(found.byteCount == UInt64(bytes.count))
        #expect(found.attributes.contentType == "t/\(bytes.count)")
        if bytes.count > 1 {
          let first = UInt64.random(in: 0..<UInt64(bytes.count), using: &random)
          let end = UInt64.random(in: first...UInt64(bytes.count), using: &random)
          #expect(
            try await Self.get(backend, key, first..<end) == Array(bytes[Int(first)..<Int(end)]))
        }
        if Bool.random(using: &random) {
          try await backend.delete(Self.name(key), precondition: .none)
          stored[key] = nil
          await Self.refused(.notFound) {
            _ = try await backend.delete(Self.name(key), precondition: .none)
          }
        }
      }
      #expect(try await Self.keys(backend) == sorted.filter { stored[$0] != nil })
      for (key, bytes) in stored { #expect(try await Self.get(backend, key) == bytes, "\(key)") }
      for key in stored.keys.sorted() {
        try await backend.delete(Self.name(key), precondition: .none)
      }
      try await backend.removeBucket("bucket")
    }
  }

  @Test("conditions, and writes that fail, leave the old object", arguments: BackendKind.allCases)
  func conditions(kind: BackendKind) throws {
    try run(kind) { backend, _ in
      let first = try await Self.put(backend, "k", [1], .absent)
      await Self.refused(.preconditionFailed) { _ = try await Self.put(backend, "k", [2], .absent) }
      let second = try await Self.put(backend, "k", [3], .identity(first))
      #expect(second != first)
      await Self.refused(.preconditionFailed) {
        _ = try await Self.put(backend, "k", [4], .identity(first))
      }
      await Self.refused(.source("as planned")) {
        _ = try await backend.put(
          Self.name("k"), source: BytesSource([UInt8](repeating: 7, count: 90_000), fails: true),
          precondition: .none
        ) { ObjectAttributes() }
      }
      await Self.refused(.source("no")) {
        _ = try await backend.put(Self.name("k"), source: BytesSource([5]), precondition: .none) {
          () throws(DataPathError) -> ObjectAttributes in throw .source("no")
        }
      }
      #expect(try await Self.get(backend, "k") == [3])
      let old = try await backend.find(Self.name("k"), wanted: 0..<0)
      _ = try await Self.put(backend, "k", [6, 6])
      await Self.refused(.changed) { _ = try await backend.read(old, 0..<1, into: BytesSink()) }
      await Self.refused(.changed) {
        _ = try await backend.copy(
          old, to: Self.name("c"), attributes: ObjectAttributes(), precondition: .none)
      }
      let new = try await backend.find(Self.name("k"), wanted: 0..<0)
      try await backend.copy(
        new, to: Self.name("c/d"), attributes: ObjectAttributes(contentType: "x"),
        precondition: .absent)
      #expect(try await Self.get(backend, "c/d") == [6, 6])
      #expect(
        try await backend.find(Self.name("c/d"), wanted: 0..<0).attributes.contentType == "x")
      await Self.refused(.preconditionFailed) {
        _ = try await backend.delete(Self.name("k"), precondition: .identity(old.version))
      }
      try await backend.delete(Self.name("k"), precondition: .identity(new.version))
      await Self.refused(.notFound) { _ = try await Self.get(backend, "k") }
    }
  }

  @Test(
    "listings in pages and groups of any size", arguments: BackendKind.allCases, [1, 2, 5, 1000])
  func listings(kind: BackendKind, limit: Int) throws {
    try run(kind) { backend, _ in
      let all = ["a", "a/1", "a/2", "a/b/1", "b", "b/", "b/x", "c/1", "d"]
      for key in all { _ = try await Self.put(backend, key, []) }
      for (prefix, delimiter) in [
        ("", ""), ("a", ""), ("", "/"), ("a/", "/"), ("b", "/"), ("zz", ""),
      ] {
        var entries: [String] = []
        var groups: [String] = []
        var request = ListRequest(bucket: "bucket")
        request.prefix = prefix
        request.delimiter = delimiter
        request.limit = limit
        while true {
          let page = try await backend.list(request)
          #expect(page.entries.count + page.prefixes.count <= limit)
          entries += page.entries.map(\.key)
          groups += page.prefixes
          guard let next = page.next else { break }
          request.after = next
        }
        func group(_ key: String) -> String? {
          guard !delimiter.isEmpty else { return nil }
          let rest = key.dropFirst(prefix.count)
          return rest.firstIndex(of: "/").map { prefix + rest[...$0] }
        }
        let wanted = all.filter { $0.hasPrefix(prefix) }
        #expect(entries == wanted.filter { group($0) == nil }, "\(prefix) \(delimiter)")
        #expect(groups == Array(Set(wanted.compactMap(group))).sorted(), "\(prefix) \(delimiter)")
      }
    }
  }

  @Test("an object in parts, out of order, one twice, one copied", arguments: BackendKind.allCases)
  func parts(kind: BackendKind) throws {
    try run(kind) { backend, _ in
      var random = SeededGenerator(seed: 5)
      let source = random.bytes(300_000)
      _ = try await Self.put(backend, "source", source)
      let name = Self.name("in/parts")
      let upload = UploadName(
        name,
        id: try await backend.beginUpload(
          name, attributes: ObjectAttributes(contentType: "a/b"), owner: "me"))
      @Sendable func put(_ number: UInt32, _ bytes: [UInt8]) async throws {
        try await backend.putPart(upload, number: number, source: BytesSource(bytes)) {
          PartWords(digest: [UInt8(number)])
        }
      }
      let (one, two) = (random.bytes(150_000), random.bytes(100))
      try await put(9, two)
      try await put(2, [1, 2, 3])
      try await put(2, one)
      let found = try await backend.find(Self.name("source"), wanted: 0..<0)
      try await backend.copyPart(
        upload, number: 5, from: found, range: 70_001..<250_003, words: PartWords(digest: [5]))
      try await put(10, [])
      var listed: [ListParts.Part] = []
      while true {
        let page = try await backend.parts(upload, after: listed.last?.part.number ?? 0, limit: 2)
        #expect(page.description.owner == "me")
        #expect(page.description.attributes.contentType == "a/b")
        listed += page.parts
        if page.isLast { break }
      }
      #expect(listed.map(\.part.number) == [2, 5, 9, 10])
      #expect(listed.map(\.part.byteCount) == [150_000, 180_002, 100, 0])
      #expect(listed.map(\.part.digest) == [[2], [5], [9], [10]])
      let (backwards, stale) = (Array(listed.reversed()), [listed[0], listed[2]])
      await Self.refused(.invalidPartOrder) {
        _ = try await backend.complete(
          upload, parts: backwards, attributes: ObjectAttributes(), precondition: .none)
      }
      try await put(9, two)
      await Self.refused(.partNotFound) {
        _ = try await backend.complete(
          upload, parts: stale, attributes: ObjectAttributes(), precondition: .none)
      }
      let chosen = try await backend.parts(upload, after: 0, limit: 1000).parts
      _ = try await Self.put(backend, "in/parts", [0])
      await Self.refused(.preconditionFailed) {
        _ = try await backend.complete(
          upload, parts: chosen, attributes: ObjectAttributes(), precondition: .absent)
      }
      let version = try await backend.complete(
        upload, parts: chosen, attributes: ObjectAttributes(contentType: "c"), precondition: .none)
      let whole = one + source[70_001..<250_003] + two
      #expect(try await Self.get(backend, "in/parts") == whole)
      let done = try await backend.find(name, wanted: 0..<0)
      #expect(done.version == version.identity && done.attributes.contentType == "c")
      var ranges: [Range<UInt64>] = []
      for ordinal in 1...4 as ClosedRange<UInt32> {
        ranges.append(try await backend.part(done, ordinal: ordinal, partCount: 4))
      }
      #expect(ranges == [0..<150_000, 150_000..<330_002, 330_002..<330_102, 330_102..<330_102])
      await Self.refused(.invalidRange) {
        _ = try await backend.part(done, ordinal: 5, partCount: 4)
      }
      await Self.refused(.uploadNotFound) {
        _ = try await backend.parts(upload, after: 0, limit: 1)
      }
      await Self.refused(.uploadNotFound) { _ = try await backend.abort(upload) }
      await Self.refused(.uploadNotFound) { _ = try await put(1, [1]) }
    }
  }

  @Test(
    "uploads under way are listed, aborted, and go with their bucket",
    arguments: BackendKind.allCases)
  func uploads(kind: BackendKind) throws {
    try run(kind) { backend, _ in
      var all: [(key: String, id: String)] = []
      for key in ["b", "a/1", "a/2", "a", "a/1"] {
        let id = try await backend.beginUpload(
          Self.name(key), attributes: ObjectAttributes(), owner: "o")
        all.append((key, id))
        try await backend.putPart(
          UploadName(Self.name(key), id: id), number: 1, source: BytesSource([1, 2])
        ) { PartWords() }
      }
      all.sort { $0.key == $1.key ? $0.id < $1.id : $0.key < $1.key }
      for limit in [1, 2, 1000] {
        var found: [String] = []
        var request = UploadListRequest(bucket: "bucket")
        request.limit = limit
        while true {
          let page = try await backend.uploads(request)
          found += page.entries.map(\.id)
          if page.isLast { break }
          request.afterKey = page.entries.last?.key ?? ""
          request.afterID = page.entries.last?.id ?? ""
        }
        #expect(found == all.map(\.id))
      }
      var request = UploadListRequest(bucket: "bucket")
      request.delimiter = "/"
      let page = try await backend.uploads(request)
      #expect(page.entries.map(\.key) == ["a", "b"] && page.prefixes == ["a/"])
      try await backend.abort(UploadName(Self.name("a"), id: all[0].id))
      for wrong in ["", "x", "../../../..", "0000000000000001"] {
        await Self.refused(.uploadNotFound) {
          _ = try await backend.abort(UploadName(Self.name("a"), id: wrong))
        }
      }
      // Of another key it is none.
      let other = UploadName(Self.name("z"), id: all[1].id)
      await Self.refused(.uploadNotFound) { _ = try await backend.abort(other) }
      #expect(try await backend.uploads(UploadListRequest(bucket: "bucket")).entries.count == 4)
      #expect(try await Self.keys(backend) == [])
      try await backend.removeBucket("bucket")
      try await backend.createBucket("bucket")
      #expect(try await backend.uploads(UploadListRequest(bucket: "bucket")).entries.isEmpty)
    }
  }

  @Test("every key has a path of its own, and the way back", arguments: Seed.several)
  func paths(seed: Seed) {
    var random = seed.generator
    let pieces = ["a", "%", ".", "..", "/", "2", "5", "E", "f", "+", "0", "\u{0}", "ü", "日"]
    var known: [String: String] = [:]
    for _ in 0..<5000 {
      let key = (0..<Int.random(in: 1..<9, using: &random)).map { _ in
        pieces.randomElement(using: &random)!
      }.joined()
      let path = FileNames.path(key)
      let names = path.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      #expect(names.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count < 250 })
      #expect(!path.utf8.contains(0))
      #expect(FileNames.key(names).map { Array($0.utf8) } == Array(key.utf8), "\(key)")
      #expect(known.updateValue(key, forKey: path) ?? key == key)
    }
  }
}
