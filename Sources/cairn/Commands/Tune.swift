import Ring
import Service
import ShardStore
import Tuning

/// `cairn tune DEVICE`: what the kernel says of a device and what it does, and the profile that makes.
func tune(_ context: Context) async throws(Failure) {
  let arguments = context.arguments
  let path = HostProcess.absolute(arguments.operands[0])
  let seconds = try arguments.number("--runtime", in: 1...600) ?? 10
  let readsOnly = arguments.has("--read-only")
  let driver = context.driver

  guard await driver.submit(.status(path: path, followLinks: true, Outcome<FileStatus>())) == 0
  else { throw .failed("no such directory or device", path) }
  let facts: DeviceFacts
  do throws(RingError) { facts = try await DeviceFacts.read(path, on: driver) } catch {
    throw .failed(error.reason, path)
  }
  if !facts.isBlockDevice, await !driver.isDirectory(path) {
    throw .failed("neither a directory nor a block device", path)
  }
  var notes: [String] = []
  if facts.isBlockDevice {
    if await isBusy(path, driver) {
      notes.append("busy: mounted, or part of something: what others do with it is in the figures")
    }
  } else if !readsOnly {
    try await checkIdle(path, driver)
  }

  let measurement = DeviceMeasurement(runtime: .seconds(seconds), on: driver)
  let began = driver.now
  var figures: DeviceFigures?
  do throws(DeviceMeasurement.Refused) {
    if facts.isBlockDevice {
      figures = try await measurement.measure(readingOnly: path, byteCount: facts.totalByteCount)
    } else if !readsOnly {
      figures = try await measurement.measure(directory: path, freeByteCount: facts.freeByteCount)
    } else if let device = facts.device, let byteCount = await byteCount(ofDisk: device, driver) {
      // What is mounted may be read all the same.
      do throws(DeviceMeasurement.Refused) {
        figures = try await measurement.measure(
          readingOnly: "/dev/" + device.name, byteCount: byteCount)
      } catch {
        if Task.isCancelled { throw error }
        notes.append("not measured: \(error)")
      }
    } else {
      notes.append("not measured: there is no disk to read from without writing first")
    }
  } catch {
    throw .failed("\(error)")
  }
  let report = TuneReport(
    facts: facts, figures: figures, took: driver.now - began, notes: notes,
    choice: ProfileChoice(facts, figures), host: [])
  var full = report
  full.host = await HostSettings.deviations(facts, report.choice.profile, on: driver)

  if let file = arguments["--write"] {
    do throws(RingError) {
      try await driver.replaceFile(
        HostProcess.absolute(file), with: Array(full.file.utf8), mode: 0o644)
    } catch {
      throw .failed(error.reason, error.subject)
    }
  }
  if arguments.has("--json") {
    try await context.output.line(full.json.text)
  } else {
    for line in full.lines { try await context.output.line(context.output.shown(line)) }
  }
  try await context.output.flush()
  // Last: what was found is shown first.
  if let unfit = full.unfit { throw .failed(unfit, path) }
}

/// A running node's requests would be in the figures, and these in its latency.
private func checkIdle(_ path: String, _ driver: any Driver) async throws(Failure) {
  guard let lock = try? await File.open(path + "/lock", OpenFlags.readWrite, on: driver) else {
    return
  }
  // Where the file system knows no locks, no node runs either.
  let isIdle = (try? await lock.lock()) ?? true
  await lock.close()
  if !isIdle {
    throw .failed(
      "busy: a node has this device open; stop it, or measure what reading tells with --read-only",
      path)
  }
}

/// Of a block device: O_EXCL is refused while it is mounted or held.
private func isBusy(_ path: String, _ driver: any Driver) async -> Bool {
  do throws(RingError) {
    let file = try await File.open(path, OpenFlags.readOnly | OpenFlags.exclusive, on: driver)
    await file.close()
    return false
  } catch {
    return error.errno == Errno.busy
  }
}

/// Bytes of a whole disk, which may be more than the partition's that `device` was found by.
private func byteCount(ofDisk device: BlockDevice, _ driver: any Driver) async -> UInt64? {
  guard let bytes = try? await driver.readFile("/sys/block/\(device.name)/size", limit: 4096),
    let sectors = UInt64(String(decoding: bytes, as: UTF8.self).filter { $0.isNumber })
  else { return nil }
  let (count, overflow) = sectors.multipliedReportingOverflow(by: 512)
  return overflow ? nil : count
}

/// What `cairn tune` found, as text, JSON and a profile's file.
struct TuneReport {
  var facts: DeviceFacts
  var figures: DeviceFigures?
  var took: Duration
  var notes: [String]
  var choice: ProfileChoice
  var host: [HostSettings.Deviation]

  /// Why the profile refuses this device; nil when it takes it.
  var unfit: String? {
    let profile = choice.profile
    if profile.directIO == .required, figures?.hasDirectIO == false {
      return
        "the profile \(profile.name) requires direct I/O, which \(facts.fileSystem) does not have"
    }
    if profile.preallocation == .required, figures?.hasPreallocation == false {
      return
        "the profile \(profile.name) requires fallocate, which \(facts.fileSystem) does not have"
    }
    return nil
  }

  /// Where the profile falls back to something else here.
  var fallbacks: [String] {
    let profile = choice.profile
    var found: [String] = []
    if profile.directIO == .preferred, figures?.hasDirectIO == false {
      found.append("no direct I/O here: volumes will be read and written through the page cache")
    }
    if profile.preallocation == .preferred, figures?.hasPreallocation == false {
      found.append("no fallocate here: volumes will take their space write by write")
    }
    if profile.punchesDeadRanges, figures?.hasPunching == false {
      found.append("no hole punching here: only compaction will return the space of dead blocks")
    }
    return found
  }

  /// What the kernel says, a name and a value each.
  private var kernelSays: [(String, String)] {
    var found: [(String, String)] = []
    if let device = facts.device {
      found.append(("disk", device.description))
      func add(_ name: String, _ value: String?) { if let value { found.append((name, value)) } }
      add("rotational", device.isRotational.map { $0 ? "yes" : "no" })
      add("scheduler", device.scheduler)
      add("requests", device.requestCount.map { "\($0)" })
      add("read-ahead", device.readAheadKiB.map { "\($0) KiB" })
      if let logical = device.logicalBlockByteCount, let physical = device.physicalBlockByteCount {
        add("blocks", "\(logical) bytes logical, \(physical) physical")
      }
      add("write cache", device.writeCache)
      add("polling", device.polls.map { $0 ? "yes" : "no" })
      add("DAX", device.isDAX.map { $0 ? "yes" : "no" })
      add("size", device.byteCount.map(byteText))
    } else {
      found.append(("disk", "none that the kernel shows"))
    }
    if !facts.isBlockDevice {
      found.append(
        (
          "file system",
          "\(facts.fileSystem)\(facts.isReadOnly ? ", read-only" : ""), "
            + "\(byteText(facts.freeByteCount)) of \(byteText(facts.totalByteCount)) free"
        ))
    }
    return found
  }

  /// Figures, a name and a value each.
  private var measured: [(String, String)] {
    guard let figures else { return [] }
    func text(_ latency: Latency) -> String {
      "median \(shortTime(latency.median)), of 99 % at most \(shortTime(latency.tail)), \(latency.count) times"
    }
    var found: [(String, String)] = []
    func add(_ name: String, _ value: String?) { if let value { found.append((name, value)) } }
    add("4 KiB read at random", figures.randomRead.map(text))
    add("4 KiB read in order", figures.sequentialRead.map(text))
    add(
      "seek penalty",
      figures.seekPenalty.map {
        "\(Int(($0 * 10).rounded()) / 10).\(Int(($0 * 10).rounded()) % 10)"
      })
    add("4 KiB read at random, 32 at once", figures.randomReadRate.map { "\(Int($0)) a second" })
    for read in figures.reads {
      add("1 MiB read in order, \(read.depth) at once", "\(Int(read.bytesPerSecond / 1e6)) MB/s")
    }
    for write in figures.writes {
      add(
        "1 MiB written in order, \(write.depth) at once", "\(Int(write.bytesPerSecond / 1e6)) MB/s")
    }
    add("fdatasync after 4 KiB", figures.smallSync.map(text))
    add("fdatasync after 1 MiB", figures.largeSync.map(text))
    func has(_ flag: Bool?) -> String? { flag.map { $0 ? "works" : "not here" } }
    add("direct I/O", has(figures.hasDirectIO))
    add("fallocate", has(figures.hasPreallocation))
    add("hole punching", has(figures.hasPunching))
    return found
  }

  private static func table(_ rows: [(String, String)]) -> [String] {
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { "  " + $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 }
  }

  private var measuredTitle: String {
    guard let figures else { return "" }
    let how = figures.isDirect ? "" : ", through the page cache: this is memory, not the device"
    return "measured for \(shortTime(took))\(how)"
  }

  var lines: [String] {
    var lines = ["\(facts.path): \(choice.profile.name)"] + choice.reasons.map { "  because \($0)" }
    if !choice.disagreements.isEmpty {
      lines += ["disagreements"] + choice.disagreements.map { "  \($0)" }
    }
    let odd = fallbacks + notes
    if !odd.isEmpty { lines += ["note"] + odd.map { "  \($0)" } }
    lines += ["the kernel says"] + Self.table(kernelSays)
    if !measured.isEmpty { lines += [measuredTitle] + Self.table(measured) }
    lines += ["profile"] + Self.table(choice.profile.lines.map { ($0.key, $0.value) })
    if !host.isEmpty {
      lines += ["the system differs from tuning/os"] + host.map { "  \($0.description)" }
    }
    return lines
  }

  /// The profile's file, with what was found as its head.
  var file: String {
    var comments = ["Written by cairn tune \(facts.path)"]
    comments += choice.reasons.map { "because \($0)" }
    comments += choice.disagreements + fallbacks + notes
    comments += [""] + ["The kernel says"] + Self.table(kernelSays)
    if !measured.isEmpty { comments += ["", measuredTitle] + Self.table(measured) }
    return choice.profile.text(comments: comments)
  }
}
