import Ring
import Service
import Simulation
import TestSupport
import Testing

@testable import Tuning

@Suite("the choice of a profile")
struct ChoiceTests {
  struct Case: CustomTestStringConvertible, Sendable {
    var testDescription: String
    var transport: Transport?
    var rotational: Bool?
    var model: String?
    var fileSystem = "ext4"
    /// In microseconds: random and sequential reads, fdatasync; reads a second at depth 32. Nil: not measured.
    var figures: (random: Double, sequential: Double, sync: Double, rate: Double)?
    var profile: String
    var disagrees = ""
    var because = ""
  }

  static let cases: [Case] = [
    // What the kernel says, alone.
    Case(testDescription: "NVMe", transport: .nvme, rotational: false, profile: "nvme"),
    Case(
      testDescription: "instance store", transport: .nvme, rotational: false,
      model: "Amazon EC2 NVMe Instance Storage", profile: "nvme"),
    Case(
      testDescription: "EBS", transport: .nvme, rotational: false,
      model: "Amazon Elastic Block Store", profile: "cloud-volume", because: "Elastic"),
    Case(
      testDescription: "persistent disk", transport: .virtio, rotational: false,
      model: "PersistentDisk", profile: "cloud-volume"),
    Case(testDescription: "SATA SSD", transport: .sata, rotational: false, profile: "sata-ssd"),
    Case(testDescription: "SATA disk", transport: .sata, rotational: true, profile: "hdd"),
    Case(testDescription: "USB disk", transport: .usb, rotational: true, profile: "hdd"),
    Case(testDescription: "virtio", transport: .virtio, rotational: true, profile: "virtual-disk"),
    Case(testDescription: "Xen", transport: .xen, rotational: false, profile: "virtual-disk"),
    Case(
      testDescription: "silent", transport: .unknown, rotational: nil, profile: "virtual-disk"),
    Case(testDescription: "tmpfs", fileSystem: "tmpfs", profile: "tmpfs"),
    Case(testDescription: "nfs", fileSystem: "nfs", profile: "virtual-disk", because: "no disk"),
    // With figures.
    Case(
      testDescription: "virtio that says it rotates and answers like flash", transport: .virtio,
      rotational: true, figures: (90, 80, 300, 90_000), profile: "virtual-disk",
      disagrees: "kernel says rotational, but random reads take 90 us", because: "no head moves"),
    Case(
      testDescription: "SATA that says it rotates and answers like flash", transport: .sata,
      rotational: true, figures: (110, 90, 900, 70_000), profile: "sata-ssd",
      disagrees: "kernel says rotational"),
    Case(
      testDescription: "RAID controller that hides its disks", transport: .scsi, rotational: false,
      figures: (7_900, 120, 8_000, 250), profile: "hdd",
      disagrees: "kernel says not rotational, but random reads take 7.9 ms, 65 times"),
    Case(
      testDescription: "virtual disk on rotating ones", transport: .virtio, rotational: false,
      figures: (6_000, 200, 9_000, 400), profile: "hdd", disagrees: "not rotational"),
    Case(
      testDescription: "disk", transport: .sata, rotational: true,
      figures: (8_300, 60, 16_000, 210), profile: "hdd", because: "a head moves"),
    Case(
      testDescription: "SAS flash faster than SATA", transport: .scsi, rotational: false,
      figures: (80, 70, 60, 300_000), profile: "nvme", because: "more than SATA carries"),
    Case(
      testDescription: "virtio behind a network", transport: .virtio, rotational: false,
      figures: (600, 550, 1_500, 12_000), profile: "cloud-volume", because: "network"),
    Case(
      testDescription: "slow, but no slower at random", transport: .virtio, rotational: true,
      figures: (2_500, 2_400, 3_000, 3_000), profile: "cloud-volume"),
    Case(
      testDescription: "NVMe", transport: .nvme, rotational: false, figures: (85, 20, 25, 400_000),
      profile: "nvme"),
    Case(
      testDescription: "network file system on disks", fileSystem: "nfs",
      figures: (9_000, 300, 12_000, 300), profile: "hdd"),
  ]

  @Test("fits what the device is and does", arguments: cases)
  func choice(it: Case) {
    var facts = DeviceFacts(path: "/d", fileSystem: it.fileSystem)
    if let transport = it.transport {
      facts.device = BlockDevice(name: "disk", transport: transport, isRotational: it.rotational)
      facts.device?.model = it.model
    }
    let figures = it.figures.map { given in
      func latency(_ microseconds: Double) -> Latency {
        let time = Duration.nanoseconds(Int64(microseconds * 1e3))
        return Latency(median: time, tail: time * 2, count: 100)
      }
      var figures = DeviceFigures()
      figures.randomRead = latency(given.random)
      figures.sequentialRead = latency(given.sequential)
      figures.smallSync = latency(given.sync)
      figures.randomReadRate = given.rate
      return figures
    }
    let choice = ProfileChoice(facts, figures)
    #expect(choice.profile.name == it.profile, "\(choice)")
    #expect(!choice.reasons.isEmpty)
    #expect(choice.reasons.contains { $0.contains(it.because) } || it.because.isEmpty, "\(choice)")
    if it.disagrees.isEmpty {
      #expect(choice.disagreements == [])
    } else {
      #expect(choice.disagreements.contains { $0.contains(it.disagrees) }, "\(choice)")
    }
  }

  @Test("figures of the page cache are figures of memory, and choose nothing")
  func cached() {
    var facts = DeviceFacts(path: "/d", fileSystem: "ext4")
    facts.device = BlockDevice(name: "sda", transport: .sata, isRotational: true)
    var figures = DeviceFigures()
    figures.isDirect = false
    figures.randomRead = Latency(median: .microseconds(1), tail: .microseconds(2), count: 9)
    figures.sequentialRead = figures.randomRead
    #expect(ProfileChoice(facts, figures).profile.name == "hdd")
  }

  @Test("of several disks the one that asks for most care counts")
  func stacked() {
    var facts = DeviceFacts(path: "/d", fileSystem: "xfs")
    facts.device = BlockDevice(name: "dm-0", transport: .mapper)
    facts.device?.parts = [
      BlockDevice(name: "nvme0n1", transport: .nvme, isRotational: false),
      BlockDevice(name: "sda", transport: .sata, isRotational: true),
    ]
    let choice = ProfileChoice(facts)
    #expect(choice.profile.name == "hdd")
    #expect(choice.reasons.first == "dm-0 is made of nvme0n1, sda")
    #expect(choice.disagreements.count == 1)
  }

  @Test("every figure makes some choice, with a reason", arguments: Seed.several)
  func anything(seed: Seed) {
    var random = seed.generator
    for _ in 0..<2000 {
      var facts = DeviceFacts(path: "/d", fileSystem: "ext4")
      if Bool.random(using: &random) {
        facts.device = BlockDevice(
          name: "d", transport: Transport.allCases.randomElement(using: &random)!,
          isRotational: [nil, true, false].randomElement(using: &random)!)
      }
      func latency() -> Latency? {
        let time = Duration.nanoseconds(
          Int64.random(in: 0...1 << Int.random(in: 1...62, using: &random), using: &random))
        return Int.random(in: 0..<5, using: &random) == 0
          ? nil : Latency(median: time, tail: time, count: 1)
      }
      var figures = DeviceFigures()
      figures.randomRead = latency()
      figures.sequentialRead = latency()
      figures.smallSync = latency()
      figures.randomReadRate = Double.random(in: 0...1e7, using: &random)
      let choice = ProfileChoice(facts, figures)
      #expect(!choice.reasons.isEmpty)
      #expect(BuiltInProfiles.all.contains(choice.profile))
    }
  }

  @Test("times are short and round")
  func times() {
    #expect(shortTime(.nanoseconds(91_400)) == "91 us")
    #expect(shortTime(.microseconds(8_300)) == "8.3 ms")
    #expect(shortTime(.nanoseconds(900)) == "0.9 us")
    #expect(shortTime(.microseconds(999)) == "999 us")
    #expect(shortTime(.nanoseconds(999_900)) == "1 ms")
    #expect(shortTime(.milliseconds(1_200)) == "1.2 s")
    #expect(shortTime(.zero) == "0 us")
  }
}

/// What the kernel says, told by a simulated one.
@Suite("the kernel's files")
struct DeviceFactsTests {
  /// Lays the files of a disk where the kernel has them.
  private static func describe(
    _ process: SimulatedProcess, number: String, place: String, _ files: [String: String]
  ) async throws {
    for (name, text) in files.sorted(by: { $0.key < $1.key }) {
      let path = "/sys/" + place + "/" + name
      try await process.makeDirectories(String(path[..<path.lastIndex(of: "/")!]))
      let file = try await File.open(
        path, OpenFlags.readWrite | OpenFlags.create, on: process)
      try await file.write([Slice(copying: Array((text + "\n").utf8))], at: 0)
      await file.close()
    }
    try await process.makeDirectories("/sys/dev/block")
    try await process.perform(
      .makeSymbolicLink(path: "/sys/dev/block/" + number, target: Array(("../../" + place).utf8)),
      "symlink")
  }

  private static let queue = [
    "queue/rotational": "1", "queue/scheduler": "none [mq-deadline] kyber",
    "queue/nr_requests": "256",
    "queue/read_ahead_kb": "8192", "queue/logical_block_size": "512",
    "queue/physical_block_size": "4096", "queue/io_poll": "0", "queue/write_cache": "write back",
    "queue/dax": "0", "size": "2048", "ro": "0",
  ]

  @Test("a disk is read from sysfs")
  func disk() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n")
      let number = try await process.fileSystem("/").minor
      try await Self.describe(
        process, number: "0:\(number)", place: "devices/pci0000:00/virtio1/block/vda", Self.queue)
      let facts = try await DeviceFacts.read("/not/there/yet", on: process)
      #expect(facts.fileSystem == "ext4")
      let device = try #require(facts.device)
      #expect(device.name == "vda")
      #expect(device.transport == .virtio)
      #expect(device.isRotational == true)
      #expect(device.scheduler == "mq-deadline")
      #expect(device.requestCount == 256)
      #expect(device.readAheadKiB == 8192)
      #expect(device.logicalBlockByteCount == 512)
      #expect(device.physicalBlockByteCount == 4096)
      #expect(device.writeCache == "write back")
      #expect(device.byteCount == 1 << 20)
      #expect(device.model == nil)
      #expect(ProfileChoice(facts).profile.name == "virtual-disk")
    }
  }

  @Test("a partition is its disk, and device-mapper what it is made of")
  func stack() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n")
      let number = try await process.fileSystem("/").minor
      let sata = "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda"
      var files = Self.queue
      files["sda1/partition"] = "1"
      files["sda1/size"] = "4096"
      files["device/model"] = "ST4000NM0035   "
      files["device/vendor"] = "ATA     "
      try await Self.describe(process, number: "8:0", place: sata, files)
      try await process.perform(
        .makeSymbolicLink(
          path: "/sys/dev/block/8:1", target: Array(("../../" + sata + "/sda1").utf8)), "symlink")
      try await Self.describe(
        process, number: "0:\(number)", place: "devices/virtual/block/dm-0",
        ["queue/rotational": "1", "size": "4096", "slaves/sda1/dev": "8:1"])
      let device = try #require(try await DeviceFacts.read("/", on: process).device)
      #expect(device.transport == .mapper)
      #expect(device.leaves.map(\.name) == ["sda"])
      #expect(device.leaves[0].transport == .sata)
      #expect(device.leaves[0].model == "ST4000NM0035")
      #expect(device.leaves[0].byteCount == 2 << 20)
      #expect(device.description == "dm-0 (mapper) on sda (sata ATA ST4000NM0035)")
      #expect(ProfileChoice(try await DeviceFacts.read("/", on: process)).profile.name == "hdd")
    }
  }

  @Test("a file system without a device number of a disk is looked up among the mounts")
  func mounts() throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("n")
      try await process.makeDirectories("/proc/self")
      let file = try await File.open(
        "/proc/self/mountinfo", OpenFlags.readWrite | OpenFlags.create, on: process)
      try await file.write(
        [
          Slice(
            copying: Array(
              """
              27 1 254:0 / / rw,relatime - ext4 /dev/root rw
              36 27 0:52 / /srv rw,relatime shared:1 master:2 - btrfs /dev/sdb1 rw,space_cache=v2
              37 27 0:53 / /net rw - nfs server:/x rw
              short
              """.utf8))
        ], at: 0)
      await file.close()
      let kernel = KernelFiles(driver: process)
      #expect(await kernel.source(ofMount: "0:52") == "/dev/sdb1")
      #expect(await kernel.source(ofMount: "0:53") == nil)
      #expect(await kernel.source(ofMount: "0:99") == nil)
      // A simulated disk has nothing in sysfs.
      #expect(try await DeviceFacts.read("/", on: process).device == nil)
    }
  }

  @Test(
    "where a disk stands tells how it is attached",
    arguments: [
      ("nvme0n1", "/sys/devices/pci0/0000:01:00.0/nvme/nvme0/nvme0n1", Transport.nvme),
      (
        "sda", "/sys/devices/pci0/0000:00:05.0/virtio2/host0/target0:0:0/0:0:0:0/block/sda", .virtio
      ),
      ("sda", "/sys/devices/LNXSYSTM:00/VMBUS:01/f8b3/host0/target0/0/block/sda", .hyperV),
      ("xvda", "/sys/devices/vbd-51712/block/xvda", .xen),
      ("sdb", "/sys/devices/pci0/usb1/1-1/host6/target6:0:0/6:0:0:0/block/sdb", .usb),
      ("sdc", "/sys/devices/pci0/0000:03:00.0/host8/target8:0:0/8:0:0:0/block/sdc", .scsi),
      ("mmcblk0", "/sys/devices/platform/mmc_host/mmc0/block/mmcblk0", .mmc),
      ("md127", "/sys/devices/virtual/block/md127", .raid),
      ("loop3", "/sys/devices/virtual/block/loop3", .loop),
      ("zram0", "/sys/devices/virtual/block/zram0", .memory),
      ("fd0", "/sys/devices/platform/floppy.0/block/fd0", .unknown),
    ])
  func transports(name: String, place: String, transport: Transport) {
    #expect(KernelFiles.transport(name: name, place: place) == transport)
  }
}

@Suite("measuring")
struct MeasurementTests {
  @Test(
    "a simulated disk is measured within its time, and nothing is left behind",
    arguments: Seed.several)
  func measured(seed: Seed) throws {
    try SimulatedWorld.run(seed: seed.value) { world in
      let process = world.process("n")
      try await process.makeDirectories("/d")
      let began = process.now
      let figures = try await DeviceMeasurement(runtime: .milliseconds(50), on: process)
        .measure(directory: "/d", freeByteCount: 256 << 20)
      #expect(process.now - began < .milliseconds(200))
      #expect(try await process.list("/d").isEmpty)
      #expect(figures.isDirect)
      #expect(figures.hasPreallocation == true)
      #expect(figures.hasPunching == true)
      #expect(figures.randomRead != nil && figures.sequentialRead != nil)
      #expect(figures.smallSync != nil && figures.largeSync != nil)
      #expect(figures.reads.count == 3 && figures.writes.count == 3)
      #expect(try #require(figures.randomReadRate) > 0)
    }
  }

  @Test("what cannot be measured is said in a line, and nothing is left behind")
  func refused() throws {
    try SimulatedWorld.run(seed: 3) { world in
      let process = world.process("n")
      try await process.makeDirectories("/d")
      func refusal(_ free: UInt64, _ change: (SimulatedDisk) -> Void) async -> String {
        let disk = world.disk("n")
        change(disk)
        defer {
          disk.isReadOnly = false
          disk.faults = nil
        }
        do throws(DeviceMeasurement.Refused) {
          _ = try await DeviceMeasurement(runtime: .milliseconds(30), on: process)
            .measure(directory: "/d", freeByteCount: free)
          return ""
        } catch {
          return "\(error)"
        }
      }
      #expect(
        await refusal(1 << 20, { _ in }).contains("too small: 1 MiB are free, 64 MiB are needed"))
      #expect(await refusal(1 << 30, { $0.isReadOnly = true }).contains("read-only"))
      #expect(
        await refusal(1 << 30) { disk in
          disk.faults = { $0.kind == .write ? .fail(28) : .none }
        }.contains("too small: the file system is full"))
      #expect(
        await refusal(1 << 30) { disk in
          disk.faults = { $0.kind == .read ? .fail(5) : .none }
        }.contains("read"))
      #expect(try await process.list("/d").isEmpty)
    }
  }

  @Test("without direct I/O the page cache is measured, and that is said")
  func buffered() throws {
    try SimulatedWorld.run(seed: 4) { world in
      let process = world.process("n")
      world.disk("n").hasDirectIO = false
      world.disk("n").faults = { $0.kind == .allocate ? .fail(95) : .none }
      try await process.makeDirectories("/d")
      let figures = try await DeviceMeasurement(runtime: .milliseconds(30), on: process)
        .measure(directory: "/d", freeByteCount: 256 << 20)
      #expect(!figures.isDirect)
      #expect(figures.hasDirectIO == false)
      #expect(figures.hasPreallocation == false)
      #expect(figures.hasPunching == false)
      #expect(figures.seekPenalty == nil)
      #expect(try await process.list("/d").isEmpty)
    }
  }
}
