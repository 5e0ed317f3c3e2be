internal import Glibc
internal import Ring

/// Walks the records of a volume by their headers, past damage: where no record of this volume stands, it looks for
/// the next in steps of 4 KiB. Loop-confined.
final class VolumeScanner: @unchecked Sendable {
  enum Item {
    case record(RecordHeader)
    /// No readable header here, though a record stands behind it, or the bytes are not zero.
    case damaged(Range<UInt64>)
    /// A record that a newer version wrote.
    case newer(offset: UInt64, version: UInt16)
  }

  private let file: File
  private let volumeID: UInt64
  private let end: UInt64
  private let driver: any Driver
  private(set) var position: UInt64
  private(set) var readErrorCount = 0
  /// Where the last record found ends; the start when there was none.
  private(set) var lastEnd: UInt64
  /// Bytes of the file from `windowStart`.
  private var window: Slice?
  private var windowStart: UInt64 = 0
  /// How much to read at a time: little after a large record, more among small ones or when searching.
  private var readByteCount = 64 << 10
  /// Sequences rise in a volume.
  private var lastSequence: UInt64
  private var found: RecordHeader?

  /// - Parameters:
  ///   - start: where a record or the end is expected.
  ///   - end: bytes of the file.
  ///   - after: records of this sequence or lower are none.
  init(
    _ file: File, volumeID: UInt64, from start: UInt64, to end: UInt64, after: UInt64,
    driver: any Driver
  ) {
    self.file = file
    self.volumeID = volumeID
    position = start
    lastEnd = start
    self.end = end / 4096 * 4096
    lastSequence = after
    self.driver = driver
  }

  /// The next record or damaged place; nil at the end.
  func next() async -> Item? {
    if let record = found {
      found = nil
      return take(record)
    }
    let start = position
    var isBlank = true
    while position < end {
      let header = await unit(at: position)
      if let header {
        switch header.withBytes({ RecordHeader.parse($0) }) {
        case .header(let record)
        where record.volumeID == volumeID && record.offset == position
          && record.sequence > lastSequence
          && record.recordByteCount <= end - position:
          if position > start {
            found = record
            return .damaged(start..<position)
          }
          return take(record)
        // Beyond damage the search crosses payloads, which may hold anything, even volumes of ours. A record says where it
        // stands, in whatever version.
        case .newer(let version) where position == start || isRecordHere(header):
          defer { position += 4096 }
          return .newer(offset: position, version: version)
        default:
          if position == start {
            isBlank = header.withBytes { bytes in bytes.allSatisfy { $0 == 0 } }
          }
        }
      } else if position == start {
        isBlank = false
      }
      position += 4096
      readByteCount = 1 << 20
    }
    return isBlank ? nil : start < end ? .damaged(start..<end) : nil
  }

  /// Volume and offset stand in the first bytes, which no version changes.
  private func isRecordHere(_ header: Slice) -> Bool {
    header.withBytes {
      $0.integer(at: 16, UInt64.self) == volumeID && $0.integer(at: 24, UInt64.self) == position
    }
  }

  private func take(_ record: RecordHeader) -> Item {
    lastSequence = record.sequence
    position = record.offset + record.recordByteCount
    lastEnd = position
    readByteCount = record.recordByteCount > 64 << 10 ? 16 << 10 : 256 << 10
    return .record(record)
  }

  /// The 4 KiB at `offset`; nil when they cannot be read.
  private func unit(at offset: UInt64) async -> Slice? {
    if let window, offset >= windowStart, offset + 4096 <= windowStart + UInt64(window.count) {
      let at = Int(offset - windowStart)
      return window[at..<at + 4096]
    }
    window = nil
    let whole = driver.buffers.slice(Int(min(UInt64(readByteCount), end - offset)))
    if let count = try? await file.read(into: whole, at: offset), count >= 4096 {
      window = whole[0..<count / 4096 * 4096]
      windowStart = offset
      return whole[0..<4096]
    }
    // One bad sector must not hide its neighbours.
    let single = whole[0..<4096]
    if let count = try? await file.read(into: single, at: offset), count == 4096 { return single }
    readErrorCount += 1
    return nil
  }
}
