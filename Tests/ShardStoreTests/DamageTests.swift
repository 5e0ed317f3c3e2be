import Cluster
import Coding
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// A device with one record of each kind, as it lies on the disk.
private struct Specimen: Sendable {
  enum Ending: CaseIterable {
    /// Closed: the index covers all.
    case closed
    /// Killed: all is replayed.
    case killed
  }

  struct Placed: Sendable {
    var sample: Sample
    /// Where its record stands.
    var bytes: Range<Int>
  }

  var image: DiskImage
  /// The volume's path and size.
  var volume: String
  var byteCount: Int
  var present: Placed
  var deleted: Placed
  /// The first record that names the epoch; all behind it do so too.
  var epochBytes: Range<Int>

  static let epoch: UInt64 = 6
  static let settings = StoreScene.settings { $0.volumeByteCount = 36 << 10 }

  init(_ ending: Ending) throws {
    self = try withDevice { world, process in
      let deleted = Sample(key(2, 0), units: 1, fill: 1)
      let link = Sample(
        key(3, 7, .link), units: 1, epoch: Self.epoch, acknowledged: 7, fill: 3)
      let store = try await StoreScene.open(process, Self.settings)
      // Each after the one before is durable: all but the last are proven by their successors.
      try await deleted.write(to: store)
      try await link.write(to: store)
      try await store.delete([deleted.block.key.shard], epoch: Self.epoch)
      _ = try await store.fence(shard(1), epoch: Self.epoch)
      switch ending {
      case .closed: await store.close()
      case .killed: try await store.appendMark()
      }
      process.kill()
      let disk = world.disk("node")
      let volume = try #require(try disk.files(under: "/device/volumes").first)
      let bytes = try disk.contents(volume)
      var places: [Sample: Range<Int>] = [:]
      var kinds: [RecordHeader.Kind] = []
      var epochBytes: Range<Int>?
      var offset = 4096
      while offset < bytes.count,
        case .header(let header) = bytes[offset...].withUnsafeBytes({ RecordHeader.parse($0) })
      {
        let record = offset..<offset + Int(header.recordByteCount)
        kinds.append(header.kind)
        for sample in [deleted, link] where sample.block == header.block {
          places[sample] = record
        }
        if header.epoch == Self.epoch && epochBytes == nil { epochBytes = record }
        offset = record.upperBound
      }
      #expect(Set(kinds) == [.block, .delete, .fence, .mark])
      return Specimen(
        image: disk.image(), volume: volume, byteCount: bytes.count,
        present: Placed(sample: link, bytes: try #require(places[link])),
        deleted: Placed(sample: deleted, bytes: try #require(places[deleted])),
        epochBytes: try #require(epochBytes))
    }
  }

  /// The bytes of the volume that an examination reads where nothing is damaged.
  func bytesRead() throws -> Set<Int> {
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("node")
      disk.load(image)
      disk.isReadOnly = true
      let read = Reads()
      disk.faults = { access in
        if access.kind == .read && access.path == volume {
          let start = Int(access.offset)
          read.bytes.formUnion(start..<min(start + access.byteCount, byteCount))
        }
        return .none
      }
      try await examine(
        world.process("node"), isFirst: true, isIntact: { _ in true }, "undamaged")
      return read.bytes
    }
  }

  private final class Reads: @unchecked Sendable {
    // Loop-confined.
    var bytes: Set<Int> = []
  }

  private init(
    image: DiskImage, volume: String, byteCount: Int, present: Placed, deleted: Placed,
    epochBytes: Range<Int>
  ) {
    self.image = image
    self.volume = volume
    self.byteCount = byteCount
    self.present = present
    self.deleted = deleted
    self.epochBytes = epochBytes
  }

  /// Opens the device, of whose volume only `intact` bytes are as they were written, and checks that everything that
  /// stands in those is served, that nothing wrong is, and that what is not served was told.
  ///
  /// - Parameter isFirst: nobody opened it since it was damaged, so this is where it is told.
  func examine(
    _ process: SimulatedProcess, isFirst: Bool, isIntact: (Range<Int>) -> Bool,
    _ what: @autoclosure () -> String
  ) async throws {
    let store = try await StoreScene.open(process, Self.settings)
    let isTold = !isFirst || !store.recovery.isClean
    let sample = present.sample
    var isListed = false
    let listed = try await store.list(sample.block.key.shard)
    if let first = listed.first {
      isListed =
        listed.count == 1 && first.stripe == sample.block.key.stripe
        && first.layout == sample.block.layout && first.acknowledged == sample.block.acknowledged
      if !isListed { Issue.record("\(what()): listed as \(listed)") }
    }
    do throws(StoreError) {
      let isRight = try await sample.isIn(store)
      if !isRight { Issue.record("\(what()): wrong bytes of \(sample.block.key)") }
      if !isListed { Issue.record("\(what()): \(sample.block.key) is served and not listed") }
    } catch {
      let isExcused: Bool
      switch error {
      case .noSuchBlock: isExcused = isTold && !isListed
      case .corrupt: isExcused = isListed
      default: isExcused = false
      }
      if !isExcused || isIntact(present.bytes) {
        Issue.record("\(what()): \(sample.block.key): \(error), \(store.recovery)")
      }
    }
    do throws(StoreError) {
      // Only its delete can be lost, its bytes are gone.
      _ = try await deleted.sample.isIn(store)
      Issue.record("\(what()): what was deleted is served")
    } catch {
      if !(error == .noSuchBlock || isTold) {
        Issue.record("\(what()): \(error), and nobody was told of the lost delete")
      }
    }
    if isIntact(epochBytes), store.highestEpoch != Self.epoch {
      Issue.record("\(what()): the epoch is \(store.highestEpoch)")
    }
    await store.close()
  }
}

/// Damages the specimen once for each of `cases` and examines it: the disk being read-only, so that an opening costs
/// little; and one case in `step` as it is in life, where recovery makes a new index of what it found, which is
/// examined again.
private func examine(
  _ specimen: Specimen, cases: [Int], step: Int,
  _ damage: @escaping @Sendable (SimulatedDisk, Int) throws -> Void,
  isIntact: @escaping @Sendable (Range<Int>, Int) -> Bool
) throws {
  try SimulatedWorld.run(seed: 1) { world in
    let disk = world.disk("node")
    let process = world.process("node")
    for number in cases {
      let isInLife = number % step == 0
      disk.load(specimen.image)
      try damage(disk, number)
      for round in isInLife ? 0..<3 : 2..<3 {
        disk.isReadOnly = round == 2
        try await specimen.examine(
          process, isFirst: round == 0 || !isInLife, isIntact: { isIntact($0, number) },
          "case \(number), round \(round)")
      }
    }
  }
}

struct DamageTests {
  @Test(
    "a volume cut off at any byte opens, tells, serves what is left and never gives wrong bytes",
    arguments: Specimen.Ending.allCases)
  fileprivate func truncation(ending: Specimen.Ending) throws {
    let specimen = try Specimen(ending)
    try examine(specimen, cases: Array(0...specimen.byteCount), step: 41) { disk, byteCount in
      try disk.truncate(specimen.volume, to: byteCount)
    } isIntact: {
      $0.upperBound <= $1
    }
  }

  @Test(
    "a volume with any bit turned over opens, tells, serves all else and never gives wrong bytes",
    arguments: Specimen.Ending.allCases)
  fileprivate func bitFlips(ending: Specimen.Ending) throws {
    let specimen = try Specimen(ending)
    // With a bit turned over that nobody reads, the same happens as with none: of those some stand for all.
    let read = try specimen.bytesRead()
    #expect(read.isSuperset(of: specimen.present.bytes) && read.isSuperset(of: 0..<4096))
    #expect(read.count == specimen.byteCount || ending == .closed)
    let bits = (0..<specimen.byteCount * 8).filter { $0 % 83 == 0 || read.contains($0 / 8) }
    try examine(specimen, cases: bits, step: 83) { disk, bit in
      try disk.flipBit(specimen.volume, bit: bit)
    } isIntact: {
      !$0.contains($1 / 8)
    }
  }

  @Test(
    "index files with any byte changed or cut off are made anew from the volumes, and nothing is lost"
  )
  func indexDamage() throws {
    let specimen = try Specimen(.closed)
    try SimulatedWorld.run(seed: 1) { world in
      let disk = world.disk("node")
      let process = world.process("node")
      disk.load(specimen.image)
      let files = try disk.files(under: "/device/index")
      #expect(files.count == 2)
      for file in files {
        for byte in 0..<(try disk.byteCount(file)) where byte % 4096 < 64 || byte % 17 == 0 {
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
            #expect(store.highestEpoch == Specimen.epoch)
            #expect(try await specimen.present.sample.isIn(store))
            await expect(.noSuchBlock) { () throws(StoreError) in
              _ = try await store.read(
                specimen.deleted.sample.block.key, offset: 0, byteCount: 0)
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
