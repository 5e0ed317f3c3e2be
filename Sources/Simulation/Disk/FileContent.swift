/// The bytes of one file: what reads see, what is safely on the medium, and each change between.
///
/// Every change carries a sequence number. A sync covers the changes that were done when it was
/// submitted; later ones stay unsynced. Sizes and allocations follow the same rule as bytes.
final class FileContent {
  /// One page as a change left it. `page` nil is zeros.
  struct Version {
    var sequence: UInt64
    let index: Int
    var page: Page?
    /// The sectors that the change touched.
    var sectors: UInt8
    /// A write may be torn between sectors; zeroing by truncate or punch hole not within a page.
    var canTear: Bool
  }

  static let largestByteCount = 1 << 50

  private(set) var current = PageTable()
  private(set) var byteCount = 0
  private(set) var allocated = IntegerRanges()
  /// Of the last change.
  private(set) var sequence: UInt64 = 0

  private var durable = PageTable()
  private(set) var durableByteCount = 0
  private var durableAllocated = IntegerRanges()
  private var unsynced: [Version] = []
  private var unsyncedSizes: [(sequence: UInt64, byteCount: Int)] = []
  /// After a failed sync the cache may show what the medium will never get: versions no longer build
  /// on durable pages, so each must be laid over them sector by sector.
  private var isDetached = false

  /// Counts this file's pages while the file can be reached.
  private let account: SpaceAccount
  private var isCounted = true

  init(account: SpaceAccount) { self.account = account }

  /// A copy that shares pages. It is as after a clean unmount: all that `original` shows is durable.
  init(copying original: FileContent, durableOnly: Bool, account: SpaceAccount) {
    self.account = account
    current = durableOnly ? original.durable : original.current
    durable = current
    byteCount = durableOnly ? original.durableByteCount : original.byteCount
    durableByteCount = byteCount
    allocated = durableOnly ? original.durableAllocated : original.allocated
    durableAllocated = allocated
    account.usedPageCount += allocated.count
  }

  /// Pages that hold bytes within the file.
  var pageCount: Int { current.count }
  /// The same, in order.
  var pageIndices: [Int] { current.indices }

  var hasUnsynced: Bool { !unsynced.isEmpty || !unsyncedSizes.isEmpty }

  /// The file can no longer be reached: its pages are free.
  func stopCounting() {
    guard isCounted else { return }
    isCounted = false
    account.usedPageCount -= allocated.count
  }

  /// The opposite, after a crash brought its name back.
  func startCounting() {
    guard !isCounted else { return }
    isCounted = true
    account.usedPageCount += allocated.count
  }

  private func changeAllocation(_ change: (inout IntegerRanges) -> Void) {
    let before = allocated.count
    change(&allocated)
    if isCounted { account.usedPageCount += allocated.count - before }
  }

  private static func pages(_ offset: Int, _ count: Int) -> Range<Int> {
    let first = offset / Page.byteCount
    return first..<max(first, (offset + count + Page.byteCount - 1) / Page.byteCount)
  }

  /// Pages that must still be set aside before `count` bytes can be written at `offset`.
  func missingPageCount(_ offset: Int, _ count: Int) -> Int {
    let range = Self.pages(offset, count)
    return range.count - allocated.count(in: range)
  }

  // MARK: Reading

  /// Copies bytes from `offset` on, as far as the file goes; returns how many.
  func read(into target: UnsafeMutableRawBufferPointer, at offset: Int, durable: Bool = false)
    -> Int
  {
    let size = durable ? durableByteCount : byteCount
    let count = max(0, min(target.count, size - offset))
    guard count > 0, let base = target.baseAddress else { return 0 }
    var done = 0
    (durable ? self.durable : current).visit(Self.pages(offset, count)) { index, page in
      let start = offset + done - index * Page.byteCount
      let part = min(Page.byteCount - start, count - done)
      if let page {
        (base + done).copyMemory(from: page.base + start, byteCount: part)
      } else {
        (base + done).initializeMemory(as: UInt8.self, repeating: 0, count: part)
      }
      done += part
    }
    return count
  }

  // MARK: Changing

  func write(_ source: inout GatherCursor, at offset: Int, count: Int) {
    guard count > 0 else { return }
    sequence += 1
    var position = offset
    let end = offset + count
    while position < end {
      let index = position / Page.byteCount
      let start = position % Page.byteCount
      let part = min(Page.byteCount - start, end - position)
      let page = part == Page.byteCount ? Page() : Page(copying: current[index])
      source.copy(into: page.base + start, byteCount: part)
      put(page, at: index, sectors: Page.sectors(start, start + part), canTear: true)
      position += part
    }
    changeAllocation { $0.insert(Self.pages(offset, count)) }
    if end > byteCount { setSize(end) }
  }

  func truncate(to size: Int) {
    sequence += 1
    if size < byteCount { zero(size, byteCount - size) }
    let limit = (size + Page.byteCount - 1) / Page.byteCount
    changeAllocation { $0.remove(limit..<Int.max) }
    if size != byteCount { setSize(size) }
  }

  /// fallocate with mode 0 or KEEP_SIZE.
  func reserve(_ offset: Int, _ count: Int, keepSize: Bool) {
    sequence += 1
    changeAllocation { $0.insert(Self.pages(offset, count)) }
    if !keepSize && offset + count > byteCount { setSize(offset + count) }
  }

  func punchHole(_ offset: Int, _ count: Int) {
    sequence += 1
    zero(offset, min(count, max(0, byteCount - offset)))
    let first = (offset + Page.byteCount - 1) / Page.byteCount
    let last = (offset + count) / Page.byteCount
    if first < last { changeAllocation { $0.remove(first..<last) } }
  }

  private func zero(_ offset: Int, _ count: Int) {
    guard count > 0 else { return }
    let end = offset + count
    for index in current.indices(in: Self.pages(offset, count)) {
      let start = max(offset - index * Page.byteCount, 0)
      let stop = min(end - index * Page.byteCount, Page.byteCount)
      if start == 0 && (stop == Page.byteCount || end >= byteCount) {
        put(nil, at: index, sectors: Page.allSectors, canTear: false)
      } else {
        let page = Page(copying: current[index])
        (page.base + start).initializeMemory(as: UInt8.self, repeating: 0, count: stop - start)
        put(page, at: index, sectors: Page.sectors(start, stop), canTear: false)
      }
    }
  }

  private func setSize(_ size: Int) {
    byteCount = size
    // Merged into the older entry when there are many: the newer may then become durable with it,
    // which an unsynced change always may.
    if unsyncedSizes.count >= 64 {
      unsyncedSizes[unsyncedSizes.count - 1].byteCount = size
    } else {
      unsyncedSizes.append((sequence, size))
    }
  }

  private func put(_ page: Page?, at index: Int, sectors: UInt8, canTear: Bool) {
    current[index] = page
    // Small appends leave a version each; past 8 in a row the newest joins the one before (see setSize).
    if unsynced.count >= 8, unsynced.last?.index == index,
      unsynced.suffix(8).allSatisfy({ $0.index == index })
    {
      let last = unsynced.count - 1
      unsynced[last].page = page
      unsynced[last].sectors |= sectors
      unsynced[last].canTear = unsynced[last].canTear && canTear
      return
    }
    unsynced.append(
      Version(sequence: sequence, index: index, page: page, sectors: sectors, canTear: canTear))
  }

  // MARK: Durability

  /// Makes the changes up to `limit` durable.
  func synchronize(upTo limit: UInt64) {
    if !unsynced.isEmpty {
      var rest: [Version] = []
      for version in unsynced {
        if version.sequence <= limit {
          makeDurable(version, sectors: isDetached ? version.sectors : Page.allSectors)
        } else {
          rest.append(version)
        }
      }
      unsynced = rest
    }
    if let last = unsyncedSizes.last(where: { $0.sequence <= limit }) {
      durableByteCount = last.byteCount
      unsyncedSizes.removeAll { $0.sequence <= limit }
    }
    durableAllocated = allocated
  }

  private func makeDurable(_ version: Version, sectors: UInt8) {
    durable[version.index] = Page.overlay(
      version.page, on: durable[version.index], sectors: sectors)
  }

  /// What reaches the medium when nobody waits for it: of each unsynced change all, nothing or some
  /// sectors, in any combination.
  private func drawFate(_ random: inout SimulationRandom) {
    enum Fate {
      case kept, lost, torn
      case begun(pagesLeft: Int)
    }
    let whole = random.below(4)
    var fates: [UInt64: Fate] = [:]
    for version in unsynced {
      let fate: Fate
      switch whole {
      case 0: fate = .lost
      case 1: fate = .kept
      default:
        if let known = fates[version.sequence] {
          fate = known
        } else {
          switch random.below(4) {
          case 0: fate = .kept
          case 1: fate = .lost
          case 2: fate = .torn
          default:
            let count = unsynced.count { $0.sequence == version.sequence }
            fate = .begun(pagesLeft: 1 + random.below(count))
          }
          fates[version.sequence] = fate
        }
      }
      switch fate {
      case .lost: continue
      case .kept: makeDurable(version, sectors: version.sectors)
      case .begun(let left):
        // In the order in which it was written: whole pages, part of one, and no more.
        fates[version.sequence] = .begun(pagesLeft: left - 1)
        guard left > 0 else { continue }
        let isLast = left == 1 && version.canTear
        makeDurable(
          version,
          sectors: isLast ? version.sectors & UInt8(0xFF >> (1 + random.below(8))) : version.sectors
        )
      case .torn:
        let lot = UInt8(truncatingIfNeeded: random.next())
        makeDurable(
          version,
          sectors: version.canTear
            ? version.sectors & lot : (lot & 1 == 0 ? 0 : version.sectors))
      }
    }
    switch whole {
    case 0: break
    case 1: durableByteCount = byteCount
    default:
      let pick = random.below(unsyncedSizes.count + 1)
      if pick > 0 { durableByteCount = unsyncedSizes[pick - 1].byteCount }
    }
    if whole == 1 || (whole > 1 && random.chance(1, in: 2)) { durableAllocated = allocated }
    unsynced = []
    unsyncedSizes = []
    trimDurable()
  }

  /// Beyond its end a file has no bytes, whatever once was there.
  private func trimDurable() {
    let limit = (durableByteCount + Page.byteCount - 1) / Page.byteCount
    for index in durable.indices(in: limit..<Int.max) { durable[index] = nil }
    let tail = durableByteCount % Page.byteCount
    if tail > 0, let last = durable[limit - 1] {
      let page = Page(copying: last)
      (page.base + tail).initializeMemory(
        as: UInt8.self, repeating: 0, count: Page.byteCount - tail)
      durable[limit - 1] = page
    }
    for index in durable.indices { durableAllocated.insert(index..<index + 1) }
  }

  /// Power is lost. The file counts no more until it is found again.
  func crash(_ random: inout SimulationRandom) {
    isCounted = false
    drawFate(&random)
    showDurable()
  }

  private func showDurable() {
    current = durable
    byteCount = durableByteCount
    let before = allocated.count
    allocated = durableAllocated
    if isCounted { account.usedPageCount += allocated.count - before }
    isDetached = false
  }

  /// A sync failed: unsynced changes reached the medium as chance has it and no later sync will
  /// bring the rest. Reads go on showing them from the cache, or not, also as chance has it.
  func failSynchronize(_ random: inout SimulationRandom) {
    guard hasUnsynced else { return }
    drawFate(&random)
    if random.chance(1, in: 2) { showDurable() } else { isDetached = true }
  }

  // MARK: Behind the kernel's back

  /// Changes bytes on the medium and in the cache alike. `offset + count` is at most the size.
  func overwrite(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    var done = 0
    while done < bytes.count {
      let position = offset + done
      let index = position / Page.byteCount
      let start = position % Page.byteCount
      let part = min(Page.byteCount - start, bytes.count - done)
      let isShared = current[index] === durable[index]
      let patch = { (old: Page?) -> Page in
        let page = Page(copying: old)
        (page.base + start).copyMemory(from: bytes.baseAddress! + done, byteCount: part)
        return page
      }
      let fresh = patch(current[index])
      current[index] = fresh
      durable[index] = isShared ? fresh : patch(durable[index])
      done += part
    }
    let pages = Self.pages(offset, bytes.count)
    changeAllocation { $0.insert(pages) }
    durableAllocated.insert(pages)
  }

  /// Cuts or extends both the medium's file and the cache's.
  func forceSize(_ size: Int) {
    truncate(to: size)
    synchronize(upTo: sequence)
    durableByteCount = size
    trimDurable()
  }
}

/// Pages in use on one disk.
final class SpaceAccount {
  var usedPageCount = 0
}
