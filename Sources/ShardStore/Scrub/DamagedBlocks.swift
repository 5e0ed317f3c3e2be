package import Cluster
internal import Ring

/// The blocks of a device that are known to be wrong, until each is deleted or written anew, or a scrub reads it right; and those that somebody else
/// holds for wrong though the device gives them as their checksums say.
struct DamagedBlocks {
  /// Keys kept of each of the two; the rest is only counted.
  static let limit = 4096

  /// In which volume the living, damaged record is: it stays there, for nothing copies it.
  private var damaged: [BlockKey: UInt32] = [:]
  private var damagedIn: [UInt32: Int] = [:]
  private var suspected: Set<BlockKey> = []
  /// Findings for which there was no room. A block that is found twice counts twice; each round of the scrub counts anew.
  private(set) var unlistedCount: UInt64 = 0

  /// What is known of one block.
  enum Standing { case sound, suspected, damaged }

  func standing(of key: BlockKey) -> Standing {
    if damaged[key] != nil { return .damaged }
    return suspected.contains(key) ? .suspected : .sound
  }

  var damagedCount: UInt64 { UInt64(damaged.count) + unlistedCount }
  var suspectedCount: Int { suspected.count }
  func holds(volume: UInt32) -> Bool { damagedIn[volume] != nil }

  /// - Returns: whether that was not known.
  mutating func note(_ key: BlockKey, in volume: UInt32) -> Bool {
    suspected.remove(key)
    if let known = damaged[key] {
      if known != volume {
        leave(known)
        damaged[key] = volume
        damagedIn[volume, default: 0] += 1
      }
      return false
    }
    guard damaged.count < Self.limit else {
      unlistedCount += 1
      return true
    }
    damaged[key] = volume
    damagedIn[volume, default: 0] += 1
    return true
  }

  /// - Returns: whether that was not known, and is now.
  mutating func suspect(_ key: BlockKey) -> Bool {
    guard damaged[key] == nil, suspected.count < Self.limit else { return false }
    return suspected.insert(key).inserted
  }

  /// The block is gone, or written anew, or cleared of suspicion.
  ///
  /// - Returns: whether anything was known of it.
  mutating func forget(_ key: BlockKey) -> Bool {
    let wasSuspected = suspected.remove(key) != nil
    guard let volume = damaged.removeValue(forKey: key) else { return wasSuspected }
    leave(volume)
    return true
  }

  private mutating func leave(_ volume: UInt32) {
    let left = damagedIn[volume, default: 1] - 1
    damagedIn[volume] = left > 0 ? left : nil
  }

  /// A round of the scrub begins, which meets again what is not listed.
  mutating func recount() { unlistedCount = 0 }

  /// Up to `limit` damaged keys, ascending, from above `after` and then from the lowest on.
  func damaged(after: BlockKey?, limit: Int) -> [BlockKey] {
    Self.page(damaged.keys, after, limit)
  }
  /// The same of those suspected.
  func suspected(after: BlockKey?, limit: Int) -> [BlockKey] {
    Self.page(suspected, after, limit)
  }

  private static func page(_ keys: some Collection<BlockKey>, _ after: BlockKey?, _ limit: Int)
    -> [BlockKey]
  {
    guard !keys.isEmpty else { return [] }
    let sorted = keys.sorted()
    guard sorted.count > limit, let after else { return Array(sorted.prefix(limit)) }
    let start = sorted.firstIndex { $0 > after } ?? 0
    return (0..<limit).map { sorted[(start + $0) % sorted.count] }
  }
}

extension ShardStore {
  /// Blocks known to be wrong now. Of more than a few thousand some are counted only.
  package var damagedBlockCount: UInt64 { damage.damagedCount }
  package var suspectedBlockCount: Int { damage.suspectedCount }

  /// Up to `limit` blocks known to be wrong, in the order of their keys from `after` on and round: whoever hands in the last
  /// key each time is told all of them.
  package func damagedBlocks(after: BlockKey?, limit: Int) -> [BlockKey] {
    damage.damaged(after: after, limit: limit)
  }
  /// The same of blocks that a reader found wrong and this device finds as they were written.
  package func suspectedBlocks(after: BlockKey?, limit: Int) -> [BlockKey] {
    damage.suspected(after: after, limit: limit)
  }

  /// The living record of the block, at `place`, is wrong or cannot be read.
  func noteDamage(_ key: BlockKey, at place: Place) {
    headers.remove(volume: place.volume, unit: place.unit)
    volumes[place.volume]?.holdsCorruptBlock = true
    guard damage.note(key, in: place.volume) else { return }
    damageChanged()
  }

  /// The record that was known to be wrong is the block's no more.
  func forgetDamage(_ key: BlockKey, at place: Place) {
    guard damage.forget(key) else { return }
    damageChanged()
    if damage.unlistedCount == 0, !damage.holds(volume: place.volume) {
      volumes[place.volume]?.holdsCorruptBlock = false
    }
  }

  /// What became of a block that somebody holds for wrong.
  package enum Verdict: Equatable, Sendable {
    /// It is wrong, or cannot be read.
    case damaged
    /// It is as its checksums say: wrong, if it is, since before it came here.
    case suspected
    case absent
  }

  /// Reads a block that somebody found wrong, whole, and remembers it as what it proves to be.
  ///
  /// - Throws: `closed`, `deviceFailed`, `system`; then nothing is known of it.
  package func examine(_ key: BlockKey) async throws(StoreError) -> Verdict {
    if isClosing { throw .closed }
    if damage.standing(of: key) == .damaged { return .damaged }
    guard let place = try await find(key) else { return .absent }
    if try await isWhole(key, at: place) {
      // Deleted or written anew while it was read?
      guard try await find(key) != nil else { return .absent }
      if damage.suspect(key) { damageChanged() }
      return .suspected
    }
    guard let now = try await find(key) else { return .absent }
    guard now == place else { return try await examine(key) }
    noteDamage(key, at: place)
    return .damaged
  }

  /// Whether the record at `place` is the block's, every byte of it.
  ///
  /// - Parameter fromDevice: as for ``fillFromDevice(_:volume:at:)``.
  /// - Throws: `system` when it cannot be tried.
  func isWhole(_ key: BlockKey, at place: Place, fromDevice: Bool = false)
    async throws(StoreError) -> Bool
  {
    let record = driver.buffers.slice(Int(place.recordByteCount))
    do throws(StoreError) {
      if fromDevice {
        try await fillFromDevice(record, volume: place.volume, at: place.offset)
      } else {
        try await fill(record, volume: place.volume, at: place.offset)
      }
    } catch {
      guard case .corrupt = error else { throw error }
      return false
    }
    return header(of: key, at: place, in: record) != nil
  }

  /// The header of a whole record; nil when anything of it is not as the index or its checksums say.
  func header(of key: BlockKey, at place: Place, in record: Slice) -> RecordHeader? {
    record.withBytes { bytes in
      guard case .header(let header) = RecordHeader.parse(bytes),
        belongs(header, to: key, at: place),
        header.layout == place.layout, header.acknowledged == place.acknowledged,
        header.matches(UnsafeRawBufferPointer(rebasing: bytes[RecordHeader.byteCount...]))
      else { return nil }
      return header
    }
  }

  /// Whether it is the header of that very record.
  func belongs(_ header: RecordHeader, to key: BlockKey, at place: Place) -> Bool {
    header.kind == .block && header.key == key && header.offset == place.offset
      && header.sequence == place.sequence && header.volumeID == volumes[place.volume]?.id
  }
}
