import Ring
import Simulation
import TestSupport
import Testing

@testable import Bench

@Suite("running")
struct RunTests {
  @Test(
    "every engine runs, and reports what it moved",
    arguments: [
      "raw --rw=randrw --bs=4k --iodepth=8 --size=1m --direct=1 --fdatasync=16",
      "raw --rw=randread --bs=4k --numjobs=3 --size=1m --group_reporting",
      "raw --rw=randwrite --bs=4k --iodepth=8 --size=1m --verify=crc32c",
      "store --rw=write --bs=1m --iodepth=4 --size=8m",
      "store --rw=randrw --bs=64k --iodepth=8 --size=8m",
      "node --rw=randrw --bs=64k --iodepth=8 --size=8m",
      "node --rw=write --bs=1m --iodepth=4 --size=8m --numjobs=2",
      "net --rw=rw --bs=64k --iodepth=4 --size=8m",
      "net --protocol=wire --rw=rw --bs=64k --iodepth=4 --size=8m",
      "cluster --rw=rw --bs=256k --iodepth=4 --size=4m --scheme=1+1",
      "meta --rw=randrw --bs=512 --iodepth=16 --size=64k",
      "s3 --rw=randrw --bs=64k --iodepth=8 --size=2m",
    ])
  func engines(words: String) async throws {
    try await withFolder { driver, folder in
      let outcome = try await run(words + " --name=t --directory=\(folder)", on: driver)
      for job in outcome.jobs {
        let all = job.statistics
        if job.options.pattern.reads { #expect(all.read.count > 0) }
        if job.options.pattern.writes { #expect(all.write.count > 0) }
        let moved = all.read.byteCount + all.write.byteCount
        let size = job.options.byteCount! * UInt64(job.jobCount)
        #expect(moved >= size / 2 && moved <= size * 2)
        #expect(all.elapsed > .zero)
        #expect(all.read.latency.summary.count == all.read.count)
        if job.options.dataSyncEvery > 0 { #expect(all.sync.summary.count == all.write.count / 16) }
        if job.options.verification != .none { #expect(all.verifiedCount == all.write.count) }
      }
      #expect(!HumanReport.make(outcome).isEmpty)
      #expect(JSONReport.make(outcome).text.hasPrefix("{"))
      // What is bench's own and not a raw job's file goes.
      let left = try await driver.list(folder).map { PathText.string($0.name) }
      #expect(left.allSatisfy { words.hasPrefix("raw") && $0.hasPrefix("t.") }, "\(left)")
    }
  }

  @Test("a file that holds data is not written to, and stays as it is, unless the option says so")
  func existingData() async throws {
    try await withFolder { driver, folder in
      let path = folder + "/precious"
      let precious = Array("do not touch".utf8) + [UInt8](repeating: 7, count: 100_000)
      try await driver.replaceFile(path, with: precious)
      for pattern in ["write", "randwrite", "randrw", "rw"] {
        let found = await refusal {
          _ = try await run("raw --rw=\(pattern) --bs=4k --size=64k --filename=\(path)", on: driver)
        }
        #expect(
          found.contains("holds data") && found.contains("--overwrite-existing-data"), "\(found)")
      }
      #expect(try await driver.readFile(path) == precious)
      // Reading does no harm, also where the file is shorter than asked for.
      _ = try await run("raw --rw=read --bs=4k --size=64k --filename=\(path)", on: driver)
      let found = await refusal {
        _ = try await run("raw --rw=read --bs=4k --size=1m --filename=\(path)", on: driver)
      }
      #expect(found.contains("not the size asked for"), "\(found)")
      #expect(try await driver.readFile(path) == precious)
      _ = try await run(
        "raw --rw=write --bs=4k --size=64k --overwrite-existing-data --filename=\(path)", on: driver
      )
      #expect(try await driver.readFile(path) != precious)
    }
  }

  @Test("what is refused in one job leaves the files of all jobs alone")
  func nothingBefore() async throws {
    try await withFolder { driver, folder in
      try await driver.replaceFile(folder + "/precious", with: Array(repeating: 1, count: 9000))
      let found = await refusal {
        _ = try await run(
          "raw --size=64k --directory=\(folder) --name=a --rw=write --name=b --rw=write --filename=precious",
          on: driver)
      }
      #expect(found.contains("holds data"))
      #expect(await !driver.exists(folder + "/a.0.0"))
    }
  }

  @Test("a device is not written to, and a directory is no file")
  func devices() async throws {
    try await onLoop { driver in
      let device = await refusal {
        _ = try await run("raw --rw=write --size=64k --filename=/dev/zero", on: driver)
      }
      #expect(device.contains("is a device"), "\(device)")
      let directory = await refusal {
        _ = try await run("raw --rw=read --size=64k --filename=/var/tmp", on: driver)
      }
      #expect(directory.contains("is a directory"), "\(directory)")
    }
  }

  @Test("bench writes again to its own file, but not once somebody else has")
  func ownFile() async throws {
    try await withFolder { driver, folder in
      let words = "raw --rw=randwrite --bs=4k --size=64k --name=t --directory=\(folder)"
      _ = try await run(words, on: driver)
      _ = try await run(words, on: driver)
      let file = try await File.open(folder + "/t.0.0", OpenFlags.readWrite, on: driver)
      try await file.write([Slice(copying: [1, 2, 3])], at: 5)
      await file.close()
      // The file system's clock has ticks; within one the change would not show.
      try await driver.perform(
        .setAttributes(path: folder + "/t.0.0", mode: nil, modified: 1_000_000_000), "utimes")
      let found = await refusal { _ = try await run(words, on: driver) }
      #expect(found.contains("holds data"), "\(found)")
    }
  }

  @Test("unlink=1 leaves nothing")
  func unlink() async throws {
    try await withFolder { driver, folder in
      _ = try await run(
        "raw --rw=randwrite --bs=4k --size=64k --name=t --unlink=1 --directory=\(folder)",
        on: driver)
      #expect(try await driver.list(folder).isEmpty)
    }
  }

  @Test("verify finds a byte that changed")
  func damage() async throws {
    try await withFolder { driver, folder in
      let words = "raw --bs=4k --size=256k --name=t --verify=crc32c --directory=\(folder)"
      _ = try await run(words + " --rw=write", on: driver)
      _ = try await run(words + " --rw=randread", on: driver)
      let file = try await File.open(folder + "/t.0.0", OpenFlags.readWrite, on: driver)
      try await file.write([Slice(copying: [0xFF])], at: 100_000)
      await file.close()
      let found = await refusal { _ = try await run(words + " --rw=randread", on: driver) }
      #expect(
        found.contains("not those that were written") && found.contains("at 98304"), "\(found)")
    }
  }

  @Test("a directory that is there already is not bench's to use")
  func scratch() async throws {
    try await withFolder { driver, folder in
      try await driver.makeDirectories(folder + "/t.0.store")
      let found = await refusal {
        _ = try await run(
          "store --rw=write --bs=64k --size=1m --name=t --directory=\(folder)", on: driver)
      }
      #expect(found.contains("is there already"), "\(found)")
      #expect(await driver.exists(folder + "/t.0.store"))
    }
  }

  @Test(
    "in simulated time a rate, a ramp and a runtime are kept to the letter", arguments: Seed.several
  )
  func simulated(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("bench")
      let outcome = try await run(
        "raw --rw=randread --bs=4k --iodepth=4 --size=1m --rate=400k --ramp_time=2 --runtime=10 --time_based"
          + " --filename=/file", on: process)
      let read = outcome.jobs[0].statistics.read
      let expected = 10.0 * 400 * 1024
      #expect(abs(Double(read.byteCount) - expected) < expected * 0.02, "\(read.byteCount)")
      #expect(abs(outcome.jobs[0].statistics.elapsed.inSeconds - 10) < 0.1)
    }
  }

  @Test("a run that is cancelled ends soon, and its transfers are counted", arguments: Seed.several)
  func cancelled(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("bench")
      let outcome = Promise<RunOutcome?>()
      let task = process.spawn("run") {
        outcome.fulfil(
          try? await run(
            "raw --rw=randread --bs=4k --size=1m --runtime=600 --time_based --filename=/file",
            on: process))
      }
      await process.sleep(.seconds(20))
      task.cancel()
      let found = await outcome.get()
      #expect((found?.jobs[0].statistics.read.count ?? 0) > 0)
      #expect(process.now < .seconds(25))
    }
  }
}
