import Synchronization

/// 4 KiB of a file. Filled by whoever makes it, never changed after a file holds it, so files, disk
/// images and unsynced versions share pages freely.
@safe final class Page: @unchecked Sendable {
  static let byteCount = 4096
  static let sectorByteCount = 512
  static let allSectors: UInt8 = 0xFF

  let base: UnsafeMutableRawPointer

  /// Not initialised: the maker fills all of it.
  init() { base = PageMemory.take() }

  /// - Parameter other: nil stands for zeros.
  init(copying other: Page?) {
    base = PageMemory.take()
    if let other {
      base.copyMemory(from: other.base, byteCount: Self.byteCount)
    } else {
      base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
    }
  }

  deinit { PageMemory.giveBack(base) }

  /// `under` with the sectors in `mask` taken from `over`; nil stands for zeros.
  static func overlay(_ over: Page?, on under: Page?, sectors mask: UInt8) -> Page? {
    if mask == allSectors { return over }
    if mask == 0 { return under }
    let page = Page(copying: under)
    for sector in 0..<8 where mask & (1 << sector) != 0 {
      let place = page.base + sector * sectorByteCount
      if let over {
        place.copyMemory(
          from: over.base + sector * sectorByteCount, byteCount: sectorByteCount)
      } else {
        place.initializeMemory(as: UInt8.self, repeating: 0, count: sectorByteCount)
      }
    }
    return page
  }

  /// The sectors that bytes `start..<end` of a page touch.
  static func sectors(_ start: Int, _ end: Int) -> UInt8 {
    let first = start / sectorByteCount
    let last = (end - 1) / sectorByteCount
    return UInt8(truncatingIfNeeded: (1 << (last + 1)) - (1 << first))
  }
}

/// Memory of pages that are gone, for the next ones: pages come and go by the ten thousand a second, and
/// the allocator is slow at this size. Shared by all worlds, for images carry pages from one to another.
private enum PageMemory {
  /// Addresses, as numbers, which may cross threads; at most 32 MiB.
  private static let idle = Mutex<[UInt]>([])
  private static let limit = (32 << 20) / Page.byteCount

  static func take() -> UnsafeMutableRawPointer {
    if let address = idle.withLock({ $0.popLast() }) {
      return UnsafeMutableRawPointer(bitPattern: address)!
    }
    return .allocate(byteCount: Page.byteCount, alignment: 16)
  }

  static func giveBack(_ base: UnsafeMutableRawPointer) {
    let address = UInt(bitPattern: base)
    let isKept = idle.withLock { idle in
      guard idle.count < limit else { return false }
      idle.append(address)
      return true
    }
    if !isKept { base.deallocate() }
  }
}
