package import Cluster
internal import Coding
package import Ring

extension ShardStore {
  /// Reads part of a block and verifies it against the checksums of its header.
  ///
  /// - Parameters:
  ///   - offset: in the payload; a multiple of 4096.
  ///   - byteCount: a multiple of 4096; 0 asks for the description alone.
  /// - Returns: what the record says of the block, the checksums of the units read, and the bytes.
  /// - Throws: `noSuchBlock`, `corrupt`, `invalidRange`; `system` when it could not be tried.
  package func read(_ key: BlockKey, offset: Int, byteCount: Int) async throws(StoreError)
    -> (block: StoredBlock, checksums: [UInt32], bytes: Slice)
  {
    let unit = RecordHeader.unit
    guard offset >= 0, byteCount >= 0, offset.isMultiple(of: unit), byteCount.isMultiple(of: unit)
    else { throw .invalidRange }
    if isClosing { throw .closed }
    readsUnderWay += 1
    defer { readsUnderWay -= 1 }
    var place = try await find(key)
    while true {
      guard let there = place else { throw .noSuchBlock }
      guard byteCount <= there.payloadByteCount, offset <= there.payloadByteCount - byteCount
      else { throw .invalidRange }
      do throws(StoreError) {
        return try await read(key, at: there, offset: offset, byteCount: byteCount)
      } catch {
        guard case .corrupt = error else { throw error }
        // Deleted or moved while we read?
        place = try await find(key)
        if place == there {
          corruptReadCount += 1
          noteDamage(key, at: there)
          throw error
        }
      }
    }
  }

  private func read(_ key: BlockKey, at place: Place, offset: Int, byteCount: Int)
    async throws(StoreError) -> (block: StoredBlock, checksums: [UInt32], bytes: Slice)
  {
    let header: RecordHeader
    let bytes: Slice
    if let known = headers.header(volume: place.volume, unit: place.unit), known.key == key {
      header = known
      bytes = driver.buffers.slice(byteCount)
      if byteCount > 0 {
        try await fill(
          bytes, volume: place.volume,
          at: place.offset + UInt64(RecordHeader.byteCount + offset))
      }
    } else if let near = try await readWithHeader(key, place, offset, byteCount) {
      (header, bytes) = near
    } else {
      async let first = readHeaderResult(of: key, at: place)
      bytes = driver.buffers.slice(byteCount)
      let second: Result<Void, StoreError>
      do throws(StoreError) {
        try await fill(
          bytes, volume: place.volume,
          at: place.offset + UInt64(RecordHeader.byteCount + offset))
        second = .success(())
      } catch {
        second = .failure(error)
      }
      header = try await first.get()
      try second.get()
    }
    guard let block = header.block, block.key == key else {
      throw .corrupt("another block stands there")
    }
    let units = offset / RecordHeader.unit..<(offset + byteCount) / RecordHeader.unit
    guard units.upperBound <= header.checksums.count else { throw .corrupt("shorter than indexed") }
    let expected = Array(header.checksums[units])
    guard bytes.withBytes({ CRC32C.checksums(of: $0, unit: RecordHeader.unit) }) == expected else {
      throw .corrupt("checksum of the payload")
    }
    return (block, expected, bytes)
  }

  /// Header and range in one piece, when they are near each other; nil when they are not, or when a sector that may lie
  /// between them cannot be read.
  private func readWithHeader(_ key: BlockKey, _ place: Place, _ offset: Int, _ byteCount: Int)
    async throws(StoreError) -> (RecordHeader, Slice)?
  {
    guard offset <= 64 << 10 || byteCount == 0 else { return nil }
    let skipped = RecordHeader.byteCount + (byteCount == 0 ? 0 : offset)
    let whole = driver.buffers.slice(skipped + byteCount)
    do throws(StoreError) {
      try await fill(whole, volume: place.volume, at: place.offset)
    } catch {
      if offset > 0 { return nil }
      throw error
    }
    let header = try checkHeader(whole[0..<RecordHeader.byteCount], of: key, at: place)
    return (header, whole[skipped..<skipped + byteCount])
  }

  private func readHeaderResult(of key: BlockKey, at place: Place) async
    -> Result<RecordHeader, StoreError>
  {
    do throws(StoreError) { return .success(try await readHeader(of: key, at: place)) } catch {
      return .failure(error)
    }
  }

  /// The header of the record at `place`, checked.
  func readHeader(of key: BlockKey, at place: Place) async throws(StoreError) -> RecordHeader {
    if let known = headers.header(volume: place.volume, unit: place.unit), known.key == key {
      return known
    }
    let bytes = driver.buffers.slice(RecordHeader.byteCount)
    try await fill(bytes, volume: place.volume, at: place.offset)
    return try checkHeader(bytes, of: key, at: place)
  }

  private func checkHeader(_ bytes: Slice, of key: BlockKey, at place: Place)
    throws(StoreError) -> RecordHeader
  {
    guard case .header(let header) = bytes.withBytes({ RecordHeader.parse($0) }),
      belongs(header, to: key, at: place)
    else { throw .corrupt("header of the record") }
    headers.insert(header, volume: place.volume, unit: place.unit)
    return header
  }

  /// Reads all of `slice`; bytes that cannot be read count as wrong ones.
  ///
  /// - Throws: `corrupt`; `system` when our own process lacks what it takes, which says nothing about the bytes.
  func fill(_ slice: Slice, volume number: UInt32, at offset: UInt64) async throws(StoreError) {
    guard let volume = volumes[number] else { throw .corrupt("the volume is gone") }
    do throws(RingError) {
      let count = try await volumes.use(volume) { file throws(RingError) in
        if let sweptReads {
          return try await sweptReads.read(file, of: number, into: slice, at: offset)
        }
        return try await file.read(into: slice, at: offset)
      }
      guard let count else { throw RingError(errno: 2, operation: "read", subject: volume.name) }
      guard count == slice.count else {
        throw RingError(errno: 5, operation: "read past the end", subject: volume.name)
      }
    } catch {
      if error.isOurShortage { throw .system(error) }
      throw .corrupt("\(error)")
    }
  }
}
