import CKernel
import CURing
import Glibc
import Ring
import TestSupport
import Testing

@Suite("files")
struct FileTests {
  @Test("direct writes come back, at any offset and from several slices", arguments: Seed.several)
  func directWrites(seed: Seed) async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        var random = seed.generator
        let blockCount = 64
        var model = [UInt8](repeating: 0, count: blockCount * 4096)
        do throws(RingError) {
          let file = try await File.open(
            folder + "/data", O_RDWR | O_CREAT | O_DIRECT, on: driver)
          try await file.allocate(offset: 0, byteCount: UInt64(model.count))
          for _ in 0..<40 {
            let first = Int(random.next() % UInt64(blockCount - 8))
            var slices: [Slice] = []
            var place = first * 4096
            for _ in 0..<(1 + Int(random.next() % 3)) {
              let count = (1 + Int(random.next() % 2)) * 4096
              let bytes = random.bytes(count)
              slices.append(Slice(copying: bytes, pool: driver.buffers))
              model.replaceSubrange(place..<(place + count), with: bytes)
              place += count
            }
            try await file.write(slices, at: UInt64(first * 4096))
          }
          try await file.synchronize()
          try await file.synchronize(dataOnly: false)
          let whole = driver.buffers.slice(model.count + 4096)
          #expect(try await file.read(into: whole, at: 0) == model.count)
          #expect(whole[0..<model.count].array == model)
          let part = driver.buffers.slice(8192)
          #expect(try await file.read(into: part, at: 12288) == 8192)
          #expect(part.array == Array(model[12288..<20480]))
          await file.close()
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a time that nanoseconds in 64 bits do not hold becomes the nearest that they do")
  func distantTimes() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let path = folder + "/file"
          await (try File.open(path, O_RDWR | O_CREAT, on: driver)).close()
          let cases: [(seconds: Int, nanoseconds: Int, expected: Int64)] = [
            (9_223_372_036, 854_775_807, .max), (9_223_372_036, 854_775_808, .max),
            (9_223_372_037, 0, .max), (13_569_465_600, 5, .max), (-1, 999_999_999, -1),
            (-2_147_483_647, 7, -2_147_483_646_999_999_993),
          ]
          for (seconds, nanoseconds, expected) in cases {
            let times = [timespec(tv_sec: seconds, tv_nsec: nanoseconds)]
            #expect(utimensat(AT_FDCWD, path, times + times, 0) == 0)
            #expect(try await driver.status(path).modified == expected)
          }
          for modified in [Int64.max, -1, -2_147_483_646_999_999_993] {
            try await driver.perform(
              .setAttributes(path: path, mode: nil, modified: modified), "set attributes", path)
            #expect(try await driver.status(path).modified == modified)
          }
        } catch { Issue.record(error) }
      }
    }
  }

  @Test(
    "an open file's status is its own, whatever its path leads to; a listing has the same for each entry"
  )
  func openStatus() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let file = try await File.open(folder + "/data", O_RDWR | O_CREAT, on: driver)
          try await file.write([Slice(copying: [UInt8](repeating: 7, count: 5000))], at: 0)
          try await driver.perform(
            .makeSymbolicLink(path: folder + "/link", target: Array("data".utf8)), "link")
          #expect(try await file.status() == driver.status(folder + "/data"))
          for entry in try await driver.list(folder, withStatus: true) {
            let path = folder + "/" + String(decoding: entry.name, as: UTF8.self)
            #expect(try await entry.status == driver.status(path, followLinks: false))
          }
          #expect(try await driver.list(folder).allSatisfy { $0.status == nil })
          try await driver.remove(folder + "/data")
          #expect(try await file.status().byteCount == 5000)
          await file.close()
          #expect(
            await driver.submit(.fileStatus(descriptor: file.descriptor, Outcome())) == -EBADF)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a vector of thousands of slices is written in order")
  func manySlices() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let file = try await File.open(folder + "/data", O_RDWR | O_CREAT, on: driver)
          let bytes = (0..<5000).map { UInt8(truncatingIfNeeded: $0 / 7) }
          let source = Slice(copying: bytes, pool: driver.buffers)
          try await file.write((0..<5000).map { source[$0..<($0 + 1)] }, at: 0)
          let back = driver.buffers.slice(5000)
          #expect(try await file.read(into: back, at: 0) == 5000)
          #expect(back.array == bytes)
          await file.close()
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("names are made, listed in order of bytes, renamed and removed")
  func names() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          try await driver.makeDirectories(folder + "/a/b/c")
          for name in ["zz", "B", "b1", "é"] {
            await (try File.open(folder + "/a/" + name, O_WRONLY | O_CREAT, on: driver)).close()
          }
          try await driver.perform(
            .makeSymbolicLink(path: folder + "/a/link", target: Array("../x\u{FF}".utf8)), "link")
          let found = try await driver.list(folder + "/a")
          #expect(
            found.map { String(decoding: $0.name, as: UTF8.self) }
              == ["B", "b", "b1", "link", "zz", "é"])
          #expect(
            found.map(\.kind) == [.file, .directory, .file, .symbolicLink, .file, .file])
          let target = Outcome<[UInt8]>()
          try await driver.perform(.readSymbolicLink(path: folder + "/a/link", target), "readlink")
          #expect(target.value == Array("../x\u{FF}".utf8))

          #expect(
            await driver.submit(
              .rename(from: folder + "/a/B", to: folder + "/a/zz", exclusive: true)) == -EEXIST)
          try await driver.rename(folder + "/a/B", to: folder + "/a/zz")
          #expect(await driver.exists(folder + "/a/B") == false)
          #expect(
            await driver.submit(.remove(path: folder + "/a/b", isDirectory: true)) == -ENOTEMPTY)
          try await driver.remove(folder + "/a/b/c", isDirectory: true)
          try await driver.remove(folder + "/a/b", isDirectory: true)
          try await driver.remove(folder + "/a/zz")
          #expect(try await driver.list(folder + "/a").count == 3)
          try await driver.synchronizeDirectory(folder)
          #expect(
            await driver.submit(.list(path: folder + "/none", withStatus: false, Outcome()))
              == -ENOENT)
          #expect(
            await driver.submit(.open(path: folder + "/a\0b", flags: O_RDONLY, mode: 0)) == -EINVAL)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("attributes, length, holes and space are what was asked for")
  func attributes() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let path = folder + "/file"
          let file = try await File.open(path, O_RDWR | O_CREAT, mode: 0o600, on: driver)
          try await file.allocate(offset: 0, byteCount: 1 << 20)
          #expect(try await driver.status(path).allocatedByteCount >= 1 << 20)
          try await file.allocate(mode: 3, offset: 0, byteCount: 1 << 19)
          #expect(try await driver.status(path).allocatedByteCount <= (1 << 19) + 65536)
          try await file.truncate(to: 12345)
          let time: Int64 = -1_500_000_001
          try await driver.perform(
            .setAttributes(path: path, mode: 0o4640, modified: time), "attributes")
          let status = try await driver.status(path)
          #expect(status.byteCount == 12345)
          #expect(status.mode == 0o4640)
          #expect(status.modified == time)
          #expect(status.kind == .file)
          var expected = stat()
          #expect(stat(path, &expected) == 0)
          #expect(status.inode == UInt64(expected.st_ino))
          #expect(try await driver.status(folder).kind == .directory)
          let space = Outcome<FileSystemSpace>()
          try await driver.perform(.space(path: path, space), "space")
          #expect(space.value!.totalByteCount > space.value!.freeByteCount)
          #expect(space.value!.freeByteCount > 0)
          // Close-on-exec always.
          #expect(fcntl(file.descriptor, F_GETFD) & FD_CLOEXEC != 0)
          await file.close()
          #expect(fcntl(file.descriptor, F_GETFD) == -1)

          try await driver.perform(
            .makeSymbolicLink(path: folder + "/link", target: Array("file".utf8)), "link")
          #expect(try await driver.status(folder + "/link").kind == .file)
          #expect(
            try await driver.status(folder + "/link", followLinks: false).kind == .symbolicLink)
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a lock excludes a second holder until it is let go")
  func locks() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let first = try await File.open(folder + "/lock", O_RDWR | O_CREAT, on: driver)
          let second = try await File.open(folder + "/lock", O_RDWR, on: driver)
          #expect(try await first.lock())
          #expect(try await !second.lock())
          await first.close()
          #expect(try await lockSoon(second, on: driver))
          await second.close()
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a replaced file has the new bytes, a long one is refused by a limit")
  func replaces() async {
    await withTemporaryFolder { folder in
      await onLoop { driver in
        do throws(RingError) {
          let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
          try await driver.replaceFile(folder + "/f", with: [1, 2, 3])
          try await driver.replaceFile(folder + "/f", with: bytes)
          #expect(try await driver.readFile(folder + "/f") == bytes)
          #expect(try await driver.list(folder).count == 1)
          await #expect(throws: RingError.self) {
            try await driver.readFile(folder + "/f", limit: 1000)
          }
        } catch { Issue.record(error) }
      }
    }
  }

  @Test("a read of an empty pipe waits, and ends with its task")
  func pipes() async {
    await onLoop { driver in
      var ends: [Int32] = [0, 0]
      #expect(pipe(&ends) == 0)
      let (reading, writing) = (ends[0], ends[1])
      let reader = driver.spawn("reader") {
        let slice = driver.buffers.slice(100)
        #expect(
          await driver.submit(.read(descriptor: reading, into: slice, offset: .max)) == 3)
        #expect(
          await driver.submit(.read(descriptor: reading, into: slice, offset: .max)) == -ECANCELED)
      }
      await driver.sleep(.milliseconds(2))
      let text = Slice(copying: [1, 2, 3])
      #expect(
        await driver.submit(.write(descriptor: writing, from: [text], offset: .max)) == 3)
      await driver.sleep(.milliseconds(2))
      reader.cancel()
      await reader.wait()
      close(reading)
      close(writing)
    }
  }
}
