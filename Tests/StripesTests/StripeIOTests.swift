import Cluster
import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing
import Wire

@testable import Stripes

@Suite struct StripeIOTests {
  @Test(
    "what was written comes back in any range with any m nodes killed, and with one more it does not",
    arguments: Seed.several)
  func losses(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let cluster = try await FakeCluster(world, nodeCount: layout.scheme.width)
      let target = cluster.target(layout.scheme)
      #expect(await cluster.write(stripe, target) == [])
      let stored = layout.storedBlocks
      for (index, node) in cluster.nodes.enumerated() {
        #expect(node.blocks.count == (stored.contains(index) ? 1 : 0))
        #expect(node.blocks.values.first?.1 == stripe.blocks[index]?.array)
      }
      let victims = stored.shuffled(using: &random).prefix(layout.scheme.m + 1)
      for victim in victims {
        for _ in 0..<4 {
          let range = randomRange(layout.byteCount, &random)
          #expect(await cluster.read(target, layout, range) == .success(Array(stripe.data[range])))
        }
        cluster.nodes[victim].process.kill()
      }
      let whole = await cluster.read(target, layout, 0..<layout.byteCount)
      #expect(
        whole
          == .failure(
            .unreadable(
              missing: victims.sorted().map { target.places.devices[$0] },
              needed: layout.dataBlockCount, found: layout.dataBlockCount - 1)))
    }
  }

  @Test(
    "wrong bytes, wrong descriptions and damaged blocks are rebuilt and reported once each",
    arguments: Seed.several)
  func corruption(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let scheme = Scheme(k: 4, m: 3)!
      let stripe = TrueStripe(
        StripeLayout(scheme: scheme, blockByteCount: 8192, byteCount: 30_000), &random)
      let cluster = try await FakeCluster(world, nodeCount: 7)
      let target = cluster.target(scheme)
      #expect(await cluster.write(stripe, target) == [])
      let moods: [FakeNode.Mood] = [.corrupt, .damaged, .mistaken]
      for (node, mood) in zip([0, 1, 2].shuffled(using: &random), moods) {
        cluster.nodes[node].mood = mood
      }
      #expect(await cluster.read(target, stripe.layout, 0..<30_000) == .success(stripe.data))
      #expect(cluster.reported.map(\.0).sorted() == target.places.devices.prefix(3).sorted())
      #expect(cluster.io.rebuiltBlockCount == 3)
    }
  }

  @Test("so many devices without the block that it cannot be there: resolve again")
  func notFound() throws {
    try SimulatedWorld.run(seed: 9) { world in
      var random = SeededGenerator(seed: 9)
      let scheme = Scheme(k: 3, m: 2)!
      let stripe = TrueStripe(
        StripeLayout(scheme: scheme, blockByteCount: 4096, byteCount: 12_000), &random)
      let cluster = try await FakeCluster(world, nodeCount: 5)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      for node in cluster.nodes[1...2] { node.mood = .empty }
      #expect(await cluster.read(target, stripe.layout, 0..<12_000) == .success(stripe.data))
      cluster.nodes[3].mood = .empty
      #expect(await cluster.read(target, stripe.layout, 0..<12_000) == .failure(.notFound))
      // One that is only silent is no evidence.
      cluster.nodes[3].mood = .refuses(.deviceFailed)
      #expect(
        await cluster.read(target, stripe.layout, 0..<12_000)
          == .failure(
            .unreadable(
              missing: [1, 2, 3].map { target.places.devices[$0] }, needed: 3, found: 2)))
    }
  }

  @Test("a slow node is overtaken, at a bounded price", arguments: Seed.several)
  func slow(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let scheme = Scheme(k: 4, m: 2)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 16 << 10, byteCount: 64 << 10)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 6)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      for _ in 0..<40 { _ = await cluster.read(target, layout, 0..<layout.byteCount) }
      cluster.nodes[2].mood = .slow(.seconds(3))
      let started = world.now
      #expect(await cluster.read(target, layout, 0..<layout.byteCount) == .success(stripe.data))
      #expect(world.now - started < .milliseconds(200))
    }
  }

  @Test("when hedges have used up what they may, a slow node is waited for")
  func hedgesAreBounded() throws {
    try SimulatedWorld.run(seed: 3) { world in
      var random = SeededGenerator(seed: 3)
      let scheme = Scheme(k: 4, m: 2)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 256 << 10, byteCount: 1 << 20)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 6)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      cluster.nodes[0].mood = .slow(.milliseconds(300))
      let before = cluster.bytesServed
      for _ in 0..<12 { _ = await cluster.read(target, layout, 0..<256 << 10) }
      // 3 MiB were wanted; the rest is the allowance that a client begins with, and a twentieth.
      #expect(cluster.bytesServed - before <= (3 << 20) + (4 << 20) + (1 << 20))
    }
  }

  @Test("a node that is cut off is waited for once, not in every read", arguments: Seed.several)
  func suspects(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let scheme = Scheme(k: 4, m: 2)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 4096, byteCount: 16_384)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 6)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      cluster.nodes[1].mood = .refuses(.deviceFailed)
      for _ in 0..<20 {
        #expect(await cluster.read(target, layout, 0..<16_384) == .success(stripe.data))
      }
      #expect(cluster.nodes[1].readCount == 0)
      cluster.nodes[1].mood = .good
      await cluster.process.sleep(.seconds(20))
      #expect(await cluster.read(target, layout, 0..<16_384) == .success(stripe.data))
      #expect(cluster.nodes[1].readCount == 1)
      // Believed down by the directory: not asked while the others do.
      cluster.down = [cluster.nodes[1].device]
      #expect(await cluster.read(target, layout, 0..<16_384) == .success(stripe.data))
      #expect(cluster.nodes[1].readCount == 1)
      for node in [0, 2] { cluster.nodes[node].process.kill() }
      #expect(await cluster.read(target, layout, 0..<16_384) == .success(stripe.data))
      #expect(cluster.nodes[1].readCount == 2)
    }
  }

  @Test("a write names exactly the devices that did not acknowledge", arguments: Seed.several)
  func failures(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let cluster = try await FakeCluster(world, nodeCount: layout.scheme.width)
      let target = cluster.target(layout.scheme)
      var expected: Set<DeviceID> = []
      for index in layout.storedBlocks where random.next() % 3 == 0 {
        expected.insert(target.places.devices[index])
        switch random.next() % 3 {
        case 0: cluster.nodes[index].process.kill()
        case 1: cluster.nodes[index].mood = .slow(.seconds(60))
        default: cluster.nodes[index].mood = .refuses(.deviceFull)
        }
      }
      let found = await cluster.write(stripe, target)
      #expect(Set(found.map(\.device)) == expected && found.count == expected.count)
      for (index, node) in cluster.nodes.enumerated() where layout.isStored(index) {
        #expect(node.blocks.isEmpty == expected.contains(node.device))
      }
    }
  }

  @Test(
    "wrong bytes under a right CRC are blamed on the blocks that have them, though another node hangs",
    arguments: Seed.several)
  func doubt(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let scheme = Scheme(k: 4, m: 3)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 16 << 10, byteCount: 64_000)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 7)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      let some = Array((0..<7).shuffled(using: &random).prefix(3))
      for index in some[..<2] { cluster.nodes[index].mood = .lying }
      cluster.nodes[some[2]].mood = .slow(.seconds(60))
      let started = world.now
      for _ in 0..<20 {
        let range = randomRange(layout.byteCount, &random)
        let wanted = Array(stripe.data[range])
        let found = try await cluster.io.readDoubting(target, layout: layout, range: range) {
          $0.flatMap(\.array) == wanted
        }
        #expect(found.flatMap(\.array) == wanted)
      }
      #expect(world.now - started < .seconds(10))
      #expect(
        Set(cluster.reported.map(\.0)).isSubset(of: some[..<2].map { target.places.devices[$0] }))
      // Those known to lie are not asked again for a while.
      let liars = some[..<2].filter { layout.dataBlockCount > $0 }
      for liar in liars {
        #expect(cluster.reported.contains { $0.0 == target.places.devices[liar] })
      }
      let before = cluster.reported.count
      await #expect(throws: StripeError.self) {
        _ = try await cluster.io.readDoubting(target, layout: layout, range: 0..<64_000) { _ in
          false
        }
      }
      #expect(cluster.reported.count == before)
    }
  }

  @Test(
    "bytes that are wrong while devices do not answer are not called wrong for good",
    arguments: Seed.several)
  func doubtOfTooFew(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let scheme = Scheme(k: 2, m: 1)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 16 << 10, byteCount: 30_000)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 3)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      let order = Array((0..<3).shuffled(using: &random))
      func doubt() async -> StripeError? {
        do throws(StripeError) {
          _ = try await cluster.io.readDoubting(target, layout: layout, range: 0..<30_000) { _ in
            false
          }
          return nil
        } catch {
          return error
        }
      }
      for count in 1...3 {
        cluster.nodes[order[count - 1]].mood = .refuses(.deviceFull)
        let missing = order.prefix(count).sorted().map { target.places.devices[$0] }
        let found = await doubt()
        #expect(found == .unreadable(missing: missing, needed: 2, found: min(1, 3 - count)))
      }
      for node in cluster.nodes { node.mood = .empty }
      let found = await doubt()
      #expect(found == .notFound)
      for node in cluster.nodes { node.mood = .lying }
      guard case .corrupt = await doubt() else {
        Issue.record("all gave theirs")
        return
      }
    }
  }

  @Test("lost blocks, parity too, are made anew from the others", arguments: Seed.several)
  func rebuild(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let cluster = try await FakeCluster(world, nodeCount: layout.scheme.width)
      let target = cluster.target(layout.scheme)
      _ = await cluster.write(stripe, target)
      let lost = Array(layout.storedBlocks.shuffled(using: &random).prefix(layout.scheme.m))
      for index in lost { cluster.nodes[index].mood = .empty }
      let found = try await cluster.io.rebuild(target, layout: layout, indices: lost)
      #expect(found.map(\.array) == lost.map { stripe.blocks[$0]!.array })
      for index in lost { #expect(cluster.nodes[index].readCount == 0) }
    }
  }

  @Test(
    "bytes are given for another code only when data and parity agree", arguments: Seed.several)
  func agreeing(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let stripe = TrueStripe.random(&random)
      let layout = stripe.layout
      let cluster = try await FakeCluster(world, nodeCount: layout.scheme.width)
      let target = cluster.target(layout.scheme)
      _ = await cluster.write(stripe, target)
      let found = try await cluster.io.readAgreeing(target, layout: layout)
      #expect(found.map(\.array) == (0..<layout.dataBlockCount).map { stripe.blocks[$0]!.array })
      guard layout.scheme.m > 0 else { return }
      let storedCount = layout.storedBlocks.count
      let liar = Int.random(in: 0..<layout.dataBlockCount, using: &random)
      if storedCount > layout.dataBlockCount + 1 {
        // One that is slow, or fails once, is no reason not to compare.
        let other = layout.storedBlocks.filter { $0 != liar }.randomElement(using: &random)!
        cluster.slow = [cluster.nodes[other].device]
        cluster.nodes[other].mood = .refuses(.unavailable)
        cluster.nodes[liar].mood = .lying
        for _ in 0..<2 {
          await #expect(throws: StripeError.corrupt("its blocks contradict each other")) {
            _ = try await cluster.io.readAgreeing(target, layout: layout)
          }
        }
        cluster.nodes[liar].mood = .good
        cluster.nodes[other].mood = .good
        cluster.slow = []
      }
      let lost = layout.storedBlocks.randomElement(using: &random)!
      cluster.nodes[lost].mood = .empty
      let again = try await cluster.io.readAgreeing(target, layout: layout)
      #expect(again.map(\.array) == found.map(\.array))
      cluster.nodes[lost].mood = .good
      cluster.nodes[liar].mood = .lying
      await #expect(throws: StripeError.corrupt("its blocks contradict each other")) {
        _ = try await cluster.io.readAgreeing(target, layout: layout)
      }
    }
  }

  @Test("a cancelled read ends soon and says so")
  func cancelled() throws {
    try SimulatedWorld.run(seed: 4) { world in
      var random = SeededGenerator(seed: 4)
      let scheme = Scheme(k: 2, m: 1)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 4096, byteCount: 8192)
      let stripe = TrueStripe(layout, &random)
      let cluster = try await FakeCluster(world, nodeCount: 3)
      let target = cluster.target(scheme)
      _ = await cluster.write(stripe, target)
      for node in cluster.nodes { node.mood = .slow(.seconds(5)) }
      let outcome = Outcome<Result<[UInt8], StripeError>>()
      let task = cluster.process.spawn("read") {
        outcome.value = await cluster.read(target, layout, 0..<8192)
      }
      await cluster.process.sleep(.milliseconds(50))
      let started = world.now
      task.cancel()
      await task.wait()
      #expect(outcome.value == .failure(.cancelled))
      #expect(world.now - started < .milliseconds(50))
    }
  }

  @Test("a description that makes no sense is refused, and an empty range is empty")
  func nonsense() throws {
    try SimulatedWorld.run(seed: 6) { world in
      let scheme = Scheme(k: 2, m: 1)!
      let layout = StripeLayout(scheme: scheme, blockByteCount: 4096, byteCount: 5000)
      let cluster = try await FakeCluster(world, nodeCount: 3)
      var target = cluster.target(scheme)
      #expect(await cluster.read(target, layout, 7..<7) == .success([]))
      for range in [-1..<3, 0..<5001, 6000..<6000] {
        guard case .failure(.corrupt) = await cluster.read(target, layout, range) else {
          throw Unexpected()
        }
      }
      target.places.removeLast()
      guard case .failure(.corrupt) = await cluster.read(target, layout, 0..<1) else {
        throw Unexpected()
      }
    }
  }
}
