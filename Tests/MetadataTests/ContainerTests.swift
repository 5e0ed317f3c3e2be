import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

@Suite("Containers")
struct ContainerTests {
  @Test("a released container is granted again with fresh stripes and ordinals")
  func regrant() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let first = try desk.grant(upload)
    #expect(first.firstStripe == 0 && first.firstOrdinal == 0 && first.byteLimit == 1 << 30)
    #expect(try desk.register(upload, first, [desk.stripe(5, ordinal: 7, [1, 2, 3])]) == .done)
    #expect(
      try desk.ask(.releaseGrant(grant: first.id, container: first.container)) == .done)
    #expect(try desk.machine.availableContainers(limit: 9).map(\.id) == [first.container])
    #expect(try desk.machine.availableContainers(limit: 9) { _ in false }.isEmpty)
    let second = try desk.grant(upload)
    #expect(second.container == first.container && second.generation == first.generation)
    #expect(second.firstStripe == 4096 && second.firstOrdinal == 10)
    let size = UInt64(desk.stripe(5, ordinal: 7, [1, 2, 3]).layout.byteCount)
    #expect(second.byteLimit == 1 << 30 - size)
    // The old grant is dead, whatever it says.
    #expect(
      desk.code(try desk.register(upload, first, [desk.stripe(6, ordinal: 20, [1])]))
        == .grantEnded)
    #expect(
      desk.code(try desk.register(upload, second, [desk.stripe(6, ordinal: 20, [1])]))
        == .malformed)
    #expect(
      desk.code(try desk.register(upload, second, [desk.stripe(4096, ordinal: 8, [1])]))
        == .malformed)
    // Other devices, or the same in another order: another container.
    let third = try desk.grant(upload, devices: [20, 10, 30].map { DeviceID($0) })
    #expect(third.container != first.container)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("stripes may be registered in any order of ordinals, but never one twice")
  func order() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(1, ordinal: 10, [1, 2, 3])]) == .done)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 5, [4, 5])]) == .done)
    for (ordinal, contents) in [(8, [1, 2, 3]), (12, [6]), (3, [1, 2, 3]), (5, [1])] {
      #expect(
        desk.code(
          try desk.register(
            upload, grant, [desk.stripe(9, ordinal: UInt64(ordinal), contents)])) == .malformed)
    }
    #expect(
      desk.code(try desk.register(upload, grant, [desk.stripe(0, ordinal: 30, [1])])) == .malformed)
    let two = [desk.stripe(3, ordinal: 40, [1, 2]), desk.stripe(4, ordinal: 41, [3])]
    #expect(desk.code(try desk.register(upload, grant, two)) == .malformed)
    #expect(try desk.register(upload, grant, [desk.stripe(2, ordinal: 7, [7, 8, 9])]) == .done)
    #expect(
      try desk.machine.stripes(of: grant.container, from: 0, limit: 9).map(\.stripe) == [0, 2, 1])
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a container with a gigabyte in it is sealed when it is released")
  func full() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    let layout = StripeLayout(
      scheme: Workload.scheme, blockByteCount: StripeLayout.largestBlockByteCount,
      byteCount: 2 * StripeLayout.largestBlockByteCount)
    let chunk = UInt32(StorageClass.largestGroup)
    for number in UInt64(0)..<514 {
      let stripe = StripeRecord(
        stripe: number, layout: layout, firstOrdinal: 2 * number,
        groups: (0..<2).map { half in
          .init(
            offset: half * (chunk + 48), storedByteCount: chunk + 48, codec: .raw,
            chunks: [
              .init(
                fingerprint: Workload.fingerprint(2 * Int(number) + Int(half)), byteCount: chunk)
            ])
        })
      #expect(try desk.register(upload, grant, [stripe]) == .done)
    }
    // A stream has one edge, however many stripes it registers.
    #expect(try desk.machine.container(grant.container)?.edgeCount == 1)
    try desk.ask(.releaseGrant(grant: grant.id, container: grant.container))
    #expect(try desk.machine.container(grant.container)?.state == .sealed)
    #expect(try desk.grant(upload).container != grant.container)
    #expect(desk.machine.usage.uniqueBytes == 1028 * UInt64(chunk))
    #expect(desk.machine.usage.compressedBytes == 1028 * UInt64(chunk + 48))
    #expect(desk.machine.usage.blockBytes == 514 * 3 << 20)
  }

  @Test("containers with a lost shard are shared no more, but serve what they hold")
  func lost() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    let upload = try desk.openUpload()
    let grant = try desk.grant(upload)
    #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    let page = Page.runs([desk.run(grant, 0, [1, 2])])
    let first = desk.number(try desk.ask(.putPage(upload: upload, page: page)))
    #expect(desk.number(try desk.ask(.putPage(upload: upload, page: page))) == first)
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount > 0)

    #expect(try desk.log(.setDeviceState(DeviceID(20), .retired)) == .done)
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
    let run = desk.run(grant, 0, [1])
    #expect(
      try desk.ask(.holdChunks(upload: upload, runs: [run])) == .missing(runs: [run], pages: []))
    #expect(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload) != .done)
    let stat = try desk.machine.stat(ObjectName(bucket: "bucket", key: "a"))
    #expect(stat.containers.map(\.missing) == [1])
    // The same chunks written anew take over the hint, and an equal page the name.
    let other = try desk.grant(upload, devices: [40, 50, 60].map { DeviceID($0) })
    #expect(try desk.register(upload, other, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
    let found = try desk.machine.findChunks([Workload.fingerprint(1), Workload.fingerprint(7)])
    #expect(found.found.map(\.container.number) == [other.container.number, 0])
    #expect(found.neighbours.map(\.fingerprint) == [Workload.fingerprint(2)])
    let again = Page.runs([desk.run(other, 0, [1, 2])])
    let second = desk.number(try desk.ask(.putPage(upload: upload, page: again)))
    #expect(second != first)
    #expect(desk.number(try desk.ask(.putPage(upload: upload, page: again))) == second)
    // A device that is only not listed for a while counts as lost while it is.
    try desk.log(.setNode(Workload.node(5, devices: [])))
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
    try desk.log(.setNode(Workload.node(5, devices: [50])))
    #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount > 0)
    #expect(try desk.machine.containers(on: DeviceID(20), after: nil, limit: 9).count == 1)
    #expect(try desk.machine.containers(after: grant.container, limit: 9).count == 1)
    #expect(try violations(in: desk.store) == [])
  }

  @Test("a duplicate held before its object is deleted stays; one asked for after is missing")
  func race() throws {
    for holdsFirst in [true, false] {
      let desk = try Desk()
      try desk.ask(.createBucket(name: "bucket"))
      let upload = try desk.openUpload()
      let grant = try desk.grant(upload)
      #expect(try desk.register(upload, grant, [desk.stripe(0, ordinal: 0, [1, 2])]) == .done)
      let run = desk.run(grant, 0, [1, 2])
      _ = desk.number(try desk.commit("a", .embedded([run]), run.byteCount, upload: upload))
      try desk.ask(.releaseGrant(grant: grant.id, container: grant.container))
      try desk.ask(.endUpload(upload: upload))
      let other = try desk.openUpload()
      func hold() throws -> CommandOutcome {
        try desk.ask(.holdChunks(upload: other, runs: [run]))
      }
      if holdsFirst { #expect(try hold() == .missing(runs: [], pages: [])) }
      try desk.ask(
        .deleteObject(name: ObjectName(bucket: "bucket", key: "a"), precondition: .none))
      try desk.log(.returnEdges(limit: 100))
      if !holdsFirst { #expect(try hold() == .missing(runs: [run], pages: [])) }
      let commit = try desk.commit("b", .embedded([run]), run.byteCount, upload: other)
      if holdsFirst {
        _ = desk.number(commit)
      } else {
        #expect(commit == .missing(runs: [run], pages: []))
        #expect(try desk.machine.findChunks([Workload.fingerprint(1)]).found[0].byteCount == 0)
        #expect(desk.machine.usage.containerCount == 0)
      }
      #expect(try violations(in: desk.store) == [])
    }
  }

  @Test("one device twice, an unknown or failing one, or none at all is no placement")
  func placement() throws {
    let desk = try Desk()
    let upload = try desk.openUpload()
    try desk.log(.setDeviceState(DeviceID(30), .draining))
    func ask(_ devices: [UInt64]?) throws -> RefusalCode? {
      desk.code(
        try desk.ask(
          .requestGrant(
            upload: upload, avoid: [],
            placement: devices.map {
              ClientCommand.Placement(
                scheme: Workload.scheme, devices: $0.map { DeviceID($0) })
            })))
    }
    #expect(try ask(nil) == .tooFewDomains)
    #expect(try ask([10, 10, 20]) == .malformed)
    #expect(try ask([10, 20, 30]) == .unavailable)
    #expect(try ask([10, 20, 999]) == .unavailable)
    #expect(try ask([10, 20, 40]) == nil)
  }
}
