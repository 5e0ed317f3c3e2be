package import Ring

/// What the operating system should be set to, as `tuning/os/` sets it; a test holds the two together.
package enum HostSettings {
  /// A setting that is not as `tuning/os/` has it.
  package struct Deviation: Equatable, Sendable {
    /// "vm.swappiness", "/sys/block/sda/queue/scheduler", "RLIMIT_NOFILE".
    package var name: String
    package var found: String
    package var wanted: String
    package var reason: String

    package var description: String { "\(name) is \(found), not \(wanted): \(reason)" }
  }

  /// A line of `tuning/os/sysctl.d/60-cairn.conf`.
  package struct Sysctl: Sendable {
    package var name: String
    /// What the file sets it to: a number, or several.
    package var value: String
    /// More is as good.
    package var isLeast: Bool
    package var reason: String
  }

  package static let sysctls = [
    Sysctl(
      name: "kernel.io_uring_disabled", value: "0", isLeast: false,
      reason: "every daemon is built on io_uring"),
    Sysctl(
      name: "vm.swappiness", value: "1", isLeast: false,
      reason: "a daemon that is swapped out answers in disk time"),
    Sysctl(
      name: "vm.dirty_background_bytes", value: "67108864", isLeast: false,
      reason: "what goes through the page cache is written back early"),
    Sysctl(
      name: "vm.dirty_bytes", value: "268435456", isLeast: false,
      reason: "a sync waits for at most this much of others' bytes"),
    Sysctl(
      name: "net.core.somaxconn", value: "4096", isLeast: true,
      reason: "connections of a whole cluster that begin at once wait for their turn"),
    Sysctl(
      name: "net.ipv4.tcp_max_syn_backlog", value: "4096", isLeast: true,
      reason: "the same, one step before"),
    Sysctl(
      name: "net.ipv4.tcp_rmem", value: "4096 131072 16777216", isLeast: true,
      reason: "1 MiB blocks fill a path of 10 Gbit/s and 10 ms"),
    Sysctl(
      name: "net.ipv4.tcp_wmem", value: "4096 65536 16777216", isLeast: true,
      reason: "1 MiB blocks fill a path of 10 Gbit/s and 10 ms"),
    Sysctl(
      name: "net.ipv4.tcp_slow_start_after_idle", value: "0", isLeast: false,
      reason: "pooled connections keep their window between bursts"),
    Sysctl(
      name: "fs.nr_open", value: "1048576", isLeast: true,
      reason: "the most that LimitNOFILE may be"),
  ]

  /// Limits of a daemon's process, as in `tuning/os/limits.d` and the systemd drop-ins.
  package static let fileLimit = 1_048_576
  package static let lockedByteLimit = 256 << 20

  /// Of a disk's queue, as `tuning/os/udev/60-cairn-disks.rules` sets it by what the kernel says; nil: as it is.
  package struct Queue: Equatable, Sendable {
    package var scheduler: String
    package var requestCount: Int?
    package var readAheadKiB: Int
    package var reason: String
  }

  /// - Parameter profile: a built-in one's name.
  package static func queue(for profile: String) -> Queue? {
    switch profile {
    case "nvme":
      Queue(
        scheduler: "none", requestCount: nil, readAheadKiB: 128,
        reason: "an NVMe disk has queues of its own")
    case "sata-ssd":
      Queue(
        scheduler: "mq-deadline", requestCount: 64, readAheadKiB: 128,
        reason: "32 commands fit; reads must not wait behind a long run of writes")
    case "hdd":
      Queue(
        scheduler: "mq-deadline", requestCount: 256, readAheadKiB: 1024,
        reason: "the more wait, the better they can be put in the head's order")
    case "virtual-disk", "cloud-volume":
      Queue(
        scheduler: "none", requestCount: nil, readAheadKiB: 128,
        reason: "the host puts them in order")
    default: nil
    }
  }

  /// What differs from `tuning/os/` on this machine, for a device with this profile.
  package static func deviations(
    _ facts: DeviceFacts, _ profile: DiskProfile, on driver: any Driver
  )
    async -> [Deviation]
  {
    let kernel = KernelFiles(driver: driver)
    var found: [Deviation] = []
    if let queue = queue(for: profile.name) {
      for device in facts.device?.leaves ?? [] {
        found += deviations(of: device, queue)
      }
    }
    for sysctl in sysctls {
      let path = "/proc/sys/" + sysctl.name.split(separator: ".").joined(separator: "/")
      guard let text = await kernel.line(path) else { continue }
      if !holds(text, sysctl) {
        found.append(
          Deviation(
            name: sysctl.name, found: words(text).joined(separator: " "), wanted: sysctl.value,
            reason: sysctl.reason))
      }
    }
    if let bytes = try? await driver.readFile("/proc/self/limits", limit: 64 << 10) {
      let text = String(decoding: bytes, as: UTF8.self)
      for (name, limit, wanted, reason) in [
        (
          "RLIMIT_NOFILE", "Max open files", fileLimit,
          "a descriptor for each connection and each open volume"
        ),
        (
          "RLIMIT_MEMLOCK", "Max locked memory", lockedByteLimit, "buffers registered with io_uring"
        ),
      ] {
        guard let value = softLimit(limit, in: text), value != "unlimited",
          Int(value).map({ $0 < wanted }) ?? false
        else { continue }
        found.append(
          Deviation(name: name, found: value, wanted: "\(wanted) or more", reason: reason))
      }
    }
    return found
  }

  static func deviations(of device: BlockDevice, _ wanted: Queue) -> [Deviation] {
    var found: [Deviation] = []
    let folder = "/sys/block/\(device.name)/queue/"
    func compare(_ name: String, _ value: String?, _ wish: String?, _ reason: String) {
      guard let value, let wish, value != wish else { return }
      found.append(Deviation(name: folder + name, found: value, wanted: wish, reason: reason))
    }
    compare("scheduler", device.scheduler, wanted.scheduler, wanted.reason)
    compare(
      "nr_requests", device.requestCount.map(String.init), wanted.requestCount.map(String.init),
      wanted.reason)
    compare(
      "read_ahead_kb", device.readAheadKiB.map(String.init), String(wanted.readAheadKiB),
      "volumes are read past the page cache; index and log are read in small pieces")
    return found
  }

  private static func words(_ text: String) -> [Substring] {
    text.split { $0 == " " || $0 == "\t" }
  }

  static func holds(_ text: String, _ wanted: Sysctl) -> Bool {
    let (found, wish) = (words(text), words(wanted.value))
    guard found.count == wish.count else { return false }
    guard wanted.isLeast else { return found == wish }
    // Of three numbers the largest counts.
    guard let have = found.last.flatMap({ Int($0) }), let want = wish.last.flatMap({ Int($0) })
    else { return false }
    return have >= want
  }

  /// "Max open files            20000                20000                files"
  static func softLimit(_ name: String, in text: String) -> String? {
    for line in text.split(separator: "\n") where line.hasPrefix(name) {
      return words(String(line.dropFirst(name.count))).first.map(String.init)
    }
    return nil
  }
}
