import Cluster
import Messages
import Ring

/// Which devices are many times slower than others of their kind, by what their nodes say of them in hellos. Pure: hellos go
/// in, a set of devices comes out. Soft state of each coordinator.
///
/// A device is compared with the median of the others of its tier: a cluster that is slow as a whole has no slow device. It has
/// to be slow for a while before it counts as degraded, and well for longer before it does not; each time it is found slow again
/// soon after, it has to be well for twice as long. So one that flaps is set aside, and starts nothing.
struct DeviceWatch {
  struct Settings: Sendable {
    /// Answers of the last so long count.
    var window = Duration.seconds(30)
    /// Fewer in the window say nothing.
    var leastCount: UInt64 = 16
    /// Others of the tier that say enough: with fewer there is nothing to compare with.
    var leastPeers = 2
    /// Times the median of the others.
    var slowFactor = 10.0
    var wellFactor = 4.0
    /// Nothing that answers faster is slow, whatever others do.
    var floor = Duration.milliseconds(10)
    var degradedAfter = Duration.seconds(5)
    /// Also for how long a degraded device that nobody asks for anything stays so: then it is tried again.
    var healthyAfter = Duration.seconds(60)
    var healthyAfterAtMost = Duration.seconds(1800)
  }

  private struct Sample {
    var at: Duration
    var reads: DeviceLoad.Tally
    var writes: DeviceLoad.Tally
  }

  private struct Device {
    var tier: String
    /// What the node said last, since its start.
    var last: DeviceLoad
    var samples: [Sample] = []
    /// Since when it is slow, or, degraded, well.
    var changingSince: Duration?
    var isDegraded = false
    /// How long it has to be well the next time.
    var trial: Duration
    var recoveredAt: Duration?
  }

  var settings = Settings()
  private var devices: [DeviceID: Device] = [:]

  var degraded: Set<DeviceID> { Set(devices.filter(\.value.isDegraded).keys) }

  /// Takes in what a hello says of a device.
  mutating func note(_ load: DeviceLoad, of id: DeviceID, tier: String, at now: Duration) {
    var device =
      devices[id] ?? Device(tier: tier, last: load, trial: settings.healthyAfter)
    device.tier = tier
    func since(_ part: KeyPath<DeviceLoad, DeviceLoad.Tally>) -> DeviceLoad.Tally {
      let (new, old) = (load[keyPath: part], device.last[keyPath: part])
      // A node that was started again counts from zero.
      guard new.count >= old.count, new.microseconds >= old.microseconds else { return new }
      return DeviceLoad.Tally(
        count: new.count - old.count, microseconds: new.microseconds - old.microseconds)
    }
    device.samples.append(Sample(at: now, reads: since(\.reads), writes: since(\.writes)))
    device.samples.removeAll { now - $0.at > settings.window }
    device.last = load
    devices[id] = device
  }

  /// What is no more is compared with nothing.
  mutating func forget(where isGone: (DeviceID) -> Bool) {
    devices = devices.filter { !isGone($0.key) }
  }

  /// Mean time of an answer lately, in microseconds; nil when there were too few.
  private func mean(_ device: Device, _ part: KeyPath<Sample, DeviceLoad.Tally>) -> Double? {
    var sum = DeviceLoad.Tally()
    for sample in device.samples {
      sum.count &+= sample[keyPath: part].count
      sum.microseconds &+= sample[keyPath: part].microseconds
    }
    guard sum.count >= settings.leastCount else { return nil }
    return Double(sum.microseconds) / Double(sum.count)
  }

  /// What devices have had to do in the window.
  func work() -> [DeviceID: DeviceWork] {
    devices.compactMapValues { device in
      guard let first = device.samples.first, let last = device.samples.last, first.at < last.at
      else { return nil }
      let answered = device.samples.dropFirst().reduce(0) {
        $0 &+ $1.reads.microseconds &+ $1.writes.microseconds
      }
      return DeviceWork(
        underWay: Double(answered) / ((last.at - first.at) / .microseconds(1)),
        writeMicroseconds: mean(device, \.writes))
    }
  }

  /// How many times slower devices are than the median of the others of their tier, for reads or writes, whichever is worse;
  /// those of which that cannot be said are left out.
  func slowness() -> [DeviceID: Double] {
    let floor = settings.floor / .microseconds(1) / settings.slowFactor
    var worst: [DeviceID: Double] = [:]
    for part in [\Sample.reads, \Sample.writes] {
      var tiers: [String: [(mean: Double, id: DeviceID)]] = [:]
      for (id, device) in devices {
        if let mean = mean(device, part) { tiers[device.tier, default: []].append((mean, id)) }
      }
      for devices in tiers.values where devices.count > settings.leastPeers {
        let sorted = devices.sorted { $0 < $1 }
        let middle = (sorted.count - 1) / 2
        for (place, device) in sorted.enumerated() {
          let median = sorted[middle < place ? middle : middle + 1].mean
          worst[device.id] = max(worst[device.id] ?? 0, device.mean / max(median, floor))
        }
      }
    }
    return worst
  }

  /// Looks at all of them; to be called about each second.
  ///
  /// - Returns: devices that are degraded now and were not, and those that are not any more.
  mutating func judge(at now: Duration) -> (degraded: [DeviceID], recovered: [DeviceID]) {
    var changed: (degraded: [DeviceID], recovered: [DeviceID]) = ([], [])
    for id in devices.keys { devices[id]!.samples.removeAll { now - $0.at > settings.window } }
    let slowness = slowness()
    for id in devices.keys.sorted() {
      var device = devices[id]!
      let isTurning =
        device.isDegraded
        ? slowness[id].map { $0 < settings.wellFactor } ?? true
        : slowness[id].map { $0 > settings.slowFactor } ?? false
      guard isTurning else {
        device.changingSince = nil
        devices[id] = device
        continue
      }
      let since = device.changingSince ?? now
      device.changingSince = since
      if now - since >= (device.isDegraded ? device.trial : settings.degradedAfter) {
        device.changingSince = nil
        device.isDegraded.toggle()
        if device.isDegraded {
          // Soon after it was let in again: it has to prove itself for longer.
          let isAgain = device.recoveredAt.map { now - $0 < device.trial * 4 } ?? false
          device.trial =
            isAgain ? min(device.trial * 2, settings.healthyAfterAtMost) : settings.healthyAfter
          changed.degraded.append(id)
        } else {
          device.recoveredAt = now
          changed.recovered.append(id)
        }
      }
      devices[id] = device
    }
    return changed
  }
}
