/// The pages of a file by their index; where there is none, there are zeros.
///
/// In leaves of 64, so that a run of pages costs few look-ups, a copy, which shares leaves until either changes, costs
/// little, and a file of a terabyte with few pages is small.
struct PageTable {
  private struct Leaf {
    private(set) var pages = [Page?](repeating: nil, count: PageTable.leafCount)
    /// Those that are not nil.
    private(set) var count = 0

    /// - Returns: whether there was none.
    mutating func put(_ page: Page, at place: Int) -> Bool {
      let isNew = pages[place] == nil
      pages[place] = page
      if isNew { count += 1 }
      return isNew
    }

    mutating func remove(_ place: Int) {
      pages[place] = nil
      count -= 1
    }
  }

  private static let leafCount = 64

  /// By the index of their first page over `leafCount`; none is empty.
  private var leaves: [Int: Leaf] = [:]
  private(set) var count = 0

  subscript(index: Int) -> Page? {
    get { leaves[index / Self.leafCount]?.pages[index % Self.leafCount] }
    set {
      let key = index / Self.leafCount
      guard let newValue else { return remove(index % Self.leafCount, key) }
      let isNew = leaves[key, default: Leaf()].put(newValue, at: index % Self.leafCount)
      if isNew { count += 1 }
    }
  }

  private mutating func remove(_ place: Int, _ key: Int) {
    guard leaves[key]?.pages[place] != nil else { return }
    count -= 1
    leaves[key]!.remove(place)
    if leaves[key]!.count == 0 { leaves[key] = nil }
  }

  /// In order.
  var indices: [Int] { indices(in: 0..<Int.max) }

  /// Those in `range` that have a page, in order.
  func indices(in range: Range<Int>) -> [Int] {
    guard let last = range.last else { return [] }
    let keys = range.lowerBound / Self.leafCount...last / Self.leafCount
    // A sparse file of a terabyte has few leaves: go by whichever are fewer.
    let present =
      keys.count <= leaves.count
      ? keys.filter { leaves[$0] != nil } : leaves.keys.filter { keys.contains($0) }.sorted()
    var found: [Int] = []
    for key in present {
      let first = key * Self.leafCount
      for (place, page) in leaves[key]!.pages.enumerated()
      where page != nil && range.contains(first + place) { found.append(first + place) }
    }
    return found
  }

  /// Calls `body` with each index of `range`, in order, and its page.
  func visit(_ range: Range<Int>, _ body: (Int, Page?) -> Void) {
    var index = range.lowerBound
    while index < range.upperBound {
      let key = index / Self.leafCount
      let end = min(range.upperBound, (key + 1) * Self.leafCount)
      if let leaf = leaves[key] {
        for index in index..<end { body(index, leaf.pages[index % Self.leafCount]) }
      } else {
        for index in index..<end { body(index, nil) }
      }
      index = end
    }
  }
}
