/// 4 KiB of a file. Filled by whoever makes it, never changed after a file holds it, so files, disk
/// images and unsynced versions share pages freely.
@safe final class Page: @unchecked Sendable {
  static let byteCount = 4096
  static let sectorByteCount = 512
  static let allSectors: UInt8 = 0xFF

  let base: UnsafeMutableRawPointer

  /// Not initialised: the maker fills all of it.
  init() { base = .allocate(byteCount: Self.byteCount, alignment: 64) }

  /// - Parameter other: nil stands for zeros.
  init(copying other: Page?) {
    base = .allocate(byteCount: Self.byteCount, alignment: 64)
    if let other {
      base.copyMemory(from: other.base, byteCount: Self.byteCount)
    } else {
      base.initializeMemory(as: UInt8.self, repeating: 0, count: Self.byteCount)
    }
  }

  deinit { base.deallocate() }

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
