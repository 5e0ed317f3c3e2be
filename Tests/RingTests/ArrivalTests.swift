import Glibc
import Ring
import TestSupport
import Testing

/// Connections that wait without a task.
@Suite("arrivals")
struct ArrivalTests {
  /// Puts together what one connection brings.
  private final class Reader: ArrivalOwner, @unchecked Sendable {
    // Loop-confined.
    private let connection: Connection
    private let arrival: Arrival
    private(set) var bytes: [UInt8] = []
    private(set) var failure: RingError?
    /// Kept for a while, so that the kernel's memory runs out.
    private var kept: [Slice] = []
    private let over = Gate()

    init(_ connection: Connection) {
      self.connection = connection
      arrival = Arrival(at: connection)
    }

    func start() { arrival.wait(for: self) }
    func wait() async { await over.wait() }

    func arrived(_ event: Arrival.Event) {
      #expect(!arrival.isUnderWay)
      switch event {
      case .bytes(let slice): take(slice)
      case .something:
        connection.driver.spawn("receive") { [self] in
          do throws(RingError) {
            let slice = connection.driver.buffers.slice(1000)
            take(slice[0..<(try await connection.receive(into: slice))])
          } catch { end(error) }
        }
      case .failure(let error): end(error)
      }
    }

    private func take(_ slice: Slice) {
      #expect(slice.count <= 4096)
      if slice.count == 0 { return end(nil) }
      bytes += slice.array
      kept.append(slice)
      if kept.count == 3 { kept.removeAll() }
      arrival.wait(for: self)
    }

    private func end(_ failure: RingError?) {
      self.failure = failure
      kept = []
      over.open()
    }
  }

  @Test(
    "bring every byte in order and the end, with whatever the kernel has, also when its memory runs out",
    arguments: RawPathTests.featureSets, [1, 2, 256])
  func order(features: RingFeatures, providedCount: Int) async {
    var options = EventLoop.Options()
    options.features = features
    options.usesPlainSetup = !features.contains(.deferredWork)
    options.providedBufferCount = providedCount
    await onLoop(options) { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        var readers: [(Reader, Connection)] = []
        for number in 0..<20 {
          let near = try await Connection.connect(to: listener.address, on: driver)
          let far = try await listener.accept()
          let reader = Reader(far)
          reader.start()
          readers.append((reader, far))
          driver.spawn("sender") {
            let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 7 &+ number) }
            var rest = Slice(copying: bytes, pool: driver.buffers)
            while rest.count > 0 {
              let count = min(rest.count, 1 + (rest.count &* 31 &+ number) % 6000)
              #expect((try? await near.send([rest[0..<count]])) != nil)
              rest = rest[count..<rest.count]
              if rest.count % 3 == 0 { await driver.sleep(.microseconds(10)) }
            }
            await near.close()
          }
        }
        for (number, (reader, far)) in readers.enumerated() {
          await reader.wait()
          #expect(reader.failure == nil)
          #expect(
            reader.bytes == (0..<20_000).map { UInt8(truncatingIfNeeded: $0 / 7 &+ number) })
          await far.close()
        }
        await listener.close()
      } catch { Issue.record(error) }
    }
  }

  @Test("a wait ends with the connection's shutdown", arguments: RawPathTests.featureSets)
  func shutdown(features: RingFeatures) async {
    var options = EventLoop.Options()
    options.features = features
    options.usesPlainSetup = !features.contains(.deferredWork)
    await onLoop(options) { driver in
      do throws(RingError) {
        let listener = try await Listener.listen(on: SocketTests.anyPort, driver: driver)
        let near = try await Connection.connect(to: listener.address, on: driver)
        let far = try await listener.accept()
        let reader = Reader(far)
        reader.start()
        await far.shutdown()
        await reader.wait()
        #expect(reader.bytes.isEmpty)
        await far.close()
        await near.close()
        await listener.close()
      } catch { Issue.record(error) }
    }
  }
}
