package import Ring
package import Service
internal import ShardStore

/// A profile by its name, as a device's table in a node's configuration has it, and what that table says otherwise.
///
///     [[device]]
///     path = "/srv/disk1"
///     capacity = "4TiB"
///     profile = "automatic"      # or a built-in profile's name, or a file
///     volume_size = "1GiB"       # and whatever else a profile has
package struct DeviceTuning: Sendable {
  /// What is left to the node: the cheap choice from what the kernel says.
  package static let automatic = "automatic"

  private let table: ConfigurationTable
  /// A name, or a path relative to the configuration.
  private let profile: String

  /// - Throws: ``ConfigurationError`` for values that no profile may have.
  package init(_ table: ConfigurationTable) throws(ConfigurationError) {
    self.table = table
    profile = try table.value("profile", default: Self.automatic)
    if profile.isEmpty {
      throw table.error(
        "profile", "must be \"automatic\", one of \(BuiltInProfiles.names), or a file's path")
    }
    // Asks for every key, so that those that are left are unknown ones.
    var trial = BuiltInProfiles.all[0]
    try trial.apply(table)
  }

  /// A profile with what was said of one device.
  package struct Resolved: Sendable {
    package var profile: DiskProfile
    /// "virtual-disk, as vda is a disk of the hypervisor"
    package var summary: String
    /// "volume_size=1GiB", where the device's table differs from the profile.
    package var deviations: [String]
  }

  /// - Parameters:
  ///   - path: of the device.
  ///   - resolve: makes a file's path absolute.
  /// - Throws: ``ConfigurationError``: the profile is unknown, or its file is no profile.
  package func resolve(
    for path: String, file resolve: (String) -> String, on driver: any Driver
  ) async throws(ConfigurationError) -> Resolved {
    var base: DiskProfile
    var summary: String
    if profile == Self.automatic {
      do throws(RingError) {
        let choice = ProfileChoice(try await DeviceFacts.read(path, on: driver))
        base = choice.profile
        summary = base.name + (choice.reasons.first.map { ", as \($0)" } ?? "")
      } catch {
        // Its own opening will say what is wrong with it.
        base = BuiltInProfiles.virtualDisk
        summary = "\(base.name), as the kernel does not say: \(error.reason)"
      }
    } else if let known = BuiltInProfiles.named(profile) {
      base = known
      summary = known.name
    } else {
      guard profile.utf8.contains(slash) || profile.hasSuffix(".toml") else {
        throw table.error(
          "profile", "must be \"automatic\", one of \(BuiltInProfiles.names), or a file's path")
      }
      let file = resolve(profile)
      let bytes: [UInt8]
      do throws(RingError) { bytes = try await driver.readFile(file, limit: 1 << 20) } catch {
        throw table.error("profile", "cannot be read: \(error.reason): \(file)")
      }
      base = try DiskProfile(parsing: bytes, path: file)
      summary = "\(base.name), from \(file)"
    }
    var own = base
    try own.apply(table)
    return Resolved(profile: own, summary: summary, deviations: own.deviations(from: base))
  }
}
