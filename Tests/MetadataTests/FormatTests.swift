import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Bytes from outside")
struct FormatTests {
  @Test("garbage is refused and never traps", arguments: Seed.several)
  func garbage(seed: Seed) throws {
    var random = seed.generator
    var workload = Workload(seed: seed)
    for command in Workload.opening { _ = workload.model.apply(command) }
    let machine = try StateMachine(store: MemoryStore())
    _ = try machine.apply(batch(Workload.opening, after: 0))
    for _ in 0..<400 {
      let command = workload.next()
      _ = workload.model.apply(command)
      _ = try machine.apply(batch([command], after: machine.appliedPosition))
      var bytes = command.encoded
      for _ in 0..<3 {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes.removeLast(Int.random(in: 0...min(5, bytes.count), using: &random))
        case 1: bytes += random.bytes(3)
        default:
          if !bytes.isEmpty {
            bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
              in: 0...255, using: &random)
          }
        }
      }
      // What can still be read is applied, and must not trap either.
      if let changed = try? Command(decoding: bytes), case .client = changed {
        let fork = MemoryStore()
        var copy = WriteBatch()
        for entry in try machine.view.store.scan(KeyRange()) { copy.put(entry.key, entry.value) }
        try fork.apply(copy)
        let other = try StateMachine(store: fork)
        _ = try other.apply(batch([changed], after: other.appliedPosition))
        #expect(try violations(in: fork) == [])
      }
      _ = try? Command(decoding: random.bytes(Int.random(in: 0..<40, using: &random)))
      _ = try? LogBatch(framed: random.bytes(60))
      _ = try? RootRecord(decoding: random.bytes(60))
    }
  }

  @Test(
    "damaged records of the store are reported, whatever a command meets", arguments: Seed.several)
  func damagedRecords(seed: Seed) throws {
    var workload = Workload(seed: seed)
    for command in Workload.opening { _ = workload.model.apply(command) }
    let store = MemoryStore()
    let machine = try StateMachine(store: store)
    _ = try machine.apply(batch(Workload.opening, after: 0))
    for _ in 0..<250 {
      let command = workload.next()
      _ = workload.model.apply(command)
      _ = try machine.apply(batch([command], after: machine.appliedPosition))
    }
    let entries = try store.scan(KeyRange())
    for _ in 0..<60 {
      var harmed = entries
      for _ in 0..<10 {
        let index = workload.number(0..<harmed.count)
        if workload.chance(30) {
          harmed.remove(at: index)
        } else if !harmed[index].value.isEmpty {
          harmed[index].value[workload.number(0..<harmed[index].value.count)] ^= UInt8(
            workload.number(1..<256))
        }
      }
      let fork = MemoryStore()
      var copy = WriteBatch()
      for entry in harmed { copy.put(entry.key, entry.value) }
      try fork.apply(copy)
      guard let other = try? StateMachine(store: fork) else { continue }
      for _ in 0..<5 {
        let command = workload.next()
        guard other.appliedPosition < 1 << 55 else { break }
        // Outcomes may be wrong, as no one can tell; the process must live.
        _ = try? other.apply(batch([command], after: other.appliedPosition))
      }
      _ = try? other.apply(
        batch([.returnEdges(limit: 65536)], after: other.appliedPosition))
      _ = try? other.findChunks((0..<40).map(Workload.fingerprint))
      for bucket in (try? other.listBuckets().buckets) ?? [] {
        _ = try? other.list(
          ListObjects(
            level: .strong, bucket: bucket.name, prefix: "", after: "", delimiter: "/", limit: 9))
      }
    }
  }

  @Test("a stripe's record that is not the one of its key is reported")
  func strayStripe() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2, 3])]) == .done)
    var harm = WriteBatch()
    harm.put(
      Key.of(.directory, grant.container.raw, 0), desk.stripe(0, ordinal: 2, [1, 2, 3]).encoded)
    try desk.store.apply(harm)
    // As after a start: nothing is cached.
    let machine = try StateMachine(store: desk.store)
    #expect(throws: StoreError.self) {
      try machine.apply(
        batch(
          [
            .client(
              session: desk.session, sequence: 900, lowestUnanswered: 900,
              command: .putPage(upload: upload, page: .runs([desk.run(grant, 1, [2])])))
          ], after: machine.appliedPosition))
    }
  }

  @Test("a root record survives coding, and every flipped bit of it is noticed")
  func root() throws {
    let record = RootRecord(
      version: 4, clusterID: 0xABCD, epoch: 9, scheme: Workload.scheme,
      domains: [
        .init(
          node: NodeID(1), name: "n1", address: SocketAddress(host: "127.0.0.1", port: 7),
          devices: [DeviceID(10), DeviceID(11)])
      ],
      links: [
        .init(
          number: 1, generation: 2, scheme: Scheme(k: 1, m: 1)!,
          devices: [DeviceID(10), DeviceID(20)], firstPosition: 1, sealedStripes: 40),
        .init(
          number: 2, generation: 9, scheme: Scheme(k: 1, m: 1)!,
          devices: [DeviceID(10), DeviceID(30)], firstPosition: 400, sealedStripes: nil),
      ],
      checkpoint: .init(
        position: 30,
        containers: [
          .init(
            container: ContainerID(.checkpoint, 3), generation: 8, scheme: Workload.scheme,
            devices: Desk.devices, stripeCount: 2)
        ]))
    let bytes = record.encoded
    #expect(try RootRecord(decoding: bytes) == record)
    #expect(record.links[0].container == ContainerID(.link, 1))
    for bit in 0..<bytes.count * 8 {
      var harmed = bytes
      harmed[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(throws: ValueError.self) { try RootRecord(decoding: harmed) }
    }
    for count in 0..<bytes.count {
      #expect(throws: ValueError.self) { try RootRecord(decoding: Array(bytes[..<count])) }
    }
  }

  @Test("a batch is read from its frame whatever padding follows")
  func frames() throws {
    let log = batch([.openSession(client: "x"), .advanceTime(milliseconds: 5)], after: 99)
    #expect(log.lastPosition == 101)
    let framed = log.framed
    #expect(try LogBatch(framed: framed + [UInt8](repeating: 0, count: 4096)) == log)
    for count in 0..<framed.count {
      #expect(throws: ValueError.self) { try LogBatch(framed: Array(framed[..<count])) }
    }
    #expect(batch([], after: 4).lastPosition == 4)
  }
}
