import Cluster
import Coding
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// A device with a handful of small records, as it lies on the disk.
private struct Specimen: Sendable {
  var image: DiskImage
  /// The volume's path and size.
  var volume: String
  var byteCount: Int
  var present: [Sample]
  var deleted: Sample
  var epoch: UInt64

  static let settings = StoreScene.settings { $0.volumeByteCount = 48 << 10 }

  /// - Parameter flushed: closed, so that the index covers all; else killed, so that all is replayed.
  init(flushed: Bool) throws {
    self = try withDevice { world, process in
      let store = try await StoreScene.open(process, Self.settings)
      let deleted = Sample(key(2, 0), units: 1, fill: 1)
      let present = [
        Sample(key(1, 0), units: 1, fill: 2),
        Sample(key(3, 7, .link), units: 1, epoch: 6, acknowledged: 7, fill: 3),
        Sample(key(1, 1), units: 1, fill: 4),
      ]
      try await present[0].write(to: store)
      try await deleted.write(to: store)
      try await present[1].write(to: store)
      try await store.delete([deleted.block.key.shard], epoch: 6)
      try await present[2].write(to: store)
      if flushed { await store.close() }
      process.kill()
      let volume = try #require(try world.disk("node").files(under: "/device/volumes").first)
      return Specimen(
        image: world.disk("node").image(), volume: volume,
        byteCount: try world.disk("node").byteCount(volume), present: present,
        deleted: deleted, epoch: 6)
    }
  }

  private init(
    image: DiskImage, volume: String, byteCount: Int, present: [Sample], deleted: Sample,
    epoch: UInt64
  ) {
    self.image = image
    self.volume = volume
    self.byteCount = byteCount
    self.present = present
    self.deleted = deleted
    self.epoch = epoch
  }

  /// Opens the device and checks that nothing wrong comes out of it, and that what does not come out was told.
  func examine(_ process: SimulatedProcess, _ what: @autoclosure () -> String) async throws {
    let store = try await StoreScene.open(process, Self.settings)
    var isReported = !store.recovery.isClean
    let known = present + [deleted]
    var absent = 0
    for sample in known {
      do throws(StoreError) {
        let isRight = try await sample.isIn(store)
        #expect(isRight, "\(what()): wrong bytes of \(sample.block.key)")
      } catch {
        switch error {
        case .noSuchBlock: if sample != deleted { absent += 1 }
        case .corrupt: isReported = true
        default: Issue.record("\(what()): \(error)")
        }
      }
    }
    #expect(absent == 0 || isReported, "\(what()): a block is gone and nobody was told")
    for number in 1...3 as ClosedRange<UInt64> {
      let kind: ContainerKind = number == 3 ? .link : .data
      for listed in try await store.list(shard(number, kind)) {
        let sample = known.first { $0.block.key == key(number, listed.stripe, kind) }
        #expect(sample?.block.layout == listed.layout, "\(what())")
        #expect(sample?.block.acknowledged == listed.acknowledged, "\(what())")
      }
    }
    await store.close()
  }
}

/// Every byte and bit, which takes many minutes; otherwise one bit of every byte that means something, and some of
/// the many that are only zeros or payload.
private let isExhaustive = environment("CAIRN_EXHAUSTIVE") != nil

struct DamageTests {
  @Test(
    "a volume cut off at any byte opens, tells, and never gives wrong bytes",
    arguments: [true, false])
  func truncation(flushed: Bool) throws {
    let specimen = try Specimen(flushed: flushed)
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("node")
      let process = world.process("node")
      for byteCount in 0...specimen.byteCount
      where isExhaustive || byteCount % 4096 < 2 || byteCount % 61 == 0 {
        disk.load(specimen.image)
        try disk.truncate(specimen.volume, to: byteCount)
        try await specimen.examine(process, "cut at \(byteCount)")
      }
    }
  }

  @Test(
    "a volume with any bit turned over opens, tells, and never gives wrong bytes",
    arguments: [true, false])
  func bitFlips(flushed: Bool) throws {
    let specimen = try Specimen(flushed: flushed)
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("node")
      let process = world.process("node")
      for byte in 0..<specimen.byteCount {
        let inUnit = byte % 4096
        guard isExhaustive || inUnit < 136 || inUnit >= 4092 || byte % 97 == 0 else { continue }
        for bit in isExhaustive ? 0..<8 : byte * 5 % 8..<byte * 5 % 8 + 1 {
          disk.load(specimen.image)
          try disk.flipBit(specimen.volume, bit: byte * 8 + bit)
          try await specimen.examine(process, "bit \(bit) of byte \(byte)")
        }
      }
    }
  }

  @Test(
    "index files with any byte changed or cut off are made anew from the volumes, and nothing is lost"
  )
  func indexDamage() throws {
    let specimen = try Specimen(flushed: true)
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("node")
      let process = world.process("node")
      disk.load(specimen.image)
      let files = try disk.files(under: "/device/index")
      #expect(files.count == 2)
      for file in files {
        let byteCount = try disk.byteCount(file)
        for byte in 0..<byteCount where isExhaustive || byte % 4096 < 64 || byte % 89 == 0 {
          for cut in [true, false] {
            disk.load(specimen.image)
            if cut {
              try disk.truncate(file, to: byte)
            } else {
              try disk.flipBit(file, bit: byte * 8 + byte * 3 % 8)
            }
            let store = try await StoreScene.open(process, Specimen.settings)
            #expect(store.recovery.rebuildReason != nil, "\(file) \(byte) \(cut)")
            #expect(store.recovery.lostRecordCount == 0)
            #expect(store.highestEpoch == specimen.epoch)
            for sample in specimen.present { #expect(try await sample.isIn(store)) }
            await expect(.noSuchBlock) { () throws(StoreError) in
              _ = try await store.read(specimen.deleted.block.key, offset: 0, byteCount: 0)
            }
            await store.close()
          }
        }
      }
    }
  }

  @Test("no header with a bit turned over is taken for one")
  func headers() {
    var header = RecordHeader(
      kind: .block, payloadByteCount: 8192, volumeID: 77, offset: 4096, sequence: 9, durable: 8,
      firstSequence: 1, cut: 0, shard: shard(5), stripe: 3,
      layout: Sample(key(1, 1), units: 2, fill: 1).block.layout, acknowledged: 1, epoch: 2,
      checksums: [1, 2])
    header.shard.shardIndex = 2
    var bytes = [UInt8](repeating: 0xFF, count: 4096)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    guard case .header(let same) = bytes.withUnsafeBytes({ RecordHeader.parse($0) }) else {
      Issue.record("not read back")
      return
    }
    #expect(same == header)
    let volume = VolumeHeader(number: 3, id: 9, device: DeviceID(4), byteCount: 1 << 20)
    var other = [UInt8](repeating: 0xFF, count: 4096)
    other.withUnsafeMutableBytes { volume.encode(into: $0) }
    guard case .header(volume) = other.withUnsafeBytes({ VolumeHeader.parse($0) }) else {
      Issue.record("not read back")
      return
    }
    for bit in 0..<4096 * 8 {
      bytes[bit / 8] ^= 1 << (bit % 8)
      other[bit / 8] ^= 1 << (bit % 8)
      if case .none = bytes.withUnsafeBytes({ RecordHeader.parse($0) }) {
      } else {
        Issue.record("bit \(bit)")
      }
      if case .damaged = other.withUnsafeBytes({ VolumeHeader.parse($0) }) {
      } else {
        Issue.record("bit \(bit)")
      }
      bytes[bit / 8] ^= 1 << (bit % 8)
      other[bit / 8] ^= 1 << (bit % 8)
    }
  }
}
