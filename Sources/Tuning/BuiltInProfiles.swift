internal import Service
internal import ShardStore

/// The profiles that the executable carries. `tuning/NAME.toml` has the same values with the reason of each.
package enum BuiltInProfiles {
  package static let all = [nvme, sataSSD, hdd, virtualDisk, cloudVolume, tmpfs]

  /// Nil when there is none of this name.
  package static func named(_ name: String) -> DiskProfile? { all.first { $0.name == name } }

  /// For error messages: every name, quoted.
  package static var names: String { all.map { "\"\($0.name)\"" }.joined(separator: ", ") }

  package static let nvme = DiskProfile(
    name: "nvme", concurrentWrites: 16, appendByteCount: kibi(512), appendRecordCount: 128,
    volumeByteCount: mebi(256), directIO: .required, preallocation: .preferred,
    punchesDeadRanges: true, sweepsReads: false, compactionPercent: 25, indexEntryLimit: 32_768,
    unindexedByteLimit: mebi(4096), openFileLimit: 128)

  package static let sataSSD = DiskProfile(
    name: "sata-ssd", concurrentWrites: 8, appendByteCount: kibi(512), appendRecordCount: 128,
    volumeByteCount: mebi(256), directIO: .required, preallocation: .preferred,
    punchesDeadRanges: true, sweepsReads: false, compactionPercent: 25, indexEntryLimit: 32_768,
    unindexedByteLimit: mebi(4096), openFileLimit: 128)

  package static let hdd = DiskProfile(
    name: "hdd", concurrentWrites: 4, appendByteCount: mebi(4), appendRecordCount: 256,
    volumeByteCount: mebi(1024), directIO: .required, preallocation: .required,
    punchesDeadRanges: true, sweepsReads: true, compactionPercent: 15, indexEntryLimit: 65_536,
    unindexedByteLimit: mebi(1024), openFileLimit: 256)

  package static let virtualDisk = DiskProfile(
    name: "virtual-disk", concurrentWrites: 8, appendByteCount: kibi(512), appendRecordCount: 128,
    volumeByteCount: mebi(256), directIO: .preferred, preallocation: .preferred,
    punchesDeadRanges: true, sweepsReads: false, compactionPercent: 25, indexEntryLimit: 32_768,
    unindexedByteLimit: mebi(4096), openFileLimit: 128)

  package static let cloudVolume = DiskProfile(
    name: "cloud-volume", concurrentWrites: 16, appendByteCount: mebi(1), appendRecordCount: 256,
    volumeByteCount: mebi(256), directIO: .preferred, preallocation: .preferred,
    punchesDeadRanges: true, sweepsReads: false, compactionPercent: 15, indexEntryLimit: 32_768,
    unindexedByteLimit: mebi(2048), openFileLimit: 128)

  package static let tmpfs = DiskProfile(
    name: "tmpfs", concurrentWrites: 2, appendByteCount: kibi(512), appendRecordCount: 128,
    volumeByteCount: mebi(64), directIO: .off, preallocation: .off, punchesDeadRanges: true,
    sweepsReads: false,
    compactionPercent: 25, indexEntryLimit: 32_768, unindexedByteLimit: mebi(4096),
    openFileLimit: 128)

  private static func kibi(_ count: UInt64) -> ByteSize { ByteSize(count << 10) }
  private static func mebi(_ count: UInt64) -> ByteSize { ByteSize(count << 20) }
}
