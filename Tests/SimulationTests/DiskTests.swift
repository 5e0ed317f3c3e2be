import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@Suite struct DiskTests {
  /// What a sector of a file may hold after a crash: any version since the last sync.
  struct Model {
    static let sectorCount = 64
    var versions: [Set<[UInt8]>]
    var current: [[UInt8]]
    init() {
      let zeros = [UInt8](repeating: 0, count: 512)
      versions = Array(repeating: [zeros], count: Self.sectorCount)
      current = Array(repeating: zeros, count: Self.sectorCount)
    }
    mutating func write(_ sector: Int, _ bytes: [UInt8]) {
      current[sector] = bytes
      versions[sector].insert(bytes)
    }
    mutating func synced() { versions = current.map { [$0] } }
    mutating func became(_ bytes: [UInt8]) {
      for sector in 0..<Self.sectorCount {
        current[sector] = Array(bytes[sector * 512..<sector * 512 + 512])
        versions[sector] = [current[sector]]
      }
    }
  }

  @Test(
    "after a crash every synced byte is there and each sector is old or new",
    arguments: Seed.several)
  func durability(seed: Seed) throws {
    let outcomes = try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      var process = world.process("p")
      let disk = process.machine.disk
      var model = Model()
      let total = Model.sectorCount * 512
      let first = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      try await first.write([process.buffers.slice(total)], at: 0)
      try await first.synchronize(dataOnly: false)
      try await process.synchronizeDirectory("/")
      await first.close()
      var torn = 0
      var lost = 0
      var kept = 0
      for _ in 0..<40 {
        let file = try await File.open("/f", O_RDWR, on: process)
        for _ in 0..<random.next() % 12 {
          let start = Int(random.next() % UInt64(Model.sectorCount))
          let count = Int(random.next() % UInt64(min(12, Model.sectorCount - start))) + 1
          let bytes = random.bytes(count * 512)
          try await file.write([Slice(copying: bytes)], at: UInt64(start * 512))
          for sector in 0..<count {
            model.write(start + sector, Array(bytes[sector * 512..<sector * 512 + 512]))
          }
          if random.next() % 6 == 0 {
            try await file.synchronize()
            model.synced()
          }
        }
        disk.crash()
        #expect(!process.isAlive)
        process = process.restart()
        let bytes = try disk.contents("/f")
        #expect(bytes.count == total)
        for sector in 0..<Model.sectorCount {
          let found = Array(bytes[sector * 512..<sector * 512 + 512])
          #expect(model.versions[sector].contains(found))
          if model.versions[sector].count > 1 {
            if found == model.current[sector] { kept += 1 } else { lost += 1 }
          }
        }
        if bytes != model.current.flatMap({ $0 }) { torn += 1 }
        model.became(bytes)
      }
      return (torn, lost, kept)
    }
    // The model would also hold if nothing were ever lost; so look that chance does its work.
    #expect(outcomes.0 > 5 && outcomes.1 > 20 && outcomes.2 > 20)
  }

  @Test("a sync covers what had finished when it was submitted, not what came after")
  func syncCoversThePast() throws {
    var survived = 0
    for seed in UInt64(0)..<60 {
      survived += try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        let disk = process.machine.disk
        let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
        try await process.synchronizeDirectory("/")
        disk.faults = { $0.kind == .synchronize ? .delay(.seconds(1)) : .none }
        async let synced: Void = file.synchronize()
        await world.sleep(.milliseconds(500))
        try await file.write([Slice(copying: [9])], at: 0)
        try await synced
        disk.crash()
        return try disk.contents("/f") == [9] ? 1 : 0
      }
    }
    #expect(survived > 0 && survived < 60)
  }

  @Test("a replaced file is the old or the new one, at a crash before any operation")
  func replaceIsAtomic() throws {
    var olds = 0
    var news = 0
    let old = [UInt8](repeating: 1, count: 3000)
    let new = [UInt8](repeating: 2, count: 5000)
    for index in 0..<14 {
      for seed in UInt64(0)..<15 {
        let found = try SimulatedWorld.run(seed: seed) { world in
          var process = world.process("p")
          try await process.replaceFile("/f", with: old)
          process = process.restart()
          process.beforeOperation = { number, _ in
            if number == index { world.machine("p").powerCut() }
          }
          let isDone = Outcome<Bool>()
          let victim = process
          await process.spawn("replace") {
            isDone.value = (try? await victim.replaceFile("/f", with: new)) != nil
          }.wait()
          world.machine("p").powerCut()
          let found = try await process.restart().readFile("/f")
          if isDone.value == true { #expect(found == new) }
          return found
        }
        #expect(found == old || found == new)
        if found == old { olds += 1 } else { news += 1 }
      }
    }
    #expect(olds > 20 && news > 20)
  }

  @Test("a name that nobody synced may vanish, and may stay")
  func names() throws {
    var vanished = 0
    for seed in UInt64(0)..<40 {
      vanished += try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        let disk = process.machine.disk
        try await process.makeDirectories("/d/e")
        let file = try await File.open("/d/e/f", O_RDWR | O_CREAT, on: process)
        try await file.write([Slice(copying: [1, 2, 3])], at: 0)
        try await file.synchronize()
        try await process.synchronizeDirectory("/d")
        try await process.synchronizeDirectory("/")
        disk.crash()
        let files = try disk.files()
        if files == ["/d/e/f"] { #expect(try disk.contents("/d/e/f") == [1, 2, 3]) }
        #expect(try disk.files(under: "/d/e").count <= 1)
        return files.isEmpty ? 1 : 0
      }
    }
    #expect(vanished > 5 && vanished < 35)
  }

  @Test("a rename never leaves both names or none", arguments: 0..<40)
  func renameIsAtomic(seed: Int) throws {
    try SimulatedWorld.run(seed: UInt64(seed)) { world in
      let process = world.process("p")
      try await process.makeDirectories("/a")
      try await process.makeDirectories("/b")
      try await process.replaceFile("/a/f", with: [1])
      try await process.synchronizeDirectory("/")
      try await process.rename("/a/f", to: "/b/f")
      try await process.rename("/b/f", to: "/b/g")
      if seed % 2 == 0 { try await process.synchronizeDirectory("/a") }
      process.machine.powerCut()
      #expect(try process.machine.disk.files().count == 1)
    }
  }

  @Test("after a failed sync no later sync brings the bytes back")
  func failedSync() throws {
    var stillShown = 0
    var durable = 0
    for seed in UInt64(0)..<60 {
      let (shown, kept) = try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        let disk = process.machine.disk
        let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
        try await file.write([process.buffers.slice(4096)], at: 0)
        try await file.synchronize()
        try await process.synchronizeDirectory("/")
        try await file.write([Slice(copying: [UInt8](repeating: 5, count: 4096))], at: 0)
        disk.faults = { $0.kind == .synchronize ? .fail(EIO) : .none }
        await #expect(throws: RingError(errno: EIO, operation: "sync", subject: "/f")) {
          try await file.synchronize()
        }
        disk.faults = nil
        let shown = try disk.contents("/f")
        try await file.synchronize()
        disk.crash()
        return (shown.allSatisfy { $0 == 5 }, try disk.contents("/f").allSatisfy { $0 == 5 })
      }
      stillShown += shown ? 1 : 0
      durable += kept ? 1 : 0
      if kept { #expect(shown) }
    }
    #expect(stillShown > durable && durable > 0 && durable < 50)
  }

  @Test("planned faults: errors, lost, misdirected and short writes, delays")
  func plans() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      let ones = Slice(copying: [UInt8](repeating: 1, count: 8192))
      func write() async -> Int32 {
        await process.submit(.write(descriptor: file.descriptor, from: [ones], offset: 0))
      }
      disk.faults = { access in
        #expect(access.path == "/f" && access.process == "p" && access.kind == .write)
        return .lost
      }
      #expect(await write() == 8192)
      disk.faults = nil
      #expect(try disk.contents("/f").isEmpty)
      disk.faults = { _ in .misdirected(to: 4096) }
      #expect(await write() == 8192)
      #expect(try disk.contents("/f").count == 12288)
      disk.faults = { _ in .short(1000) }
      #expect(await write() == 1000)
      disk.faults = { _ in .fail(EIO) }
      #expect(await write() == -EIO)
      let before = world.now
      disk.faults = { _ in .delay(.seconds(3)) }
      #expect(await write() == 8192)
      #expect(world.now - before >= .seconds(3))
      disk.faults = nil
      disk.isReadOnly = true
      #expect(await write() == -EROFS)
    }
  }

  @Test("a durable write syncs when it was whole, and only then", arguments: Seed.several)
  func durableWrites(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      // Only those that are asked for below.
      disk.shortTransfersPerThousand = 0
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      try await file.write([process.buffers.slice(8192)], at: 0)
      try await file.synchronize(dataOnly: false)
      try await process.synchronizeDirectory("/")
      func bytes(_ value: UInt8) -> [UInt8] { [UInt8](repeating: value, count: 8192) }
      func write(_ value: UInt8) async -> Int32 {
        let whole = Slice(copying: bytes(value))
        return await process.submit(
          .writeDurably(
            descriptor: file.descriptor, from: [whole[0..<100], whole[100..<8192]], offset: 0))
      }
      #expect(await write(1) == 8192)
      #expect(try disk.durableContents("/f") == bytes(1))
      disk.faults = { $0.kind == .write ? .short(512) : .none }
      #expect(await write(2) == 512)
      #expect(try disk.contents("/f") != bytes(1))
      #expect(try disk.durableContents("/f") == bytes(1))
      disk.faults = { $0.kind == .write ? .fail(EIO) : .none }
      #expect(await write(3) == -EIO)
      disk.faults = { $0.kind == .synchronize ? .fail(EIO) : .none }
      #expect(await write(4) == -EIO)
      // Short at first: the rest follows, and then a sync of its own.
      final class Left: @unchecked Sendable { var value = 1 }
      let short = Left()
      disk.faults = { access in
        guard access.kind == .write, short.value > 0 else { return .none }
        short.value -= 1
        return .short(4096)
      }
      try await file.writeDurably([Slice(copying: bytes(5))], at: 0)
      #expect(try disk.durableContents("/f") == bytes(5))
      disk.faults = nil
      await file.close()
    }
  }

  @Test("a queue's transfers are what single ones are", arguments: Seed.several)
  func transferQueue(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let process = world.process("p")
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      var model = [UInt8](repeating: 0, count: 64 * 512)
      try await file.write([Slice(copying: model)], at: 0)
      let queue = TransferQueue(driver: process, depth: 8)
      for _ in 0..<20 {
        var expected: [Int: [UInt8]] = [:]
        var slices: [Int: Slice] = [:]
        for (tag, sector) in (0..<64).shuffled(using: &random).prefix(8).enumerated() {
          let range = sector * 512..<(sector + 1) * 512
          if Bool.random(using: &random) {
            let fresh = random.bytes(512)
            model.replaceSubrange(range, with: fresh)
            queue.write(
              tag, file.descriptor, from: Slice(copying: fresh), at: UInt64(sector * 512))
          } else {
            let slice = process.buffers.slice(512)
            slices[tag] = slice
            expected[tag] = Array(model[range])
            queue.read(tag, file.descriptor, into: slice, at: UInt64(sector * 512))
          }
        }
        var tags: [Int] = []
        while tags.count < 8 {
          await queue.wait(for: Int.random(in: 1...8, using: &random))
          while let (tag, result) = queue.next() {
            #expect(result == 512)
            if let bytes = expected[tag] { #expect(slices[tag]?.array == bytes) }
            tags.append(tag)
          }
        }
        #expect(tags.sorted() == Array(0..<8))
      }
      #expect(try process.machine.disk.contents("/f") == model)
      // A process that was killed hears of them all the same.
      let slice = process.buffers.slice(512)
      for tag in 0..<4 { queue.read(tag, file.descriptor, into: slice, at: 0) }
      process.kill()
      await queue.wait(for: 4)
      while let (_, result) = queue.next() { #expect(result == -ECANCELED) }
      #expect(queue.room == 8)
    }
  }

  @Test("decay: flipped bits, cut files, unreadable sectors")
  func decay() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      try await process.replaceFile("/f", with: [UInt8](repeating: 0, count: 9000))
      try disk.flipBit("/f", bit: 8 * 5000 + 3)
      #expect(try await process.readFile("/f")[5000] == 8)
      #expect(try disk.durableContents("/f")[5000] == 8)
      disk.crash()
      let next = process.restart()
      #expect(try await next.readFile("/f")[5000] == 8)
      try disk.overwrite("/f", at: 8999, with: [1, 2])
      #expect(try await next.readFile("/f").suffix(3) == [0, 1, 2])
      try disk.truncate("/f", to: 8999)
      #expect(try await next.readFile("/f").count == 8999)
      try disk.makeUnreadable("/f", 4096..<4097)
      await #expect(throws: RingError(errno: EIO, operation: "read", subject: "/f")) {
        _ = try await next.readFile("/f")
      }
      let file = try await File.open("/f", O_RDWR, on: next)
      #expect(try await file.read(into: next.buffers.slice(4096), at: 0) == 4096)
      try await file.write([next.buffers.slice(512)], at: 4096)
      #expect(try await next.readFile("/f").count == 8999)
    }
  }

  @Test(
    "space in use is what the reachable files hold, also after crashes", arguments: Seed.several)
  func accounting(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      var process = world.process("p")
      let disk = process.machine.disk
      func check() async throws {
        var sum: UInt64 = 0
        for path in try disk.files() { sum += try await process.status(path).allocatedByteCount }
        #expect(disk.usedByteCount == Int(sum))
      }
      for round in 0..<150 {
        let path = "/f\(random.next() % 8)"
        switch random.next() % 6 {
        case 0: _ = await process.submit(.remove(path: path, isDirectory: false))
        case 1: try await process.replaceFile(path, with: random.bytes(20_000))
        case 2: _ = await process.submit(.rename(from: path, to: "/f0", exclusive: false))
        case 3 where round % 4 == 0:
          process.machine.powerCut()
          process = process.restart()
        default:
          let file = try await File.open(path, O_RDWR | O_CREAT, on: process)
          try await file.write([Slice(copying: random.bytes(9000))], at: random.next() % 100_000)
          if random.next() % 2 == 0 { try await file.truncate(to: random.next() % 50_000) }
          if random.next() % 2 == 0 { try await file.synchronize() }
          await file.close()
        }
        try await check()
      }
      process.kill()
      disk.wipe()
      #expect(disk.usedByteCount == 0)
      #expect(try disk.files().isEmpty)
    }
  }

  @Test("fault rates: none at 0, all at a million, some between")
  func rates() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      let slice = process.buffers.slice(4096)
      func failures(_ rates: DiskFaultRates) async -> Int {
        disk.faults = rates.plan(world.random(named: "faults"))
        var count = 0
        for _ in 0..<100 {
          let answer = await process.submit(
            .write(descriptor: file.descriptor, from: [slice], offset: 0))
          if answer == -EIO { count += 1 }
        }
        return count
      }
      var rates = DiskFaultRates()
      #expect(await failures(rates) == 0)
      rates.writeErrors = 1_000_000
      #expect(await failures(rates) == 100)
      rates.writeErrors = 300_000
      #expect((10..<60).contains(await failures(rates)))
    }
  }

  @Test("an image loads into another world's disk")
  func images() throws {
    let image = try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      try await process.makeDirectories("/d")
      try await process.replaceFile("/d/f", with: [1, 2, 3])
      let file = try await File.open("/d/f", O_RDWR, on: process)
      try await file.write([Slice(copying: [9])], at: 0)
      #expect(try process.machine.disk.contents("/d/f") == [9, 2, 3])
      return process.machine.disk.image()
    }
    for _ in 0..<2 {
      try SimulatedWorld.run(seed: 2) { world in
        world.disk("q").load(image)
        let process = world.process("q")
        #expect(try await process.readFile("/d/f") == [9, 2, 3])
        try await process.replaceFile("/d/f", with: [4])
        try await process.remove("/d/f")
        #expect(world.disk("q").usedByteCount == 0)
      }
    }
  }

  @Test("a change under way when the power goes is done, not done, or torn")
  func underWay() throws {
    var kinds = Set<String>()
    for seed in UInt64(0)..<60 {
      let found = try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        let disk = process.machine.disk
        let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
        try await file.write([process.buffers.slice(8192)], at: 0)
        try await file.synchronize()
        try await process.synchronizeDirectory("/")
        disk.faults = { _ in .delay(.seconds(1)) }
        process.spawn("write") {
          try? await file.write([Slice(copying: [UInt8](repeating: 7, count: 8192))], at: 0)
        }
        await world.sleep(.milliseconds(100))
        process.machine.powerCut()
        return try disk.contents("/f")
      }
      let sevens = found.count { $0 == 7 }
      #expect(sevens % 512 == 0)
      kinds.insert(sevens == 0 ? "none" : sevens == 8192 ? "all" : "torn")
    }
    #expect(kinds == ["none", "all", "torn"])
  }

  @Test("a size and a reservation that nobody synced may go, may stay, and never leave wrong bytes")
  func sizes() throws {
    var sizes = Set<Int>()
    var reservations = Set<Int>()
    for seed in UInt64(0)..<60 {
      let (size, reserved) = try SimulatedWorld.run(seed: seed) { world in
        let process = world.process("p")
        let disk = process.machine.disk
        let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
        try await file.write([Slice(copying: [UInt8](repeating: 1, count: 1000))], at: 0)
        try await file.synchronize()
        let empty = try await File.open("/g", O_RDWR | O_CREAT, on: process)
        try await empty.synchronize()
        try await process.synchronizeDirectory("/")
        try await file.write([Slice(copying: [UInt8](repeating: 2, count: 5000))], at: 1000)
        try await file.truncate(to: 3000)
        _ = await process.submit(
          .allocate(descriptor: empty.descriptor, mode: 1, offset: 0, byteCount: 1 << 20))
        process.machine.powerCut()
        let bytes = try disk.contents("/f")
        #expect(bytes.prefix(1000).allSatisfy { $0 == 1 })
        #expect(bytes.dropFirst(1000).allSatisfy { $0 == 2 || $0 == 0 })
        let status = try await process.restart().status("/g")
        #expect(status.byteCount == 0)
        return (bytes.count, Int(status.allocatedByteCount))
      }
      sizes.insert(size)
      reservations.insert(reserved)
    }
    #expect(sizes == [1000, 3000, 6000])
    #expect(reservations == [0, 1 << 20])
  }

  @Test("O_DIRECT moves whole blocks, also when a fault cuts a transfer short")
  func directShort() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let file = try await File.open("/f", O_RDWR | O_CREAT | OpenFlags.direct, on: process)
      process.machine.disk.faults = { $0.kind == .write ? .short(5000) : .short(100) }
      let slice = process.buffers.slice(20_480)
      try await file.write([slice], at: 0)
      #expect(
        await process.submit(.write(descriptor: file.descriptor, from: [slice], offset: 0)) == 4096)
      #expect(try await file.read(into: slice, at: 0) == 20_480)
    }
  }

  @Test("an unreadable sector is whole again when it was written, cut off or punched out")
  func sectorsRemade() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      let slice = process.buffers.slice(16_384)
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      func isReadable() async -> Bool { (try? await file.read(into: slice, at: 0)) != nil }
      for mend in 0..<3 {
        try await file.write([slice], at: 0)
        try disk.makeUnreadable("/f", 5000..<5001)
        #expect(await !isReadable())
        switch mend {
        case 0: try await file.write([slice[0..<512]], at: 4608)
        case 1: try await file.truncate(to: 4096)
        default: try await file.allocate(mode: 3, offset: 4096, byteCount: 4096)
        }
        #expect(await isReadable())
      }
      #expect(world.faults[.latentError] == 3 && world.faults[.readError] == 3)
    }
  }

  @Test("decay hits bytes of the files it may hit, anywhere in them", arguments: Seed.several)
  func randomDecay(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      var random = world.random(named: "decay")
      #expect(try disk.decay(.bitFlip, &random) == nil)
      try await process.makeDirectories("/a")
      try await process.makeDirectories("/b")
      for path in ["/a/1", "/a/2", "/b/3"] {
        try await process.replaceFile(path, with: [UInt8](repeating: 0, count: 10_000))
      }
      var hit = Set<String>()
      for _ in 0..<40 {
        let (path, offset) = try #require(try disk.decay(.bitFlip, under: "/a", &random))
        #expect(offset < 10_000)
        hit.insert(path)
      }
      #expect(hit == ["/a/1", "/a/2"])
      let ones = try ["/a/1", "/a/2"].flatMap { try disk.contents($0) }
      let flipped = ones.reduce(0) { $0 + $1.nonzeroBitCount }
      // Two flips of one bit are none.
      #expect(flipped > 20 && flipped <= 40 && flipped % 2 == 0)
      #expect(try disk.contents("/b/3").allSatisfy { $0 == 0 })
      let (path, _) = try #require(try disk.decay(.latentError, under: "/b", &random))
      await #expect(throws: RingError.self) { _ = try await process.readFile(path) }
      #expect(world.faults[.bitFlip] == 40 && world.faults[.latentError] == 1)
    }
  }

  @Test("a heavy tail: few operations are very slow")
  func tail() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let process = world.process("p")
      process.machine.disk.speed.tail = LatencyTail(perMillion: 100_000, limit: .milliseconds(500))
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      let slice = process.buffers.slice(4096)
      var late = 0
      for _ in 0..<500 {
        let before = world.now
        try await file.write([slice], at: 0)
        let took = world.now - before
        #expect(took < .milliseconds(501))
        if took > .microseconds(110) { late += 1 }
      }
      #expect((20..<100).contains(late))
    }
  }
}
