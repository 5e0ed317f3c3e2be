package import Ring

/// Why the store did not do what was asked. After each of these nothing was changed, unless it says otherwise.
package enum StoreError: Error, Equatable {
  /// No such block here; it may have been deleted.
  case noSuchBlock
  /// On a write: the bytes handed in are not those the checksums name. On a read: the block is here, but its
  /// bytes are wrong or cannot be read; the stripe's other blocks can rebuild them.
  case corrupt(String)
  /// The block is here with other bytes or another layout.
  case blockExists
  /// A higher leader epoch was seen.
  case staleEpoch(highest: UInt64)
  /// No room but the reserve.
  case deviceFull
  /// The device is retired: a write or a sync failed, now or earlier. Whether a write answered with this is
  /// on the device is unknown.
  case deviceFailed(String)
  /// The range is not made of whole units within the block.
  case invalidRange
  /// The description, checksums and payload do not fit each other, or the format's limits.
  case invalidBlock(String)
  /// The store is closed or closing.
  case closed

  // Opening and formatting.

  /// Another process has the device open.
  case inUse(path: String)
  /// No store here: the directory is missing or was never formatted.
  case notFormatted(path: String)
  /// Formatting where something is already.
  case alreadyFormatted(path: String)
  /// The device belongs to someone else; the text says to whom.
  case foreign(String)
  /// Written by a newer version of this program.
  case newerFormat(path: String, version: UInt32)
  /// The file that names the device is damaged.
  case identityDamaged(path: String)
  /// The file system lacks what the settings require; the text says what.
  case unfit(String)
  /// The kernel refused.
  case system(RingError)
}

extension StoreError {
  /// The file system has no room now: the device may be well.
  package var isFull: Bool {
    if case .system(let error) = self { error.isFull } else { false }
  }
}

/// One line for people.
extension StoreError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .noSuchBlock: "no such block"
    case .corrupt(let what): "corrupt: \(what)"
    case .blockExists: "the block exists with other bytes"
    case .staleEpoch(let highest): "a higher epoch was seen: \(highest)"
    case .deviceFull: "the device is full"
    case .deviceFailed(let reason): "the device has failed: \(reason)"
    case .invalidRange: "no range of whole units within the block"
    case .invalidBlock(let what): "no valid block: \(what)"
    case .closed: "the device is closed"
    case .inUse(let path): "another process has the device open: \(path)"
    case .notFormatted(let path): "no device here: \(path)"
    case .alreadyFormatted(let path): "there is a device or data already: \(path)"
    case .foreign(let what): what
    case .newerFormat(let path, let version):
      "written by a newer version (format \(version)): \(path)"
    case .identityDamaged(let path): "the device's identity is damaged: \(path)/identity"
    case .unfit(let what): what
    case .system(let error): "\(error)"
    }
  }
}
