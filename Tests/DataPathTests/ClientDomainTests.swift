import Cluster
import Coding
import Coordinator
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import DataPath

/// Buckets that a passphrase encrypts, of which the cluster knows neither names nor bytes.
@Suite struct ClientDomainTests {
  private static let cost = Scrypt(logCost: 10, blockSize: 1, parallelism: 1)!

  private func unlocked(_ cluster: SmallCluster, _ name: String, _ passphrase: String)
    -> SmallClient
  {
    let client = SmallClient(cluster, name)
    client.access.keys.passphrase = Array(passphrase.utf8)
    client.coordinator.names = SealedNames(client.access)
    return client
  }

  private func refusal(_ body: () async throws(DataPathError) -> Void) async -> RefusalCode? {
    do throws(DataPathError) {
      try await body()
      return nil
    } catch {
      return error.refusalCode
    }
  }

  private func list(
    _ client: SmallClient, _ prefix: String, delimiter: String = "", limit: UInt32 = 1000
  ) async throws -> (keys: [String], groups: [String]) {
    var keys: [String] = []
    var groups: [String] = []
    var after = ""
    while true {
      let page = try await client.coordinator.query(
        ListObjects(
          level: .strong, bucket: "sealed", prefix: prefix, after: after, delimiter: delimiter,
          limit: limit))
      keys += page.entries.map(\.key)
      groups += page.prefixes
      guard let next = page.next else { return (keys, groups) }
      after = next
    }
  }

  @Test(
    "a name is sealed the same way each time, comes back, and shows nothing but its parts",
    arguments: Seed.several)
  func names(seed: Seed) {
    var random = seed.generator
    let domain = KeyedDomain(id: KeyDomainID(1), fingerprintKey: random.bytes(32))
    let cipher = NameCipher(domain, bucket: "bucket")
    let parts = ["", "a", "b", "é", "folder", "..", "x y", String(repeating: "n", count: 90)]
    for _ in 0..<200 {
      let name = (0...Int(random.next() % 5)).map { _ in parts.randomElement(using: &random)! }
        .joined(separator: "/")
      let sealed = cipher.sealed(name)
      #expect(cipher.sealed(name) == sealed && cipher.plain(sealed) == name)
      #expect(
        sealed.split(separator: "/", omittingEmptySubsequences: false).map(\.isEmpty)
          == name.split(separator: "/", omittingEmptySubsequences: false).map(\.isEmpty))
      // What begins alike up to a slash does so sealed, and only there.
      #expect(cipher.sealed(name + "/more").hasPrefix(sealed + "/"))
      let other = NameCipher(domain, bucket: "other").sealed(name)
      #expect(name.allSatisfy { $0 == "/" } || other != sealed && cipher.plain(other) == nil)
      guard let place = sealed.indices.filter({ sealed[$0] != "/" }).randomElement(using: &random)
      else { continue }
      var wrong = sealed
      wrong.replaceSubrange(place...place, with: sealed[place] == "Q" ? "g" : "Q")
      #expect(cipher.plain(wrong) != name)
    }
    #expect(cipher.sealed("a/a").split(separator: "/").map(String.init).count == 2)
    let twice = cipher.sealed("a/a").split(separator: "/")
    #expect(twice[0] != twice[1])
    for wrong in ["x", "name", "AAAA", "+/", "=", "\0", "a=b"] {
      #expect(cipher.plain(wrong) == nil)
    }
  }

  @Test(
    "what one client stores another with the passphrase reads, and nobody else, the cluster neither",
    arguments: Seed.several)
  func objects(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = unlocked(cluster, "client", "open it")
      try await client.access.keys.makeDomain(
        "mine", passphrase: Array("open it".utf8), cost: Self.cost)
      _ = try await client.coordinator.execute(
        .createBucket(name: "sealed", keyDomain: "mine"))
      let contents = [
        "small": shrinking(3000, &random), "folder/large": shrinking(700_000, &random),
        "folder/copy": noise(200_000, &random), "folder/deep/none": [],
      ]
      var writer = ObjectWriter(client.access)
      for (key, plain) in contents.sorted(by: { $0.key < $1.key }) {
        _ = try await writer.put(
          ObjectName(bucket: "sealed", key: key), attributes: ObjectAttributes(),
          source: TestSource(plain, seed: random.next()), unlessIdentical: true)
      }
      try await writer.finish()

      // Duplicates are found, by another client too.
      let reader = unlocked(cluster, "reader", "open it")
      writer = ObjectWriter(reader.access)
      _ = try await writer.put(
        ObjectName(bucket: "sealed", key: "again"), attributes: ObjectAttributes(),
        source: TestSource(contents["folder/large"]!), unlessIdentical: true)
      #expect(writer.newByteCount == 0)
      try await writer.finish()
      for (key, plain) in contents where !plain.isEmpty {
        let sink = TestSink(0..<UInt64(plain.count), isOrdered: true, driver: reader.driver)
        try await ObjectReader(reader.access).read(
          ObjectName(bucket: "sealed", key: key), identity: 0, range: 0..<UInt64(plain.count),
          into: sink)
        #expect(sink.bytes == plain)
      }
      for limit: UInt32 in [1, 2, 1000] {
        #expect(
          try await list(reader, "", limit: limit).keys.sorted()
            == (Array(contents.keys) + ["again"]).sorted())
        let found = try await list(reader, "folder/", delimiter: "/", limit: limit)
        #expect(found.keys.sorted() == ["folder/copy", "folder/large"])
        #expect(found.groups == ["folder/deep/"])
        #expect(try await list(reader, "folder/la", limit: limit).keys == ["folder/large"])
        #expect(try await list(reader, "fol", delimiter: "/", limit: limit).groups == ["folder/"])
        #expect(try await list(reader, "nothing", limit: limit).keys == [])
      }
      _ = try await reader.coordinator.execute(
        .copyObject(
          source: ObjectName(bucket: "sealed", key: "small"), sourceIdentity: 0,
          target: ObjectName(bucket: "sealed", key: "folder/moved"), attributes: nil, move: true,
          precondition: .none, modified: 0))
      #expect(try await list(client, "folder/m").keys == ["folder/moved"])

      // Who has no passphrase, or another, sees neither names nor bytes.
      let stranger = SmallClient(cluster, "stranger")
      let names = try await list(stranger, "").keys
      #expect(names.count == 5)
      #expect(names.allSatisfy { name in !contents.keys.contains { name.contains($0) } })
      let raw = ObjectName(bucket: "sealed", key: names.max { $0.utf8.count < $1.utf8.count }!)
      func read(_ client: SmallClient, _ name: ObjectName) async -> RefusalCode? {
        await refusal { () async throws(DataPathError) in
          try await ObjectReader(client.access).read(
            name, identity: 0, range: 0..<1,
            into: TestSink(0..<1, isOrdered: true, driver: client.driver))
        }
      }
      for name in names {
        let name = ObjectName(bucket: "sealed", key: name)
        let record = try await stranger.coordinator.query(
          StatObject(level: .strong, name: name)
        ).record
        if record.byteCount > 0 { #expect(await read(stranger, name) == .keyIsClients) }
      }
      let wrong = unlocked(cluster, "wrong", "open that")
      #expect(await read(wrong, raw) == .keyIsClients)
      #expect(
        await refusal { () async throws(DataPathError) in
          let writer = ObjectWriter(stranger.access)
          defer { writer.giveUp() }
          _ = try await writer.put(
            raw, attributes: ObjectAttributes(), source: TestSource([1, 2, 3]),
            unlessIdentical: false)
        } == .keyIsClients)

      // Another passphrase, the same key.
      let id = try await client.coordinator.query(ListKeyDomains(level: .strong)).domains[0].id
      #expect(
        await refusal { () async throws(DataPathError) in
          try await wrong.access.keys.changePassphrase(of: id, to: [1], cost: Self.cost)
        } == .keyIsClients)
      try await client.access.keys.changePassphrase(
        of: id, to: Array("open that".utf8), cost: Self.cost)
      let late = unlocked(cluster, "late", "open it")
      #expect(await read(late, raw) == .keyIsClients)
      let sink = TestSink(0..<3000, isOrdered: true, driver: wrong.driver)
      try await ObjectReader(wrong.access).read(
        ObjectName(bucket: "sealed", key: "folder/moved"), identity: 0, range: 0..<3000,
        into: sink)
      #expect(sink.bytes == contents["small"]!)
      #expect(
        await refusal { () async throws(DataPathError) in
          _ = try await client.coordinator.query(RotateKeys(domain: "mine"))
        } != nil)
      for one in [client, reader, stranger, wrong, late] { await one.close() }
    }
  }

  @Test(
    "plain buckets and those of the cluster's keys are as before for a client with a passphrase")
  func beside() throws {
    try simulate(17) { world in
      var random = SeededGenerator(seed: 17)
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3, masterKeys: ["first"])
      let client = unlocked(cluster, "client", "open it")
      try await client.makeDomain("cluster")
      try await client.access.keys.makeDomain(
        "mine", passphrase: Array("open it".utf8), cost: Self.cost)
      #expect(
        await refusal { () async throws(DataPathError) in
          try await client.access.keys.makeDomain("mine", passphrase: [1], cost: Self.cost)
        } == .keyDomainExists)
      // One that is a client's does not keep the cluster from making others, and their keys from being wrapped anew.
      try await client.makeDomain("another")
      _ = try await client.coordinator.query(RotateKeys(domain: nil))
      let plain = shrinking(300_000, &random)
      let buckets = ["cluster": "cluster", "mine": "mine", "none": ""]
      let writer = ObjectWriter(client.access)
      for (bucket, domain) in buckets.sorted(by: { $0.key < $1.key }) {
        _ = try await client.coordinator.execute(
          .createBucket(name: "b-\(bucket)", keyDomain: domain))
        _ = try await writer.put(
          ObjectName(bucket: "b-\(bucket)", key: "a/b"), attributes: ObjectAttributes(),
          source: TestSource(plain), unlessIdentical: false)
      }
      try await writer.finish()
      let reader = unlocked(cluster, "reader", "open it")
      let outside = SmallClient(cluster, "outside")
      for (bucket, domain) in buckets.sorted(by: { $0.key < $1.key }) {
        let name = ObjectName(bucket: "b-\(bucket)", key: "a/b")
        let sink = TestSink(0..<300_000, isOrdered: true, driver: reader.driver)
        try await ObjectReader(reader.access).read(
          name, identity: 0, range: 0..<300_000, into: sink)
        #expect(sink.bytes == plain)
        let seen = try await outside.coordinator.query(
          ListObjects(
            level: .strong, bucket: name.bucket, prefix: "", after: "", delimiter: "", limit: 9)
        ).entries.map(\.key)
        #expect((seen == ["a/b"]) == (domain != "mine"))
      }
      for one in [client, reader, outside] { await one.close() }
    }
  }

  @Test("a bucket that was sealed is not taken for a plain one, whatever the cluster says of it")
  func lies() throws {
    try simulate(19) { world in
      let cluster = try await SmallCluster(world, scheme: "2+1", nodes: 3)
      let client = unlocked(cluster, "client", "open it")
      try await client.access.keys.makeDomain(
        "mine", passphrase: Array("open it".utf8), cost: Self.cost)
      _ = try await client.coordinator.execute(.createBucket(name: "sealed", keyDomain: "mine"))
      let names = SealedNames(client.access)
      func says(_ bucket: String, _ domain: KeyDomainID, _ inline: [UInt8] = []) throws {
        let asked = ResolveRange(
          level: .strong, name: ObjectName(bucket: bucket, key: "k"), identity: 0, first: 0,
          byteCount: 1)
        let answer = ResolveRange.Answer(
          identity: 1, objectByteCount: 1, contentHash: Fingerprint(of: [1]),
          attributes: ObjectAttributes(), modified: 0, mapEpoch: 0, inline: inline,
          containers: [], stripes: [], pieces: [], isLast: true, keyDomain: domain)
        #expect(try names.opened(answer, to: asked) == answer)
      }
      let asked = GetBucket(level: .strong, name: "sealed")
      let truth = try await client.coordinator.query(asked)
      func isBucket(_ domain: KeyDomainID) throws {
        var answer = truth
        answer.domain = ChunkDomain(truth.domain.storageClass, in: domain)
        #expect(try names.opened(answer, to: asked) == answer)
      }
      #expect(try await names.areSealed(in: "sealed"))
      #expect(try await !names.areSealed(in: "bucket"))
      let id = try await client.coordinator.query(ListKeyDomains(level: .strong)).domains[0].id
      try says("sealed", id)
      try isBucket(id)
      #expect(throws: DataPathError.self) { try says("sealed", .plain) }
      #expect(throws: DataPathError.self) { try says("sealed", KeyDomainID(id.raw + 1)) }
      #expect(throws: DataPathError.self) { try says("sealed", id, [1]) }
      #expect(throws: DataPathError.self) { try isBucket(.plain) }
      try says("bucket", .plain, [1])
      await client.close()
    }
  }
}
