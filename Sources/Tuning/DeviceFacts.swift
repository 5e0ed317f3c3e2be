package import Ring

/// How a disk is attached, as its place among the kernel's devices shows.
package enum Transport: String, Sendable, CaseIterable {
  case nvme, virtio, sata, scsi, usb, mmc
  case xen
  case hyperV = "hyper-v"
  /// A file as a disk.
  case loop
  /// Made of other disks: device-mapper, md.
  case mapper, raid
  /// Memory as a disk: zram, brd.
  case memory
  case unknown

  /// What the kernel shows there was handed to a guest by a hypervisor, which need not say what it is.
  package var isVirtual: Bool { self == .virtio || self == .xen || self == .hyperV }
}

/// What the kernel says of a block device. Nil where it does not say.
package struct BlockDevice: Equatable, Sendable {
  /// "vda"; of a partition its disk's.
  package var name: String
  package var transport: Transport
  package var isRotational: Bool?
  package var scheduler: String?
  package var requestCount: Int?
  package var readAheadKiB: Int?
  package var logicalBlockByteCount: Int?
  package var physicalBlockByteCount: Int?
  /// Completions may be polled for instead of waited for.
  package var polls: Bool?
  /// "write back" or "write through".
  package var writeCache: String?
  package var isDAX: Bool?
  package var vendor: String?
  package var model: String?
  package var byteCount: UInt64?
  package var isReadOnly: Bool?
  /// Below device-mapper, md and loop devices: what they are made of.
  package var parts: [BlockDevice] = []

  package init(name: String, transport: Transport, isRotational: Bool? = nil) {
    self.name = name
    self.transport = transport
    self.isRotational = isRotational
  }

  /// The disks at the bottom.
  package var leaves: [BlockDevice] { parts.isEmpty ? [self] : parts.flatMap(\.leaves) }

  /// "vda (virtio)", with what it is made of.
  package var description: String {
    let words = [transport.rawValue, vendor, model].compactMap { $0 }.filter {
      // PCI ids and the like tell people nothing.
      !$0.isEmpty && !$0.hasPrefix("0x")
    }
    let below = parts.isEmpty ? "" : " on " + parts.map(\.description).joined(separator: ", ")
    return "\(name) (\(words.joined(separator: " ")))\(below)"
  }
}

/// What the kernel says of a path that is to be, or is, a device of a node.
package struct DeviceFacts: Equatable, Sendable {
  package var path: String
  package var isBlockDevice = false
  /// "ext4"; "unknown (0x1234)" for a type that has no name here.
  package var fileSystem: String
  package var isReadOnly = false
  package var totalByteCount: UInt64 = 0
  package var freeByteCount: UInt64 = 0
  /// Nil for memory, networks, and layers that do not say.
  package var device: BlockDevice?

  package init(path: String, fileSystem: String, device: BlockDevice? = nil) {
    self.path = path
    self.fileSystem = fileSystem
    self.device = device
  }

  /// File systems in memory.
  package var isMemory: Bool { fileSystem == "tmpfs" || fileSystem == "ramfs" }

  /// Asks the kernel, without any measuring.
  ///
  /// - Parameter path: of a directory or a block device; while a directory is not there, the nearest one above it
  ///   that is.
  package static func read(_ path: String, on driver: any Driver) async throws(RingError)
    -> DeviceFacts
  {
    var place = path
    var found: FileSystemFacts
    while true {
      do throws(RingError) {
        found = try await driver.fileSystem(place)
        break
      } catch {
        guard error.errno == Errno.noEntry, let cut = place.utf8.lastIndex(of: slash),
          place != "/"
        else { throw error }
        place = cut == place.startIndex ? "/" : String(place[..<cut])
      }
    }
    var facts = DeviceFacts(path: path, fileSystem: name(ofType: found.type))
    facts.isBlockDevice = found.isBlockDevice
    facts.isReadOnly = found.isReadOnly
    if !found.isBlockDevice {
      let space = try await driver.space(place)
      facts.totalByteCount = space.totalByteCount
      facts.freeByteCount = space.freeByteCount
    }
    let kernel = KernelFiles(driver: driver)
    if let device = await kernel.device("\(found.major):\(found.minor)", depth: 0) {
      facts.device = device
    } else if let source = await kernel.source(ofMount: "\(found.major):\(found.minor)"),
      let under = try? await driver.fileSystem(source), under.isBlockDevice
    {
      // btrfs and others have numbers of their own.
      facts.device = await kernel.device("\(under.major):\(under.minor)", depth: 0)
    }
    if facts.isBlockDevice {
      facts.fileSystem = "none"
      facts.isReadOnly = facts.device?.isReadOnly ?? false
      facts.totalByteCount = facts.device?.byteCount ?? 0
    }
    return facts
  }

  /// statfs(2)'s magic numbers.
  static func name(ofType type: UInt64) -> String {
    switch type {
    case 0xEF53: "ext4"  // and ext2, ext3
    case 0x5846_5342: "xfs"
    case 0x9123_683E: "btrfs"
    case 0xF2F5_2010: "f2fs"
    case 0x2FC1_2FC1: "zfs"
    case 0xCA45_1A4E: "bcachefs"
    case 0x0102_1994: "tmpfs"
    case 0x8584_58F6: "ramfs"
    case 0x794C_7630: "overlayfs"
    case 0x6969: "nfs"
    case 0xFF53_4D42, 0xFE53_4D42: "cifs"
    case 0x6573_5546: "fuse"
    case 0x0102_1997: "9p"
    case 0x00C3_6400: "ceph"
    case 0x4D44: "vfat"
    case 0x2011_BAB0: "exfat"
    case 0x7371_7368, 0x7371_7368 + 1: "squashfs"
    case 0x9660: "iso9660"
    default: "unknown (0x\(String(type, radix: 16)))"
    }
  }
}

let slash = UInt8(ascii: "/")

/// The files in which the kernel tells of its devices.
struct KernelFiles {
  let driver: any Driver

  /// A device by "MAJOR:MINOR"; nil when there is no such block device.
  func device(_ majorMinor: String, depth: Int) async -> BlockDevice? {
    let entry = "/sys/dev/block/\(majorMinor)"
    let outcome = Outcome<[UInt8]>()
    guard await driver.submit(.readSymbolicLink(path: entry, outcome)) == 0,
      let target = outcome.value
    else { return nil }
    // "../../devices/pci0000:00/.../block/vda", for a partition with "/vda1" at the end.
    var words = String(decoding: target, as: UTF8.self).split(separator: "/").drop { $0 == ".." }
    if await driver.exists("/sys/" + words.joined(separator: "/") + "/partition") {
      words = words.dropLast()
    }
    guard let name = words.last else { return nil }
    let folder = "/sys/" + words.joined(separator: "/")
    var device = BlockDevice(
      name: String(name), transport: Self.transport(name: String(name), place: folder))
    device.isRotational = await flag(folder + "/queue/rotational")
    device.scheduler = (await line(folder + "/queue/scheduler")).map(Self.activeScheduler)
    device.requestCount = await number(folder + "/queue/nr_requests")
    device.readAheadKiB = await number(folder + "/queue/read_ahead_kb")
    device.logicalBlockByteCount = await number(folder + "/queue/logical_block_size")
    device.physicalBlockByteCount = await number(folder + "/queue/physical_block_size")
    device.polls = await flag(folder + "/queue/io_poll")
    device.writeCache = await line(folder + "/queue/write_cache")
    device.isDAX = await flag(folder + "/queue/dax")
    device.vendor = await line(folder + "/device/vendor")
    device.model = await line(folder + "/device/model")
    device.isReadOnly = await flag(folder + "/ro")
    // Of a partition its own.
    if let sectors = await number(entry + "/size") {
      device.byteCount = UInt64(max(0, sectors)).multipliedReportingOverflow(by: 512).partialValue
    }
    // A loop is impossible, a deep stack is not.
    guard depth < 8 else { return device }
    if let below = try? await driver.list(folder + "/slaves") {
      for entry in below {
        if let part = await line(folder + "/slaves/\(PathText.string(entry.name))/dev"),
          let found = await self.device(part, depth: depth + 1)
        {
          device.parts.append(found)
        }
      }
    }
    if let file = await line(folder + "/loop/backing_file"), file.utf8.first == slash,
      let under = try? await driver.fileSystem(file),
      let found = await self.device("\(under.major):\(under.minor)", depth: depth + 1)
    {
      device.parts.append(found)
    }
    return device
  }

  /// The device file that the file system numbered "MAJOR:MINOR" was mounted from.
  func source(ofMount number: String) async -> String? {
    guard let bytes = try? await driver.readFile("/proc/self/mountinfo", limit: 4 << 20) else {
      return nil
    }
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      // "36 35 98:0 /root /mount options - type source options", with any number of words before the "-".
      let words = line.split(separator: " ")
      guard words.count > 6, words[2] == number,
        let dash = words.dropFirst(6).firstIndex(of: "-"), dash + 2 < words.count
      else { continue }
      return words[dash + 2].utf8.first == slash ? String(words[dash + 2]) : nil
    }
    return nil
  }

  static func transport(name: String, place: String) -> Transport {
    let place = place.lowercased()
    if name.hasPrefix("loop") { return .loop }
    if name.hasPrefix("dm-") { return .mapper }
    if name.hasPrefix("md") { return .raid }
    if name.hasPrefix("zram") || name.hasPrefix("ram") || name.hasPrefix("pmem") { return .memory }
    // The hypervisor's bus before the disk's: virtio-scsi is virtio.
    if place.contains("/virtio") { return .virtio }
    if place.contains("/vbd-") { return .xen }
    if place.contains("/vmbus") || place.contains("vmbus:") { return .hyperV }
    if name.hasPrefix("nvme") || place.contains("/nvme") { return .nvme }
    if place.contains("/usb") { return .usb }
    if place.contains("/ata") { return .sata }
    if place.contains("/mmc") { return .mmc }
    if place.contains("/host") { return .scsi }
    return .unknown
  }

  /// "none [mq-deadline] kyber" has mq-deadline.
  static func activeScheduler(_ text: String) -> String {
    guard let open = text.firstIndex(of: "["), let close = text[open...].firstIndex(of: "]") else {
      return text
    }
    return String(text[text.index(after: open)..<close])
  }

  /// The first line, without the spaces around it; nil when the file is not there or empty.
  func line(_ path: String) async -> String? {
    guard let bytes = try? await driver.readFile(path, limit: 64 << 10) else { return nil }
    var line = String(decoding: bytes, as: UTF8.self).prefix { !$0.isNewline }[...]
    while line.first?.isWhitespace == true { line = line.dropFirst() }
    while line.last?.isWhitespace == true { line = line.dropLast() }
    return line.isEmpty ? nil : String(line)
  }

  func number(_ path: String) async -> Int? { (await line(path)).flatMap { Int($0) } }

  func flag(_ path: String) async -> Bool? { (await number(path)).map { $0 != 0 } }
}
