import Cluster
import Messages
import Ring
import Stripes
import Wire

/// Tells nodes which of their blocks were wrong when they were read, beside the reads and without holding them up. What
/// cannot be told is not kept: whoever reads the block next finds it wrong again. Loop-confined.
final class DamageReports: @unchecked Sendable {
  // Loop-confined.
  private struct Report: Hashable {
    var device: DeviceID
    var key: BlockKey
  }

  private let driver: any Driver
  private let wire: WireClient
  private let directory: any DeviceDirectory
  private let tasks: OwnedTasks
  private var waiting: [Report] = []
  /// Until when each was told lately enough.
  private var told: [Report: Duration] = [:]
  private var isSending = false

  /// Reports that wait, and those that are remembered.
  private static let limit = 1024
  private static let silence = Duration.seconds(60)

  init(driver: any Driver, wire: WireClient, directory: any DeviceDirectory) {
    self.driver = driver
    self.wire = wire
    self.directory = directory
    tasks = OwnedTasks(driver)
  }

  /// Notes that a block of `device` was wrong; it is told soon.
  func add(_ device: DeviceID, _ key: BlockKey) {
    let report = Report(device: device, key: key)
    let now = driver.now
    if let until = told[report], now < until { return }
    if told.count >= Self.limit { told = told.filter { now < $0.value } }
    guard told.count < Self.limit, waiting.count < Self.limit else { return }
    told[report] = now + Self.silence
    waiting.append(report)
    guard !isSending else { return }
    isSending = true
    tasks.spawn("report damage") { [self] in
      while !Task.isCancelled, let device = waiting.first?.device { await send(device) }
      isSending = false
    }
  }

  private func send(_ device: DeviceID) async {
    let batch = Array(waiting.lazy.filter { $0.device == device }.prefix(ReportDamage.keyLimit))
    let sent = Set(batch)
    waiting.removeAll { sent.contains($0) }
    guard let address = directory.address(of: device) else { return }
    do throws(WireError) {
      _ = try await wire.call(
        ReportDamage(device: device, keys: batch.map(\.key)), at: address, deadline: .seconds(5))
    } catch {
      for report in batch { told[report] = nil }
    }
  }

  /// Sends what waits, for a second at most.
  func close() async {
    guard isSending else { return }
    let limit = driver.spawn("give up reports") { [self] in
      if await driver.sleep(.seconds(1)) { tasks.cancelAll() }
    }
    await tasks.wait()
    limit.cancel()
    await limit.wait()
  }
}
