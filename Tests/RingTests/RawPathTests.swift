import Glibc
import Ring
import TestSupport
import Testing

/// What newer kernels are used for, and the ways without it.
@Suite("the raw path")
struct RawPathTests {
  /// All there is, nothing, and each thing missing alone.
  static let featureSets: [RingFeatures] =
    [.all, []]
    + [.registeredBuffers, .registeredFiles, .providedBuffers, .multishotAccept].map {
      RingFeatures.all.subtracting($0)
    }

  private static func options(_ features: RingFeatures) -> EventLoop.Options {
    var options = EventLoop.Options()
    options.features = features
    options.usesPlainSetup = !features.contains(.deferredWork)
    return options
  }

  @Test("what the kernel has is named, what is withheld too")
  func named() async {
    #expect(RingFeatures.all.description.hasPrefix("io_uring with deferred work, "))
    #expect(!RingFeatures.all.description.contains("not in use"))
    let usual = await onLoop { $0.features }
    #expect(usual.contains("not in use: ") && usual.hasSuffix("zero-copy send"))
    #expect(RingFeatures([]).description.hasPrefix("io_uring, plain; not in use: deferred work, "))
    for features in Self.featureSets {
      let told = await onLoop(Self.options(features)) { $0.features }
      // A kernel may have less than it is allowed, never more.
      for name in ["registered files", "provided buffers"] {
        let inUse = told.split(separator: ";")[0].contains(name)
        #expect(!inUse || features.description.split(separator: ";")[0].contains(name))
      }
    }
  }

  @Test("a file is the same by every way", arguments: RawPathTests.featureSets, Seed.several)
  func files(features: RingFeatures, seed: Seed) async {
    await withTemporaryFolder { folder in
      await onLoop(Self.options(features)) { driver in
        do throws(RingError) {
          var random = seed.generator
          let unitCount = 64
          let file = try await File.open(
            folder + "/f", O_RDWR | O_CREAT | O_DIRECT, on: driver)
          var model = [UInt8](repeating: 0, count: unitCount * 4096)
          try await file.write([Slice(copying: model, pool: driver.buffers)], at: 0)
          let queue = TransferQueue(driver: driver, depth: 16)
          for _ in 0..<50 {
            // Writes to places apart from each other, by the queue or one durable one; then all is read.
            let place = Int.random(in: 0..<unitCount - 8, using: &random)
            if Bool.random(using: &random) {
              for index in 0..<8 {
                let bytes = random.bytes(4096)
                model.replaceSubrange(
                  (place + index) * 4096..<(place + index + 1) * 4096, with: bytes)
                queue.write(
                  index, file.descriptor, from: Slice(copying: bytes, pool: driver.buffers),
                  at: UInt64((place + index) * 4096))
              }
              #expect(queue.room == 8)
              await queue.wait(for: 8)
              var tags: [Int] = []
              while let (tag, result) = queue.next() {
                #expect(result == 4096)
                tags.append(tag)
              }
              #expect(tags.sorted() == Array(0..<8))
            } else {
              let count = Int.random(in: 1...8, using: &random)
              let pieces = (0..<count).map { _ in random.bytes(4096) }
              model.replaceSubrange(
                place * 4096..<(place + count) * 4096, with: pieces.flatMap { $0 })
              try await file.writeDurably(
                pieces.map { Slice(copying: $0, pool: driver.buffers) }, at: UInt64(place * 4096))
            }
          }
          let slices = (0..<16).map { _ in driver.buffers.slice(4096) }
          var next = 0
          var right = 0
          while right < unitCount {
            while queue.room > 0 && next < unitCount {
              queue.read(next, file.descriptor, into: slices[next % 16], at: UInt64(next * 4096))
              next += 1
              if next % 16 == 0 { break }
            }
            await queue.wait(for: queue.inFlight)
            while let (tag, result) = queue.next() {
              #expect(result == 4096)
              #expect(slices[tag % 16].array == Array(model[tag * 4096..<(tag + 1) * 4096]))
              right += 1
            }
          }
          await file.close()
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a durable write of more pieces than the kernel takes at once is whole")
  func manyPieces() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let file = try await File.open(folder + "/f", O_RDWR | O_CREAT, on: driver)
          let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
          let whole = Slice(copying: bytes)
          try await file.writeDurably((0..<3000).map { whole[$0..<$0 + 1] }, at: 5)
          let back = driver.buffers.slice(4096)
          #expect(try await file.read(into: back, at: 0) == 3005)
          #expect(back[5..<3005].array == bytes)
          await file.close()
          // The write fails, and the sync behind it with it.
          let readOnly = try await File.open(folder + "/f", O_RDONLY, on: driver)
          let answer = await driver.submit(
            .writeDurably(descriptor: readOnly.descriptor, from: [whole], offset: 0))
          #expect(answer == -EBADF)
          await readOnly.close()
          let queue = TransferQueue(driver: driver, depth: 1)
          queue.read(9, readOnly.descriptor, into: back, at: 0)
          await queue.wait()
          let failed = queue.next()
          #expect(failed?.tag == 9 && failed?.result == -EBADF)
          #expect(queue.next() == nil && queue.room == 1)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test(
    "a full table of files means plain descriptors; what is closed is let go", arguments: [8, 4096])
  func tables(limit: UInt32) async {
    var options = EventLoop.Options()
    options.registeredFileCount = limit
    await withTemporaryFolder { folder in
      await onLoop(options) { driver in
        do throws(RingError) {
          for round in 0..<3 {
            var files: [File] = []
            for number in 0..<20 {
              let file = try await File.open(
                folder + "/\(number)", O_RDWR | O_CREAT | O_DIRECT, on: driver)
              #expect(try await lockSoon(file, on: driver), "round \(round)")
              let slice = driver.buffers.slice(4096)
              slice.withMutableBytes { _ = memset($0.baseAddress!, Int32(number + round), 4096) }
              try await file.write([slice], at: 0)
              try await file.synchronize()
              files.append(file)
            }
            for (number, file) in files.enumerated() {
              let slice = driver.buffers.slice(4096)
              #expect(try await file.read(into: slice, at: 0) == 4096)
              #expect(slice.array == [UInt8](repeating: UInt8(number + round), count: 4096))
              await file.close()
            }
          }
        } catch { Issue.record(error) }
      }
    }
  }

  @Test(
    "a connection that is closed has ended, whatever else waits",
    arguments: RawPathTests.featureSets)
  func closing(features: RingFeatures) async {
    await onLoop(Self.options(features)) { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let idle = try await Connection.connect(to: listener.address, on: driver)
        let idlePeer = try await listener.accept()
        let waiting = driver.spawn("idle") {
          #expect((try? await idlePeer.receive())?.count == 0)
        }
        for _ in 0..<100 {
          let connection = try await Connection.connect(to: listener.address, on: driver)
          let peer = try await listener.accept()
          #expect(peer.peer.port != 0 && peer.peer.isLoopback)
          await connection.close()
          #expect(try await peer.receive().count == 0)
          await peer.close()
        }
        await idle.close()
        await waiting.wait()
        await idlePeer.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test(
    "receives without memory of their own bring every byte in order, also when memory runs out",
    arguments: RawPathTests.featureSets, [1, 2, 256])
  func receiving(features: RingFeatures, providedCount: Int) async {
    var options = Self.options(features)
    options.providedBufferCount = providedCount
    await onLoop(options) { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        await withTaskGroup { group in
          for number in 0..<20 {
            group.addTask {
              do throws(RingError) {
                let connection = try await Connection.connect(to: listener.address, on: driver)
                let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 7 &+ number) }
                let text = Slice(copying: bytes, pool: driver.buffers)
                var sent = 0
                while sent < bytes.count {
                  let count = min(bytes.count - sent, 1 + (sent &* 31 + number) % 6000)
                  try await connection.send([text[sent..<sent + count]])
                  sent += count
                  if sent % 3 == 0 { await driver.sleep(.microseconds(10)) }
                }
                await connection.close()
              } catch { Issue.record(error) }
            }
            group.addTask {
              do throws(RingError) {
                let connection = try await listener.accept()
                var whole: [UInt8] = []
                // Kept, so that the kernel's memory runs out.
                var kept: [Slice] = []
                while true {
                  let some = try await connection.receive()
                  #expect(some.count <= 4096)
                  if some.count == 0 { break }
                  whole += some.array
                  kept.append(some)
                  if kept.count == 3 { kept.removeAll() }
                }
                #expect(whole.count == 20_000)
                let first = whole.first ?? 0
                #expect(
                  whole == (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 7 &+ Int(first)) })
                await connection.close()
              } catch { Issue.record(error) }
            }
          }
        }
        // Cancelled while it waits, and before.
        let connection = try await Connection.connect(to: listener.address, on: driver)
        let task = driver.spawn("receive") {
          for _ in 0..<2 {
            #expect(
              await driver.submit(
                .receiveAny(descriptor: connection.descriptor, Outcome())) == -ECANCELED)
          }
        }
        await driver.sleep(.milliseconds(5))
        task.cancel()
        await task.wait()
        await connection.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("what is sent without a copy is not written over before the peer has it")
  func copyless() async {
    var options = EventLoop.Options()
    options.copylessByteCount = 4096
    options.copiesNothingOnLoopback = true
    await onLoop(options) { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let connection = try await Connection.connect(to: listener.address, on: driver)
        let peer = try await listener.accept()
        let rounds = 200
        let sender = driver.spawn("sender") {
          for round in 0..<rounds {
            // From the pool each time: what the last send has let go of is written over at once.
            let pieces = (0..<3).map { _ in driver.buffers.slice(30_000) }
            for piece in pieces {
              piece.withMutableBytes { _ = memset($0.baseAddress!, Int32(round), 30_000) }
            }
            #expect((try? await connection.send(pieces)) != nil)
          }
        }
        let back = driver.buffers.slice(90_000)
        for round in 0..<rounds {
          if round % 50 == 0 { await driver.sleep(.milliseconds(20)) }
          #expect(try await peer.receive(into: back, waitForAll: true) == 90_000)
          let isRight = back.withBytes { bytes in
            bytes.allSatisfy { $0 == UInt8(truncatingIfNeeded: round) }
          }
          #expect(isRight, "round \(round)")
        }
        await sender.wait()
        // A send that the peer does not take is cancelled like any other.
        let stuck = driver.spawn("stuck") {
          let large = driver.buffers.slice(8 << 20)
          let answer = await driver.submit(
            .send(descriptor: connection.descriptor, from: Array(repeating: large, count: 8)))
          #expect(answer == -ECANCELED || answer > 0)
          #expect(
            await driver.submit(.send(descriptor: connection.descriptor, from: [large]))
              == -ECANCELED)
        }
        await driver.sleep(.milliseconds(50))
        stuck.cancel()
        await stuck.wait()
        await connection.close()
        await peer.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("memory lent to the kernel may be let go on any thread, also after the loop has ended")
  func lentMemory() async {
    let slices = await onLoop { driver -> [Slice] in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let connection = try await Connection.connect(to: listener.address, on: driver)
        let peer = try await listener.accept()
        var slices: [Slice] = []
        for number in 0..<300 {
          try await connection.send([
            Slice(copying: [UInt8](repeating: UInt8(number & 255), count: 100))
          ])
          let some = try await peer.receive()
          if number % 2 == 0 {
            let passed = some
            #expect(await driver.offload(lane: 0) { passed.array.count } == 100)
          } else {
            slices.append(some)
          }
        }
        await connection.close()
        await peer.close()
        await listener.close()
        return slices
      } catch {
        Issue.record(error)
        return []
      }
    }
    for (index, slice) in slices.enumerated() {
      #expect(slice.array == [UInt8](repeating: UInt8((2 * index + 1) & 255), count: 100))
    }
  }
}
