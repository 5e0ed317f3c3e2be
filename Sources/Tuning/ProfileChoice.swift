/// Which built-in profile fits a device, and why.
package struct ProfileChoice: Equatable, Sendable {
  package var profile: DiskProfile
  /// What spoke for it, with its figure; a line each.
  package var reasons: [String] = []
  /// Where kernel and measurement do not agree, or something is odd; a line each.
  package var disagreements: [String] = []

  /// From what the kernel says, and from figures where there are any: those count for more.
  package init(_ facts: DeviceFacts, _ figures: DeviceFigures? = nil) {
    profile = BuiltInProfiles.virtualDisk
    if facts.isMemory {
      profile = BuiltInProfiles.tmpfs
      reasons.append("\(facts.fileSystem) keeps its files in memory")
      return
    }
    let figures = figures.flatMap { $0.isDirect ? $0 : nil }
    guard let device = facts.device else {
      reasons.append(
        "the kernel shows no disk under \(facts.fileSystem): the profile that expects least of it")
      judgeUnknown(figures)
      return
    }
    // Of several disks the one that asks for most care.
    let leaves = device.leaves
    let judged = leaves.map { Self.judge($0, figures) }
    let order = ["hdd", "cloud-volume", "virtual-disk", "sata-ssd", "nvme"]
    let chosen = judged.indices.min {
      (order.firstIndex(of: judged[$0].profile.name) ?? order.count, $0)
        < (order.firstIndex(of: judged[$1].profile.name) ?? order.count, $1)
    }!
    if leaves.count > 1 || leaves[0].name != device.name {
      reasons.append("\(device.name) is made of \(leaves.map(\.name).joined(separator: ", "))")
      if Set(judged.map(\.profile.name)).count > 1 {
        disagreements.append(
          "its disks differ: treated as \(leaves[chosen].name), the one that asks for most care")
      }
    }
    profile = judged[chosen].profile
    reasons += judged[chosen].reasons
    disagreements += judged[chosen].disagreements
  }

  private init(_ profile: DiskProfile) { self.profile = profile }

  // Bounds. A disk that turns at 15,000 a minute waits 2 ms for half a turn, at 7,200 a minute 4.2, and the head moves
  // besides; flash answers 4 KiB within 0.2 ms, what stands behind a network within 1.
  private static let slowestFlash = Duration.milliseconds(1)
  private static let fastestSeek = Duration.milliseconds(2)
  private static let leastSeekPenalty = 5.0
  /// A network's round trip to replicas is in each sync and in each read, the quickest too.
  private static let networkSync = Duration.microseconds(400)
  private static let networkRead = Duration.microseconds(250)
  /// SATA: 32 commands at a time, 600 MB/s; SATA SSDs do at most about 100,000 reads a second.
  private static let mostSATAReads = 130_000.0

  private static func judge(_ device: BlockDevice, _ figures: DeviceFigures?) -> ProfileChoice {
    let name = device.name
    var turning: Bool?
    var found = ProfileChoice(BuiltInProfiles.virtualDisk)
    if let figures, let read = figures.randomRead, let penalty = figures.seekPenalty {
      let time = shortTime(read.median)
      if read.median >= fastestSeek && penalty >= leastSeekPenalty {
        turning = true
        found.reasons.append(
          "random reads take \(time), \(times(penalty)) as long as sequential ones: a head moves")
        if device.isRotational == false {
          found.disagreements.append(
            "kernel says not rotational, but random reads take \(time), \(times(penalty)) as long "
              + "as sequential ones: treated as rotating")
        }
      } else if read.median < slowestFlash {
        turning = false
        found.reasons.append(
          "random reads take \(time), \(asLong(penalty)) sequential ones: no head moves")
        if device.isRotational == true {
          found.disagreements.append(
            "kernel says rotational, but random reads take \(time): treated as not rotating")
        }
      }
    }
    if turning == true {
      found.profile = BuiltInProfiles.hdd
      return found
    }
    if let cloud = cloudVolume(device) {
      found.profile = BuiltInProfiles.cloudVolume
      found.reasons.append("\(name) calls itself \(cloud), a volume behind a network")
      return found
    }
    if device.transport == .nvme {
      found.profile = BuiltInProfiles.nvme
      found.reasons.append("\(name) is an NVMe disk")
      return found
    }
    if device.transport.isVirtual {
      // What a hypervisor says about rotation is what nobody set; it decides nothing here.
      found.reasons.append("\(name) is a disk of the hypervisor (\(device.transport.rawValue))")
      if let sync = figures?.smallSync, let read = figures?.randomRead,
        sync.quick >= networkSync, read.quick >= networkRead
      {
        found.profile = BuiltInProfiles.cloudVolume
        found.reasons.append(
          "even the quickest tenth takes as long as a network's round trips: fdatasync "
            + "\(shortTime(sync.quick)), a random read \(shortTime(read.quick))")
      }
      return found
    }
    if turning == nil, device.isRotational == true, device.transport != .memory {
      found.profile = BuiltInProfiles.hdd
      found.reasons.append("the kernel says that \(name) rotates")
      return found
    }
    if device.transport == .memory || device.transport == .loop || device.isRotational == nil {
      found.reasons.append("\(name) is no disk the kernel knows more of")
      return found
    }
    if let rate = figures?.randomReadRate, rate > mostSATAReads {
      found.profile = BuiltInProfiles.nvme
      found.reasons.append("\(Int(rate)) random reads a second are more than SATA carries")
      return found
    }
    found.profile = BuiltInProfiles.sataSSD
    found.reasons.append(
      turning == false
        ? "\(name) is attached by \(device.transport.rawValue)"
        : "the kernel says that \(name) does not rotate")
    return found
  }

  private mutating func judgeUnknown(_ figures: DeviceFigures?) {
    guard let figures, let read = figures.randomRead, let penalty = figures.seekPenalty,
      read.median >= Self.fastestSeek, penalty >= Self.leastSeekPenalty
    else { return }
    profile = BuiltInProfiles.hdd
    reasons.append(
      "random reads take \(shortTime(read.median)), \(Self.times(penalty)) as long as sequential "
        + "ones: a head moves")
  }

  /// What a cloud's volume calls itself; nil for disks of the machine, which clouds have too.
  private static func cloudVolume(_ device: BlockDevice) -> String? {
    let words = [device.vendor, device.model].compactMap { $0 }.joined(separator: " ")
    let low = words.lowercased()
    let volumes = [
      "elastic block store", "persistentdisk", "nvme_card-pd", "msft nvme accelerator",
      "msft virtual disk", "msft     virtual disk", "do volume", "hc volume", "oracle blockvolume",
      "scaleway b_ssd", "alibaba cloud elastic block storage",
    ]
    return volumes.contains(where: low.contains) ? words : nil
  }

  private static func asLong(_ factor: Double) -> String {
    factor < 1.05 ? "no longer than" : "\(times(factor)) as long as"
  }

  private static func times(_ factor: Double) -> String {
    let tenths = Int((min(factor, 1e6) * 10).rounded())
    return factor < 9.95 ? "\(tenths / 10).\(tenths % 10) times" : "\(tenths / 10) times"
  }
}
