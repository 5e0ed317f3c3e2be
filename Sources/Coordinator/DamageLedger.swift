import Cluster
import Messages
import Ring

/// Blocks that devices said are wrong, of all their hellos together: one hello names only some where there are many.
struct DamageLedger {
  /// When each was named last.
  private var named: [DeviceID: [BlockKey: Duration]] = [:]

  /// Takes in what one hello named of a device.
  ///
  /// - Parameter interval: between hellos: each goes on where the one before ended, so whatever is still wrong is named again
  ///   after a known number of them.
  mutating func note(
    _ keys: [BlockKey], of device: DeviceID, at now: Duration, every interval: Duration
  ) {
    guard keys.count >= DeviceDamage.keyLimit else {
      named[device] = keys.isEmpty ? nil : Dictionary(keys.map { ($0, now) }) { first, _ in first }
      return
    }
    var known = named[device] ?? [:]
    for key in keys { known[key] = now }
    let hellos = known.count / DeviceDamage.keyLimit + 4
    named[device] = known.filter { now - $0.value <= interval * hellos }
  }

  /// What is wrong by these devices' word, by container.
  func blocks(of devices: (DeviceID) -> Bool) -> [ContainerID: [BlockKey]] {
    var blocks: [ContainerID: [BlockKey]] = [:]
    for (device, keys) in named where devices(device) {
      for key in keys.keys { blocks[key.shard.container, default: []].append(key) }
    }
    return blocks
  }
}
