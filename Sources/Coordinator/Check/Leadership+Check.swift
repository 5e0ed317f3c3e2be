import Cluster
import Messages
import Metadata
import Ring
import Service
import Wire

/// What an operator asks to be compared: the state with itself, devices with directories, objects with what can be read.
extension Leadership {
  func startCheck(_ request: StartCheck) throws(Refusal) -> StartCheck.Answer {
    if let check, !check.isDone {
      throw Refusal(.unavailable, "another check is under way")
    }
    let run = CheckRun(id: driver.random() | 1, request)
    check = run
    duty("check") { [self] in
      await perform(run)
      run.end(isLeading() ? "" : "the lead was lost")
    }
    return StartCheck.Answer(check: run.id)
  }

  func checkStatus(_ request: CheckStatus) throws(Refusal) -> CheckStatus.Answer {
    guard let check, check.id == request.check else {
      throw Refusal(.noSuchCheck, "this leader knows of no such check: begin it again")
    }
    return check.answer(after: request.after)
  }

  private func perform(_ run: CheckRun) async {
    do throws(StoreError) {
      if run.parts.contains(.state) {
        try await checkState(run)
      }
      if run.parts.contains(.devices) {
        await checkDevices(run)
      }
      if run.parts.contains(.objects) {
        try await checkObjects(run)
      }
    } catch {
      run.end("\(error)")
    }
  }

  private func checkState(_ run: CheckRun) async throws(StoreError) {
    run.begin("state")
    let found: [String]
    do throws(StoreError) {
      found = try await keeper.audit(for: run) { (source, usage) throws(StoreError) in
        try StateAudit.violations(in: source, sliceCount: StateAudit.sliceCount(usage))
      }
    } catch {
      // Bytes that cannot be decoded are a finding, not the end of the check.
      guard case .corrupt(let why) = error else { throw error }
      found = [why]
    }
    for text in found { run.add(.state, "state of \(server.configuration.name)", text) }
  }

  private func checkObjects(_ run: CheckRun) async throws(StoreError) {
    run.begin("objects")
    let margins = server.margins
    let devices = keeper.map.nodes.flatMap(\.devices).map(\.id)
    let known = Set(devices)
    let missing = Set(devices.filter(margins.isMissing))
    let wrong = margins.wrongBlocks
    let lost = try await keeper.audit(for: run) { (source, _) throws(StoreError) in
      try LostObjects.find(
        in: source, isMissing: { missing.contains($0) || !known.contains($0) }, wrongBlocks: wrong)
    }
    for name in lost.objects {
      run.add(
        .object, "cairn://\(name.bucket)/\(name.key)", "too few blocks are left to read all of it")
    }
    let rest = lost.objectCount - lost.objects.count
    if rest > 0 { run.add(.object, "cairn://", "\(rest) more objects like these") }
  }

  private func checkDevices(_ run: CheckRun) async {
    let nodes = keeper.map.nodes
    let devices = nodes.flatMap(\.devices).filter { $0.state != .retired }.map(\.id)
    run.begin("devices", of: devices.count)
    let unchecked = devices.filter { server.nodes.isDown($0) }
    for device in unchecked {
      run.add(
        .unchecked, subject(device), "it does not answer: what it holds was not compared")
    }
    run.done = UInt64(unchecked.count)
    for device in devices where !unchecked.contains(device) {
      guard isLeading() else { return }
      if await !compare(device, for: run) {
        run.add(.unchecked, subject(device), "it ended the comparison before its end")
      }
      run.done += 1
    }
    let reports = server.nodes.all.filter { server.nodes.isUp($0.record.id) }.flatMap(\.reports)
    for report in reports where report.damagedCount > 0 && !report.isRetired {
      run.add(
        .damaged, subject(report.id),
        "\(counted(report.damagedCount, "block")) wrong and not mended")
    }
    if let root = arbiter.root {
      let lost = root.logDevices.filter { server.nodes.isDown($0) }
      for device in lost.sorted() {
        run.add(.log, subject(device), "a copy of the metadata log is on it")
      }
    }
  }

  /// Compares one device, now. It may answer late once.
  private func compare(_ device: DeviceID, for run: CheckRun) async -> Bool {
    for attempt in 0..<2 {
      if attempt > 0 { guard await pause(.seconds(1)) else { return false } }
      if await compareAll(device, for: run) { return true }
    }
    return false
  }

  /// A device as people know it.
  func subject(_ device: DeviceID) -> String {
    "\(device) on \(server.nodes.nodeName(of: device))"
  }
}
