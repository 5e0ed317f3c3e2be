internal import Cluster
internal import Coding
internal import Glibc
internal import Ring

/// A sorted, immutable file of index entries: `index/run-NNNNNNNN`, number in hexadecimal, everything little-endian.
///
///     pages    4096 bytes each: 4 bytes CRC32C of the rest of the page, 2 bytes number of entries (1 ... 63), zeros
///              to 64; then the entries (IndexEntry), ascending by key, no key twice; zeros
///     filter   the Bloom filter's 64-bit words, padded with zeros to 4096
///     keys     the first key of each page, 32 bytes: container, generation, stripe, shard index (8 bytes each);
///              padded with zeros to 4096
///     footer   4096 bytes: 0 "CAIRNRUN"; 8 version 1 (4 bytes); 12 run number (4); 16 device id; 24 pages;
///              32 entries; 40 words of the filter; 48 CRC32C of the filter section (4); 52 CRC32C of the key
///              section (4); 4092 CRC32C of bytes 0 ..< 4092
///
/// Readable or not, a run is never the truth: what it says can be read again from the volumes.
struct RunFooter: Equatable, Sendable {
  var number: UInt32
  var device: DeviceID
  var pageCount: UInt64
  var entryCount: UInt64
  var filterWordCount: UInt64
  var filterChecksum: UInt32
  var keysChecksum: UInt32

  static let magic: UInt64 = 0x4E55_524E_5249_4143  // "CAIRNRUN"
  static let version: UInt32 = 1

  var filterByteCount: UInt64 { (filterWordCount * 8 + 4095) / 4096 * 4096 }
  var keysByteCount: UInt64 { (pageCount * 32 + 4095) / 4096 * 4096 }
  var filterOffset: UInt64 { pageCount * 4096 }
  var keysOffset: UInt64 { filterOffset + filterByteCount }
  var footerOffset: UInt64 { keysOffset + keysByteCount }
  var fileByteCount: UInt64 { footerOffset + 4096 }

  func encode(into bytes: UnsafeMutableRawBufferPointer) {
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    bytes.put(Self.magic, at: 0)
    bytes.put(Self.version, at: 8)
    bytes.put(number, at: 12)
    bytes.put(device.raw, at: 16)
    bytes.put(pageCount, at: 24)
    bytes.put(entryCount, at: 32)
    bytes.put(filterWordCount, at: 40)
    bytes.put(filterChecksum, at: 48)
    bytes.put(keysChecksum, at: 52)
    bytes.seal()
  }

  /// Nil when damaged. Sizes are checked against `fileByteCount`.
  init?(_ bytes: UnsafeRawBufferPointer, fileByteCount: UInt64) {
    guard bytes.count == 4096 else { return nil }
    guard bytes.integer(at: 0, UInt64.self) == Self.magic,
      bytes.integer(at: 8, UInt32.self) == Self.version, bytes.isSealed
    else { return nil }
    number = bytes.integer(at: 12)
    device = DeviceID(bytes.integer(at: 16))
    pageCount = bytes.integer(at: 24)
    entryCount = bytes.integer(at: 32)
    filterWordCount = bytes.integer(at: 40)
    filterChecksum = bytes.integer(at: 48)
    keysChecksum = bytes.integer(at: 52)
    guard pageCount > 0, pageCount < 1 << 36, filterWordCount > 0, filterWordCount < 1 << 36,
      entryCount <= pageCount * 63, self.fileByteCount == fileByteCount
    else { return nil }
  }

  init(
    number: UInt32, device: DeviceID, pageCount: UInt64, entryCount: UInt64,
    filterWordCount: UInt64, filterChecksum: UInt32, keysChecksum: UInt32
  ) {
    self.number = number
    self.device = device
    self.pageCount = pageCount
    self.entryCount = entryCount
    self.filterWordCount = filterWordCount
    self.filterChecksum = filterChecksum
    self.keysChecksum = keysChecksum
  }
}

/// A run file is damaged, or cannot be read; the index is to be made anew from the volumes.
struct IndexDamage: Error, Equatable {
  var what: String
}

enum RunPage {
  static let byteCount = 4096
  static let entriesPerPage = 63
  static let headerByteCount = 64

  static func encode(_ entries: ArraySlice<IndexEntry>, into page: UnsafeMutableRawBufferPointer) {
    precondition(page.count == byteCount && (1...entriesPerPage).contains(entries.count))
    page.initializeMemory(as: UInt8.self, repeating: 0)
    page.storeBytes(of: UInt16(entries.count).littleEndian, toByteOffset: 4, as: UInt16.self)
    var at = headerByteCount
    for entry in entries {
      entry.encode(into: page.baseAddress! + at)
      at += IndexEntry.byteCount
    }
    let sum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: page[4...]))
    page.storeBytes(of: sum.littleEndian, toByteOffset: 0, as: UInt32.self)
  }

  /// Nil when damaged.
  static func entries(_ page: UnsafeRawBufferPointer) -> [IndexEntry]? {
    guard let count = entryCount(page) else { return nil }
    var entries: [IndexEntry] = []
    entries.reserveCapacity(count)
    for index in 0..<count {
      guard
        let entry = IndexEntry(
          page.baseAddress! + headerByteCount + index * IndexEntry.byteCount)
      else { return nil }
      entries.append(entry)
    }
    return entries
  }

  /// Nil when the checksum is wrong.
  static func entryCount(_ page: UnsafeRawBufferPointer) -> Int? {
    let sum = UInt32(littleEndian: page.loadUnaligned(as: UInt32.self))
    guard CRC32C.checksum(UnsafeRawBufferPointer(rebasing: page[4..<byteCount])) == sum else {
      return nil
    }
    let count = Int(UInt16(littleEndian: page.loadUnaligned(fromByteOffset: 4, as: UInt16.self)))
    return (1...entriesPerPage).contains(count) ? count : nil
  }
}

/// An open run: its filter and first keys are in memory, its pages on the device. Loop-confined.
final class Run: @unchecked Sendable {
  let footer: RunFooter
  private let filter: BloomFilter
  /// The first key of each page.
  private let firstKeys: [BlockKey]
  private let file: File
  private let driver: any Driver
  private var users = 0
  private var isRetired = false

  var number: UInt32 { footer.number }
  var entryCount: Int { Int(footer.entryCount) }

  static func name(_ number: UInt32) -> String {
    let digits = String(number, radix: 16)
    return "index/run-" + String(repeating: "0", count: 8 - digits.count) + digits
  }

  init(
    footer: RunFooter, filter: BloomFilter, firstKeys: [BlockKey], file: File, driver: any Driver
  ) {
    self.footer = footer
    self.filter = filter
    self.firstKeys = firstKeys
    self.file = file
    self.driver = driver
  }

  /// Opens a run and checks every byte of it.
  static func open(_ path: String, number: UInt32, device: DeviceID, on driver: any Driver)
    async throws(IndexDamage) -> Run
  {
    do {
      let file = try await File.open(path + "/" + name(number), O_RDONLY, on: driver)
      do {
        return try await load(file, path: path, number: number, device: device, on: driver)
      } catch {
        await file.close()
        throw error
      }
    } catch let error as RingError {
      throw IndexDamage(what: "\(error)")
    } catch let error as IndexDamage {
      throw error
    } catch {
      preconditionFailure("\(error)")
    }
  }

  private static func load(
    _ file: File, path: String, number: UInt32, device: DeviceID, on driver: any Driver
  ) async throws -> Run {
    let damage = IndexDamage(what: "\(name(number)) is damaged")
    let size = try await driver.status(path + "/" + name(number)).byteCount
    guard size >= 4096, size.isMultiple(of: 4096), size < 1 << 48 else { throw damage }
    let last = driver.buffers.slice(4096)
    guard try await file.read(into: last, at: size - 4096) == 4096,
      let footer = last.withBytes({ RunFooter($0, fileByteCount: size) }), footer.number == number,
      footer.device == device
    else { throw damage }

    var words: [UInt64] = []
    words.reserveCapacity(Int(footer.filterWordCount))
    try await readSection(
      file, at: footer.filterOffset, byteCount: footer.filterByteCount,
      checksum: footer.filterChecksum, damage: damage, on: driver
    ) { bytes in
      let count = min(bytes.count / 8, Int(footer.filterWordCount) - words.count)
      for index in 0..<count {
        words.append(
          UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)))
      }
      return true
    }
    var keys: [BlockKey] = []
    keys.reserveCapacity(Int(footer.pageCount))
    try await readSection(
      file, at: footer.keysOffset, byteCount: footer.keysByteCount, checksum: footer.keysChecksum,
      damage: damage, on: driver
    ) { bytes in
      let count = min(bytes.count / 32, Int(footer.pageCount) - keys.count)
      for index in 0..<count {
        guard let key = decodeKey(bytes.baseAddress! + index * 32) else { return false }
        keys.append(key)
      }
      return true
    }
    var pageIndex = 0
    try await readSection(
      file, at: 0, byteCount: footer.filterOffset, checksum: nil, damage: damage, on: driver
    ) { bytes in
      for at in stride(from: 0, to: bytes.count, by: RunPage.byteCount) {
        let page = UnsafeRawBufferPointer(rebasing: bytes[at..<at + RunPage.byteCount])
        guard RunPage.entryCount(page) != nil,
          let first = IndexEntry(page.baseAddress! + RunPage.headerByteCount),
          first.key == keys[pageIndex]
        else { return false }
        pageIndex += 1
      }
      return true
    }
    return Run(
      footer: footer, filter: BloomFilter(words: words), firstKeys: keys, file: file,
      driver: driver)
  }

  private static func readSection(
    _ file: File, at start: UInt64, byteCount: UInt64, checksum: UInt32?, damage: IndexDamage,
    on driver: any Driver, _ take: (UnsafeRawBufferPointer) -> Bool
  ) async throws {
    let window = driver.buffers.slice(Int(min(byteCount, 256 << 10)))
    var done: UInt64 = 0
    var sum: UInt32 = 0
    while done < byteCount {
      let part = window[0..<Int(min(UInt64(window.count), byteCount - done))]
      guard try await file.read(into: part, at: start + done) == part.count else { throw damage }
      let whole = part.withBytes { bytes in
        if checksum != nil { sum = CRC32C.checksum(bytes, seed: sum) }
        return take(bytes)
      }
      guard whole else { throw damage }
      done += UInt64(part.count)
    }
    guard checksum == nil || sum == checksum else { throw damage }
  }

  static func encode(_ key: BlockKey, into bytes: UnsafeMutableRawPointer) {
    bytes.storeBytes(of: key.shard.container.raw.littleEndian, as: UInt64.self)
    bytes.storeBytes(of: key.shard.generation.littleEndian, toByteOffset: 8, as: UInt64.self)
    bytes.storeBytes(of: key.stripe.littleEndian, toByteOffset: 16, as: UInt64.self)
    bytes.storeBytes(
      of: UInt64(key.shard.shardIndex).littleEndian, toByteOffset: 24, as: UInt64.self)
  }

  private static func decodeKey(_ bytes: UnsafeRawPointer) -> BlockKey? {
    let raw = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    let index = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    guard let kind = ContainerKind(rawValue: UInt8(raw >> 56)), index < 256 else { return nil }
    return BlockKey(
      shard: ShardKey(
        container: ContainerID(kind, raw & (1 << 56 - 1)),
        generation: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
        shardIndex: UInt8(index)),
      stripe: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
  }

  /// Keeps the file open until ``leave()``.
  func enter() { users += 1 }

  func leave() {
    users -= 1
    if users == 0 && isRetired { closeSoon() }
  }

  /// The index does not name it any more: its file is closed when the last user leaves. (It is unlinked by then, or
  /// will be by the next opening.)
  func retire() {
    isRetired = true
    if users == 0 { closeSoon() }
  }

  private func closeSoon() {
    let file = file
    driver.spawn("close run") { await file.close() }
  }

  func close() async { await file.close() }

  /// The page that holds `key` if any does; nil when `key` is below all.
  fileprivate func page(for key: BlockKey) -> Int? {
    var low = 0
    var high = firstKeys.count
    while low < high {
      let middle = (low + high) / 2
      if firstKeys[middle] <= key { low = middle + 1 } else { high = middle }
    }
    return low == 0 ? nil : low - 1
  }

  /// False: surely no entry of `key` here.
  func mayContain(_ key: BlockKey) -> Bool { filter.mayContain(key) }

  /// The entry of `key`, deletion marks included. The caller has entered.
  func find(_ key: BlockKey) async throws(IndexDamage) -> Place? {
    guard let page = page(for: key) else { return nil }
    let entries = try await pages(page..<page + 1)
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].key < key { low = middle + 1 } else { high = middle }
    }
    return low < entries.count && entries[low].key == key ? entries[low].place : nil
  }

  fileprivate var pageCount: Int { firstKeys.count }

  /// The entries of some pages, in order.
  fileprivate func pages(_ range: Range<Int>) async throws(IndexDamage) -> [IndexEntry] {
    let bytes = driver.buffers.slice(range.count * RunPage.byteCount)
    do {
      guard
        try await file.read(into: bytes, at: UInt64(range.lowerBound * RunPage.byteCount))
          == bytes.count
      else { throw IndexDamage(what: "\(Self.name(number)) is cut off") }
    } catch let error as IndexDamage {
      throw error
    } catch {
      throw IndexDamage(what: "\(error)")
    }
    var all: [IndexEntry] = []
    let whole = bytes.withBytes { bytes in
      for at in stride(from: 0, to: bytes.count, by: RunPage.byteCount) {
        let page = UnsafeRawBufferPointer(rebasing: bytes[at..<at + RunPage.byteCount])
        guard let entries = RunPage.entries(page) else { return false }
        all += entries
      }
      return true
    }
    guard whole else { throw IndexDamage(what: "\(Self.name(number)) is damaged") }
    return all
  }
}

/// Walks a run's entries in order.
final class RunCursor: @unchecked Sendable {
  // Loop-confined.
  private let run: Run
  private var nextPage: Int
  private var entries: [IndexEntry] = []
  private var position = 0
  private let pagesAtATime: Int
  private var isOpen = true

  /// Stands at the first entry not below `start` after the first ``load()``.
  init(_ run: Run, from start: BlockKey?, pagesAtATime: Int = 16) async throws(IndexDamage) {
    self.run = run
    self.pagesAtATime = pagesAtATime
    nextPage = start.flatMap { run.page(for: $0) } ?? 0
    run.enter()
    try await load()
    if let start {
      while let entry = current, entry.key < start { try await advance() }
    }
  }

  /// Nil at the end.
  var current: IndexEntry? { position < entries.count ? entries[position] : nil }

  func advance() async throws(IndexDamage) {
    position += 1
    if position >= entries.count { try await load() }
  }

  private func load() async throws(IndexDamage) {
    let end = min(nextPage + pagesAtATime, run.pageCount)
    position = 0
    entries = []
    guard nextPage < end else { return }
    do {
      entries = try await run.pages(nextPage..<end)
    } catch {
      close()
      throw error
    }
    nextPage = end
  }

  /// Lets the run's file go; call it once the walk is over.
  func close() {
    if isOpen {
      isOpen = false
      run.leave()
    }
  }
}

/// Writes a run, entry by entry in key order.
final class RunWriter: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private let file: File
  private let path: String
  private let number: UInt32
  private let device: DeviceID
  private var filter: BloomFilter
  private var firstKeys: [BlockKey] = []
  private var pending: [IndexEntry] = []
  private var window: Slice
  private var filled = 0
  private var offset: UInt64 = 0
  private var entryCount: UInt64 = 0

  /// - Parameter capacity: at least the number of entries to come.
  static func make(
    _ path: String, number: UInt32, device: DeviceID, capacity: Int, on driver: any Driver
  ) async throws(RingError) -> RunWriter {
    let file = try await File.open(
      path + "/" + Run.name(number), O_RDWR | O_CREAT | O_TRUNC, mode: 0o600, on: driver)
    return RunWriter(
      driver: driver, file: file, path: path, number: number, device: device, capacity: capacity)
  }

  private init(
    driver: any Driver, file: File, path: String, number: UInt32, device: DeviceID, capacity: Int
  ) {
    self.driver = driver
    self.file = file
    self.path = path
    self.number = number
    self.device = device
    filter = BloomFilter(capacity: capacity)
    window = driver.buffers.slice(256 << 10)
  }

  func append(_ entry: IndexEntry) async throws(RingError) {
    filter.insert(entry.key)
    if pending.isEmpty { firstKeys.append(entry.key) }
    pending.append(entry)
    entryCount += 1
    if pending.count == RunPage.entriesPerPage { try await endPage() }
  }

  private func endPage() async throws(RingError) {
    let page = window[filled..<filled + RunPage.byteCount]
    page.withMutableBytes { RunPage.encode(pending[...], into: $0) }
    pending.removeAll(keepingCapacity: true)
    filled += RunPage.byteCount
    if filled == window.count { try await drain() }
  }

  private func drain() async throws(RingError) {
    guard filled > 0 else { return }
    try await file.write([window[0..<filled]], at: offset)
    offset += UInt64(filled)
    filled = 0
  }

  /// Writes `bytes` padded with zeros to 4096 and returns the checksum of all of it.
  private func section(_ bytes: [UInt8]) async throws(RingError) -> UInt32 {
    let slice = driver.buffers.slice((bytes.count + 4095) / 4096 * 4096)
    let sum = slice.withMutableBytes { target in
      bytes.withUnsafeBytes { target.copyMemory(from: $0) }
      UnsafeMutableRawBufferPointer(rebasing: target[bytes.count...])
        .initializeMemory(as: UInt8.self, repeating: 0)
      return CRC32C.checksum(UnsafeRawBufferPointer(target))
    }
    try await file.write([slice], at: offset)
    offset += UInt64(slice.count)
    return sum
  }

  /// Ends and syncs the file. Nil when no entry was appended: there is no run then.
  func finish() async throws(RingError) -> Run? {
    if !pending.isEmpty { try await endPage() }
    try await drain()
    guard entryCount > 0 else {
      await abandon()
      return nil
    }
    let filterWords = filter.words.map(\.littleEndian)
    let filterSum = try await section(filterWords.withUnsafeBytes { Array($0) })
    var keys = [UInt8](repeating: 0, count: firstKeys.count * 32)
    keys.withUnsafeMutableBytes { bytes in
      for (index, key) in firstKeys.enumerated() {
        Run.encode(key, into: bytes.baseAddress! + index * 32)
      }
    }
    let keysSum = try await section(keys)
    let footer = RunFooter(
      number: number, device: device, pageCount: UInt64(firstKeys.count), entryCount: entryCount,
      filterWordCount: UInt64(filter.words.count), filterChecksum: filterSum,
      keysChecksum: keysSum)
    let last = driver.buffers.slice(4096)
    last.withMutableBytes { footer.encode(into: $0) }
    try await file.write([last], at: offset)
    try await file.synchronize(dataOnly: false)
    return Run(
      footer: footer, filter: filter, firstKeys: firstKeys, file: file, driver: driver)
  }

  /// Closes and removes what was written.
  func abandon() async {
    await file.close()
    try? await driver.remove(path + "/" + Run.name(number))
  }
}
