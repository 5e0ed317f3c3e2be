import Cluster
import Ring
import Simulation
import TestSupport
import Testing

@testable import ShardStore

/// The order of reads on a rotating disk.
struct ElevatorTests {
  /// The same, slowly: all that waited when a sweep began, by place.
  struct Model {
    var sweep: [Elevator.Read] = []
    var arrived: [Elevator.Read] = []
    var sweepCount = 0

    mutating func next() -> Elevator.Read? {
      if sweep.isEmpty {
        sweepCount += 1
        sweep = arrived
        arrived = []
      }
      let first = sweep.min { ($0.volume, $0.offset, $0.id) < ($1.volume, $1.offset, $1.id) }
      sweep.removeAll { $0.id == first?.id }
      return first
    }
  }

  @Test(
    "every read is done once, in sweeps, neighbours in one piece, and at the latest in the sweep after the one it met",
    arguments: Seed.several)
  func sweeps(seed: Seed) {
    var random = seed.generator
    for _ in 0..<100 {
      let depth = Int.random(in: 1...4, using: &random)
      let runLimit = Int.random(in: 1...16, using: &random) * 4096
      var elevator = Elevator(depth: depth, runLimit: runLimit)
      var model = Model()
      var metSweep: [UInt64: Int] = [:]
      var doneCount = 0
      var underWay = 0
      var nextID: UInt64 = 0
      while doneCount < 200 {
        switch Int.random(in: 0..<4, using: &random) {
        case 0, 1:
          guard nextID < 200 else { continue }
          let read = Elevator.Read(
            id: nextID, volume: UInt32.random(in: 0..<3, using: &random),
            offset: UInt64.random(in: 0..<64, using: &random) * 4096,
            byteCount: Int.random(in: 1...4, using: &random) * 4096)
          nextID += 1
          metSweep[read.id] = model.sweepCount
          model.arrived.append(read)
          elevator.add(read)
        case 2:
          guard underWay > 0 else { continue }
          elevator.ended()
          underWay -= 1
        default:
          guard let run = elevator.next() else {
            #expect(underWay == depth || doneCount == Int(nextID))
            continue
          }
          underWay += 1
          #expect(underWay <= depth)
          var end = run[0].offset
          for read in run {
            #expect(model.next() == read)
            #expect(model.sweepCount <= metSweep[read.id]! + 1)
            #expect(read.volume == run[0].volume && read.offset <= end)
            end = max(end, read.end)
            doneCount += 1
          }
          #expect(run.count == 1 || end - run[0].offset <= UInt64(runLimit))
          // What could have gone along does.
          if let following = model.sweep.min(by: {
            ($0.volume, $0.offset, $0.id) < ($1.volume, $1.offset, $1.id)
          }), following.volume == run[0].volume, following.offset <= end {
            #expect(max(end, following.end) - run[0].offset > UInt64(runLimit))
          }
        }
      }
    }
  }

  @Test("a sweep goes upwards; what comes during it waits for the next")
  func order() {
    var elevator = Elevator(depth: 1)
    func add(_ id: UInt64, _ volume: UInt32, _ unit: UInt64) {
      elevator.add(.init(id: id, volume: volume, offset: unit * 4096, byteCount: 4096))
    }
    func next() -> [UInt64] {
      let run = elevator.next()
      if run != nil { elevator.ended() }
      return (run ?? []).map(\.id)
    }
    add(1, 0, 50)
    add(2, 0, 10)
    add(3, 1, 0)
    add(4, 0, 11)
    #expect(next() == [2, 4])
    add(5, 0, 12)
    add(6, 0, 60)
    #expect(next() == [1])
    #expect(next() == [3])
    #expect(next() == [5])
    #expect(next() == [6])
    #expect(next() == [])
  }

  @Test(
    "a store on a rotating disk gives the same answers, in whatever order it is asked",
    arguments: Seed.several)
  func sameAnswers(seed: Seed) throws {
    let requests = try [false, true].map { isRotational in
      try withDevice(seed: seed.value) { world, process in
        var random = seed.generator
        let settings = StoreScene.settings {
          $0.isRotational = isRotational
          $0.rotationalDepth = 1
        }
        let store = try await StoreScene.open(process, settings)
        let samples = (0..<40).map { number in
          Sample(
            key(UInt64(number % 3) + 1, UInt64(number)),
            units: Int.random(in: 1...6, using: &random), fill: random.next() % 1000)
        }
        for sample in samples { try await sample.write(to: store) }
        // One that cannot be read: its neighbours do not suffer.
        let bad = samples[7]
        let place = try await store.find(bad.block.key)!
        let name = store.volumes[place.volume]!.name
        let start = Int(place.offset) + 4096
        try process.machine.disk.makeUnreadable(
          StoreScene.path + "/" + name, start..<start + 512)
        process.machine.disk.faults = { access in
          access.kind == .read ? .delay(.milliseconds(1)) : .none
        }
        store.headers = HeaderCache(limit: 512)
        let before = process.operationCount
        await withTaskGroup(of: Void.self) { group in
          for sample in samples.shuffled(using: &random) {
            group.addTask {
              let found = await Result.of { try await sample.isIn(store) }
              if sample.block.key == bad.block.key {
                #expect((try? found.get()) == nil)
              } else {
                #expect((try? found.get()) == true, "\(sample.block.key): \(found)")
              }
            }
          }
        }
        let requests = process.operationCount - before
        await store.close()
        return requests
      }
    }
    // Forty reads that lie one after the other take few.
    #expect(requests[1] < requests[0] * 3 / 4, "\(requests)")
  }
}
