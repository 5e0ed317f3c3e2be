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
  /// The kernel refused.
  case system(RingError)
}
