import Cluster
import Coding
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import ShardStore

/// Checksums keep accidents out; these are bytes that somebody made up.
struct DecoderTests {
  /// `bytes` with some of them changed, mostly to the values that arithmetic stumbles over.
  private func forged(_ bytes: [UInt8], sealedAt end: Int, _ random: inout SeededGenerator)
    -> [UInt8]
  {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let at = Int.random(in: 0..<end, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[at] = UInt8.random(in: 0...255, using: &random)
      case 1: for index in at..<min(at + 8, end) { bytes[index] = 0xFF }
      case 2: for index in at..<min(at + 8, end) { bytes[index] = 0 }
      default: bytes[at] ^= 1 << Int.random(in: 0..<8, using: &random)
      }
    }
    let sum = CRC32C.checksum(Array(bytes[0..<end]))
    for index in 0..<4 { bytes[end + index] = UInt8(truncatingIfNeeded: sum >> (8 * index)) }
    return bytes
  }

  @Test("no bytes trap a decoder, right checksum or not", arguments: Seed.several)
  func decoders(seed: Seed) {
    var random = seed.generator
    let sample = Sample(key(1, 1), units: 2, fill: 1)
    let header = RecordHeader(
      kind: .block, payloadByteCount: 8192, volumeID: 7, offset: 4096, sequence: 9, durable: 8,
      firstSequence: 1, shard: shard(1), stripe: 1, layout: sample.block.layout,
      checksums: sample.checksums)
    var record = [UInt8](repeating: 0, count: 4096)
    record.withUnsafeMutableBytes { header.encode(into: $0) }
    var volume = [UInt8](repeating: 0, count: 4096)
    volume.withUnsafeMutableBytes {
      VolumeHeader(number: 1, id: 2, device: DeviceID(3), byteCount: 4).encode(into: $0)
    }
    var footer = [UInt8](repeating: 0, count: 4096)
    footer.withUnsafeMutableBytes {
      RunFooter(
        number: 1, device: DeviceID(2), pageCount: 1, entryCount: 1, filterWordCount: 1,
        filterChecksum: 0, keysChecksum: 0
      ).encode(into: $0)
    }
    let identity = DeviceIdentity(device: DeviceID(1), node: NodeID(2), cluster: 3).encoded
    let list = DeleteList([DeleteEntry(shard: shard(1), before: 0, stripes: [1, 2, 3])]).encoded
    for _ in 0..<3000 {
      if case .header(let found) = forged(record, sealedAt: 4092, &random).withUnsafeBytes({
        RecordHeader.parse($0)
      }) {
        _ = (
          found.recordByteCount, found.block?.recordByteCount,
          found.matches(.init(start: nil, count: 0))
        )
      }
      _ = forged(volume, sealedAt: 4092, &random).withUnsafeBytes { VolumeHeader.parse($0) }
      _ = forged(footer, sealedAt: 4092, &random).withUnsafeBytes {
        RunFooter($0, fileByteCount: 5 * 4096)
      }
      _ = try? DeviceIdentity.parse(forged(identity, sealedAt: 60, &random), path: "")
      var wild = list
      wild[Int.random(in: 0..<wild.count, using: &random)] = UInt8.random(
        in: 0...255, using: &random)
      _ = try? DeleteList(decoding: wild)
      let noise = random.bytes(Int.random(in: 0...200, using: &random))
      _ = noise.withUnsafeBytes { RecordHeader.parse($0) }
      _ = noise.withUnsafeBytes { VolumeHeader.parse($0) }
      _ = try? DeleteList(decoding: noise)
      _ = try? Manifest(decoding: noise)
      _ = try? DeviceIdentity.parse(noise, path: "")
      let entry = random.bytes(64)
      if let found = entry.withUnsafeBytes({ IndexEntry($0.baseAddress!) }), !found.place.isDeleted
      {
        _ = (found.place.layout, found.place.recordByteCount)
      }
    }
  }

  @Test(
    "a forged manifest or record never traps an opening", arguments: Seed.several, [true, false])
  func openings(seed: Seed, isClosed: Bool) throws {
    try withDevice(seed: seed.value) { world, process in
      var random = seed.generator
      let disk = world.disk("node")
      let settings = StoreScene.settings { $0.volumeByteCount = 64 << 10 }
      let store = try await StoreScene.open(process, settings)
      for stripe in 0..<8 as Range<UInt64> {
        try await Sample(key(1 + stripe % 2, stripe), units: 1, fill: stripe).write(to: store)
      }
      try await store.delete([shard(2)], epoch: 1)
      if isClosed { await store.close() }
      process.kill()
      let image = disk.image()
      for _ in 0..<200 {
        disk.load(image)
        let next = world.process("node")
        // The manifest as a whole, or one unit of a volume, mostly a header.
        let files = try isClosed ? ["/device/index/manifest"] : disk.files(under: "/device/volumes")
        let file = try #require(files.randomElement(using: &random))
        let bytes = try disk.contents(file)
        let start = isClosed ? 0 : 4096 * Int.random(in: 0..<bytes.count / 4096, using: &random)
        let count = isClosed ? bytes.count : 4096
        try disk.overwrite(
          file, at: start,
          with: forged(Array(bytes[start..<start + count]), sealedAt: count - 4, &random))
        do throws(StoreError) {
          let store = try await StoreScene.open(next, settings)
          _ = await store.usage()
          _ = try? await store.inventory(after: nil, limit: 10)
          try? await Sample(key(7, 7), units: 1, fill: 1).write(to: store)
          try? await store.delete([shard(1)], epoch: store.highestEpoch)
          await store.close()
        } catch {
          guard case .newerFormat = error else {
            Issue.record("\(error)")
            return
          }
        }
        next.kill()
      }
    }
  }
}
