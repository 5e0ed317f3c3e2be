import Cluster
import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// File systems without what the store would like to use.
@Suite("fall-backs")
struct FallbackTests {
  private static func lacking(_ disk: SimulatedDisk, allocate: Bool = false, punch: Bool = false) {
    disk.faults = { access in
      // A store allocates from 0 on, and punches after a header.
      guard access.kind == .allocate else { return .none }
      return access.offset == 0 && allocate || access.offset > 0 && punch
        ? .fail(EOPNOTSUPP) : .none
    }
  }

  private static let samples = (0..<40).map { Sample(key(1, $0), units: 3, fill: $0 * 7) }

  @Test(
    "a store works and keeps its blocks without direct I/O, fallocate and hole punching, and says so",
    arguments: [true, false], Seed.several)
  func preferred(hasDirect: Bool, seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      let disk = world.disk("node")
      disk.hasDirectIO = hasDirect
      Self.lacking(disk, allocate: !hasDirect, punch: true)
      var store = try await StoreScene.open(process)
      for sample in Self.samples { try await sample.write(to: store) }
      try await store.delete(stripes: [3, 4], of: shard(1), epoch: 0)
      #expect(store.fallbacks.count == (hasDirect ? 1 : 3), "\(store.fallbacks)")
      #expect(store.state == .healthy)
      await store.close()
      store = try await StoreScene.open(process)
      #expect(store.recovery.isClean)
      for sample in Self.samples where ![3, 4].contains(sample.block.key.stripe) {
        #expect(try await sample.isIn(store))
      }
      await store.close()
    }
  }

  @Test("what the settings require and the file system lacks is refused before anything is written")
  func required() throws {
    try withDevice { world, process in
      let disk = world.disk("node")
      disk.hasDirectIO = false
      await expect(
        .unfit(
          "the file system has no direct I/O, which the profile requires: \(StoreScene.path)")
      ) { () throws(StoreError) in
        _ = try await StoreScene.open(process, StoreScene.settings { $0.directIO = .required })
      }
      Self.lacking(disk, allocate: true)
      await expect(
        .unfit(
          "the file system has no fallocate, which the profile requires: \(StoreScene.path)")
      ) { () throws(StoreError) in
        _ = try await StoreScene.open(
          process, StoreScene.settings { $0.preallocation = .required })
      }
      let names = try await process.list(StoreScene.path).map {
        String(decoding: $0.name, as: UTF8.self)
      }
      #expect(!names.contains("probe"))
      disk.hasDirectIO = true
      disk.faults = nil
      let store = try await StoreScene.open(
        process,
        StoreScene.settings {
          $0.directIO = .required
          $0.preallocation = .required
        })
      for sample in Self.samples { try await sample.write(to: store) }
      #expect(store.fallbacks == [])
      await store.close()
    }
  }

  @Test(
    "a sparse store on a file system that fills up refuses, and is not retired",
    arguments: Seed.several)
  func sparse(seed: Seed) throws {
    try withDevice(seed: seed.value) { world, process in
      let disk = world.disk("node")
      disk.capacityByteCount = 4 << 20
      let store = try await StoreScene.open(
        process,
        StoreScene.settings {
          $0.preallocation = .off
          $0.punchesDeadRanges = false
        })
      var count: UInt64 = 0
      var refused: StoreError?
      while refused == nil, count < 2000 {
        do throws(StoreError) {
          try await Sample(key(2, count), units: 4, fill: count).write(to: store)
          count += 1
        } catch {
          refused = error
        }
      }
      #expect(refused == .deviceFull)
      #expect(store.state == .healthy)
      #expect(count > 100)
      try await store.delete([shard(2)], epoch: 0)
      #expect(store.fallbacks == [])
      await store.close()
    }
  }

  @Test(
    "records are gathered no further than the settings say", arguments: [4096, 64 << 10, 1 << 20])
  func gathering(limit: Int) throws {
    try withDevice { world, process in
      let disk = world.disk("node")
      let seen = Counter()
      disk.shortTransfersPerThousand = 0
      disk.faults = { access in
        if access.kind == .write, access.path.contains("/volumes/"), access.offset > 0 {
          seen.largest = max(seen.largest, access.byteCount)
        }
        return .none
      }
      let store = try await StoreScene.open(
        process,
        StoreScene.settings {
          $0.largestAppendByteCount = UInt64(limit)
          $0.concurrentWrites = 1
          $0.volumeByteCount = 8 << 20
        })
      await withTaskGroup { group in
        for stripe in 0..<200 as Range<UInt64> {
          group.addTask {
            try? await Sample(key(1, stripe), units: 3, fill: stripe).write(to: store)
          }
        }
      }
      #expect(seen.largest <= max(limit, 16 << 10))
      #expect(seen.largest > limit / 2)
      await store.close()
    }
  }
}

private final class Counter: @unchecked Sendable {
  // Loop-confined.
  var largest = 0
}
