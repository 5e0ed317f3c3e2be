import Glibc
import Ring
import Simulation
import TestSupport
import Testing

@Suite struct FileTests {
  /// Short ones, and some of over 64 pages, which are kept in several pieces.
  @Test("files behave like an array of bytes", arguments: [40_000, 300_000], Seed.several)
  func model(reach: UInt64, seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      var random = seed.generator
      let process = world.process("p")
      process.machine.disk.shortTransfersPerThousand = 200
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      var model: [UInt8] = []
      for _ in 0..<8_000_000 / reach {
        let offset = Int(random.next() % reach)
        let count = Int(random.next() % (reach / 2))
        switch random.next() % 7 {
        case 0, 1, 2:
          let bytes = random.bytes(count)
          let cut = count / 3
          try await file.write(
            [Slice(copying: Array(bytes[..<cut])), Slice(copying: Array(bytes[cut...]))],
            at: UInt64(offset))
          if count > 0 {
            model += [UInt8](repeating: 0, count: max(0, offset + count - model.count))
            model.replaceSubrange(offset..<offset + count, with: bytes)
          }
        case 3:
          try await file.truncate(to: UInt64(offset))
          model = Array(model.prefix(offset))
          model += [UInt8](repeating: 0, count: offset - model.count)
        case 4:
          try await file.allocate(
            mode: 3, offset: UInt64(offset), byteCount: UInt64(count + 1))
          for index in offset..<max(offset, min(model.count, offset + count + 1)) {
            model[index] = 0
          }
        case 5:
          try await file.allocate(offset: UInt64(offset), byteCount: UInt64(count + 1))
          model += [UInt8](repeating: 0, count: max(0, offset + count + 1 - model.count))
        default: try await file.synchronize()
        }
        let slice = process.buffers.slice(count + 1)
        let found = try await file.read(into: slice, at: UInt64(offset))
        #expect(slice[0..<found].array == Array(model.dropFirst(offset).prefix(count + 1)))
      }
      #expect(try world.disk("p").contents("/f") == model)
    }
  }

  @Test("O_DIRECT wants everything aligned")
  func direct() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let file = try await File.open("/f", O_RDWR | O_CREAT | OpenFlags.direct, on: process)
      let slice = process.buffers.slice(8192)
      func write(_ slice: Slice, _ offset: UInt64) async -> Int32 {
        await process.submit(
          .write(descriptor: file.descriptor, from: [slice], offset: offset))
      }
      #expect(await write(slice, 0) == 8192)
      #expect(await write(slice, 4096) == 8192)
      #expect(await write(slice, 512) == -EINVAL)
      #expect(await write(slice[0..<4095], 0) == -EINVAL)
      #expect(await write(slice[1..<4097], 0) == -EINVAL)
      #expect(
        await process.submit(
          .read(descriptor: file.descriptor, into: slice[0..<100], offset: 0)) == -EINVAL)
    }
  }

  @Test("paths: links, mounts, dots, and what the kernel refuses")
  func paths() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let machine = world.machine("m")
      machine.mount("/data/d1", world.disk("d1"))
      let process = world.process("p", SimulatedProcess.Options(machine: machine))
      func errno(_ operation: RingOperation) async -> Int32 { -(await process.submit(operation)) }
      try await process.makeDirectories("/data/d1/a/b")
      try await process.replaceFile("/data/d1/a/b/f", with: [7])
      #expect(try world.disk("d1").contents("/a/b/f") == [7])
      #expect(try await process.readFile("/data/./d1/a/../a/b/f") == [7])
      #expect(
        await errno(.makeSymbolicLink(path: "/l", target: Array("data/d1/a".utf8))) == 0)
      #expect(try await process.readFile("/l/b/f") == [7])
      let target = Outcome<[UInt8]>()
      #expect(await errno(.readSymbolicLink(path: "/l", target)) == 0)
      #expect(target.value == Array("data/d1/a".utf8))
      #expect(try await process.status("/l", followLinks: false).kind == .symbolicLink)
      #expect(try await process.status("/l").kind == .directory)
      #expect(await errno(.rename(from: "/l", to: "/data/d1/l", exclusive: false)) == EXDEV)
      #expect(await errno(.remove(path: "/data/d1", isDirectory: true)) == EBUSY)
      #expect(await errno(.remove(path: "/data/d1/a", isDirectory: true)) == ENOTEMPTY)
      #expect(await errno(.remove(path: "/data/d1/a", isDirectory: false)) == EISDIR)
      #expect(await errno(.makeDirectory(path: "/data", mode: 0o755)) == EEXIST)
      #expect(await errno(.makeDirectory(path: "/x/y", mode: 0o755)) == ENOENT)
      #expect(await errno(.open(path: "/l/b/f/g", flags: O_RDONLY, mode: 0)) == ENOTDIR)
      #expect(
        await errno(.rename(from: "/data/d1/a", to: "/data/d1/a/b/c", exclusive: false)) == EINVAL)
      #expect(await errno(.makeSymbolicLink(path: "/loop", target: Array("/loop".utf8))) == 0)
      #expect(await errno(.open(path: "/loop", flags: O_RDONLY, mode: 0)) == ELOOP)
      #expect(
        await errno(
          .open(path: "/data/d1/a/b/f", flags: O_CREAT | O_EXCL | O_RDWR, mode: 0)) == EEXIST)
      #expect(try await process.list("/data/d1/a").map(\.name) == [Array("b".utf8)])
      try await process.replaceFile("/data/d1/g", with: [1, 2])
      #expect(
        await errno(.rename(from: "/data/d1/g", to: "/data/d1/a/b/f", exclusive: true)) == EEXIST)
      try await process.rename("/data/d1/g", to: "/data/d1/a/b/f")
      #expect(try await process.readFile("/l/b/f") == [1, 2])
      #expect(await !process.exists("/data/d1/g"))
      #expect(
        await errno(.setAttributes(path: "/l/b/f", mode: 0o4711, modified: 12345)) == 0)
      let status = try await process.status("/l/b/f")
      #expect(status.mode == 0o4711 && status.modified == 12345 && status.byteCount == 2)
      #expect(status.deviceNumber == world.disk("d1").number)
      #expect(try world.disk("d1").files() == ["/a/b/f"])
      // A name that is not UTF-8 makes the way there and back.
      let odd = "/data/" + PathText.string([0x66, 0xFF, 0x80])
      try await process.replaceFile(odd, with: [3])
      let names = try await process.list("/data").map(\.name)
      #expect(names == [Array("d1".utf8), [0x66, 0xFF, 0x80]])
      #expect(try await process.readFile(odd) == [3])
      #expect(await errno(.open(path: "/a\0b", flags: O_RDONLY, mode: 0)) == EINVAL)
    }
  }

  @Test("a lock has one holder; closing or dying frees it")
  func locks() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let machine = world.machine("m")
      let a = world.process("a", SimulatedProcess.Options(machine: machine))
      let b = world.process("b", SimulatedProcess.Options(machine: machine))
      let ofA = try await File.open("/lock", O_RDWR | O_CREAT, on: a)
      let ofB = try await File.open("/lock", O_RDWR | O_CREAT, on: b)
      #expect(try await ofA.lock())
      #expect(try await ofA.lock())
      #expect(try await !ofB.lock())
      await ofA.close()
      #expect(try await ofB.lock())
      b.kill()
      let again = try await File.open("/lock", O_RDWR | O_CREAT, on: a)
      #expect(try await again.lock())
    }
  }

  @Test("a full disk refuses what does not fit and has room again after a removal")
  func full() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let disk = process.machine.disk
      disk.capacityByteCount = 1 << 20
      let file = try await File.open("/f", O_RDWR | O_CREAT, on: process)
      try await file.allocate(offset: 0, byteCount: 900 << 10)
      let small = try await File.open("/g", O_RDWR | O_CREAT, on: process)
      let slice = process.buffers.slice(200 << 10)
      await #expect(throws: RingError(errno: ENOSPC, operation: "write", subject: "/g")) {
        try await small.write([slice], at: 0)
      }
      // What is reserved can be written.
      try await file.write([slice], at: 700 << 10)
      let space = Outcome<FileSystemSpace>()
      #expect(await process.submit(.space(path: "/f", space)) == 0)
      #expect(space.value == FileSystemSpace(totalByteCount: 1 << 20, freeByteCount: 0))
      try await process.remove("/f")
      #expect(disk.usedByteCount > 900 << 10)
      await file.close()
      #expect(disk.usedByteCount == 124 << 10)
      try await small.write([slice], at: 0)
    }
  }

  @Test("tens of megabytes are quick")
  func large() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("p")
      let file = try await File.open("/f", O_RDWR | O_CREAT | OpenFlags.direct, on: process)
      let slice = process.buffers.slice(1 << 20)
      try await file.allocate(offset: 0, byteCount: 1 << 30)
      for index in UInt64(0)..<64 {
        try await file.write([slice], at: index << 20)
        try await file.synchronize()
      }
      for index in UInt64(0)..<64 { _ = try await file.read(into: slice, at: index << 20) }
    }
  }
}
