import Glibc

/// Memory for large buffers in huge pages. It comes page by page as it is wanted, is zeroed by the kernel when first touched,
/// and goes page by page when nobody has needed it for a while, so that an idle process has none.
///
/// A buffer of 1 MiB in ordinary pages is 256 places to the disk, and a virtio disk without indirect descriptors holds 256
/// places at a time: one request, where it could have all that wait. In a huge page it is one place, and there is one
/// page to look up instead of 256.
struct HugePages: ~Copyable {
  static let pageByteCount = 2 << 20
  /// 64 KiB to 1 MiB. Smaller buffers may live long, and each would hold a page.
  static let orders = 4...BuddyAllocator.topOrder

  /// An address, as a number, which may cross threads; 0 when there is no memory.
  private let base: UInt
  private let byteCount: Int
  private var allocator: BuddyAllocator
  private var pages: [Page]
  /// Of pages that are in memory with nothing taken from them.
  private(set) var idleByteCount = 0

  private struct Page {
    var takenCount = 0
    var isResident = false
    /// Since unused pages were last dropped.
    var wasUsed = false
  }

  /// - Parameter byteCount: at most so much is given out, rounded up to whole pages; 0 for nothing ever.
  init(byteCount: Int) {
    let pageCount = (byteCount + Self.pageByteCount - 1) / Self.pageByteCount
    let mapped = pageCount > 0 ? Self.map(pageCount * Self.pageByteCount) : nil
    base = UInt(bitPattern: mapped)
    self.byteCount = mapped == nil ? 0 : pageCount * Self.pageByteCount
    pages = Array(repeating: Page(), count: mapped == nil ? 0 : pageCount)
    allocator = BuddyAllocator(blockCount: self.byteCount >> 20)
  }

  deinit {
    if let start = UnsafeMutableRawPointer(bitPattern: base) { munmap(start, byteCount) }
  }

  /// Address space that begins at a huge page and asks for them; nothing of it is in memory yet. Nil when the kernel gives
  /// none.
  ///
  /// - Parameter byteCount: a multiple of 4096.
  static func map(_ byteCount: Int) -> UnsafeMutableRawPointer? {
    let wanted = byteCount + pageByteCount
    let fresh = mmap(
      nil, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let fresh, fresh != MAP_FAILED else { return nil }
    let over = Int(bitPattern: fresh) % pageByteCount
    let skipped = over == 0 ? 0 : pageByteCount - over
    let start = fresh + skipped
    if skipped > 0 { munmap(fresh, skipped) }
    munmap(start + byteCount, wanted - skipped - byteCount)
    // Where there are none, ordinary pages do.
    madvise(start, byteCount, MADV_HUGEPAGE)
    return start
  }

  func contains(_ address: UnsafeMutableRawPointer) -> Bool {
    let address = UInt(bitPattern: address)
    return address >= base && address - base < byteCount
  }

  /// - Returns: the address of 2^order units of 4 KiB; nil when there is no room or buffers of that size are not kept here.
  mutating func take(order: Int) -> UInt? {
    guard Self.orders.contains(order), let unit = allocator.take(order: order) else { return nil }
    let page = unit * 4096 / Self.pageByteCount
    if pages[page].takenCount == 0 && pages[page].isResident { idleByteCount -= Self.pageByteCount }
    pages[page].takenCount += 1
    pages[page].isResident = true
    pages[page].wasUsed = true
    return base + UInt(unit * 4096)
  }

  mutating func giveBack(_ address: UnsafeMutableRawPointer, order: Int) {
    let offset = Int(UInt(bitPattern: address) - base)
    let page = offset / Self.pageByteCount
    pages[page].takenCount -= 1
    if pages[page].takenCount == 0 { idleByteCount += Self.pageByteCount }
    allocator.giveBack(offset / 4096, order: order)
  }

  /// Gives idle pages back to the kernel: all, or those from which nothing was taken since the last call.
  mutating func dropIdle(onlyUnused: Bool) {
    for page in pages.indices where pages[page].isResident {
      if pages[page].takenCount == 0 && !(onlyUnused && pages[page].wasUsed) {
        let start = base + UInt(page * Self.pageByteCount)
        madvise(UnsafeMutableRawPointer(bitPattern: start), Self.pageByteCount, MADV_DONTNEED)
        pages[page].isResident = false
        idleByteCount -= Self.pageByteCount
      }
      pages[page].wasUsed = pages[page].takenCount > 0
    }
  }
}
