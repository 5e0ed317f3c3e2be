import Coding
import Messages
import Ring

/// Turns an object's chunks, in order, into runs and pages as their places become known, so that only one open page
/// a level is in memory. Loop-confined.
///
/// Pages of every level are cut where fingerprints say, so that equal content gives equal pages wherever it stands, and
/// objects that differ in one place share all pages but those on its path to the root, or nearly. Let w be the last 64 bits of the
/// last chunk's fingerprint. A page of chunks ends after a chunk with bits 0 to 7 of w zero; a page of children of level i
/// (from 0) after a child whose last chunk has bits 8 + 6 i to 13 + 6 i zero, once it has 16 children. Both end at 1,024
/// entries at the latest.
///
/// Without the 16, a repeated chunk with such bits would make pages of one child.
struct ManifestBuilder {
  /// Runs of the open page.
  private var runs: [Run] = []
  private var chunksInPage = 0
  /// The last 64 bits of the last chunk's fingerprint.
  private var lastWord: UInt64 = 0
  /// Open interior pages, lowest level first.
  private var levels: [[Page.Child]] = []
  private(set) var byteCount: UInt64 = 0

  private let put: (Page) async throws(DataPathError) -> UInt64

  private static let fewestChildren = 16

  /// - Parameter put: stores a page and returns its identity.
  init(put: @escaping (Page) async throws(DataPathError) -> UInt64) { self.put = put }

  mutating func add(_ handle: ChunkHandle) async throws(DataPathError) {
    let location = try await handle.location()
    let length = UInt64(handle.byteCount)
    if let last = runs.last, last.container == location.container,
      last.firstOrdinal + UInt64(last.count) == location.ordinal, last.count < UInt32.max
    {
      runs[runs.count - 1].count += 1
      runs[runs.count - 1].byteCount += length
    } else {
      runs.append(
        Run(
          container: location.container, firstOrdinal: location.ordinal, count: 1, skip: 0,
          byteCount: length))
    }
    chunksInPage += 1
    byteCount += length
    lastWord = handle.fingerprint.w3
    if chunksInPage == Page.entryLimit || lastWord & 0xFF == 0 { try await endPage() }
  }

  /// The content of the object. Call once, after the last chunk.
  ///
  /// - Parameter hasRoot: a root page in any case.
  mutating func finish(hasRoot: Bool = false) async throws(DataPathError) -> ObjectContent {
    if !hasRoot && levels.isEmpty && runs.count <= ObjectContent.embeddedRunLimit {
      return .embedded(runs)
    }
    if !runs.isEmpty { try await endPage() }
    var level = 0
    while level < levels.count {
      let children = levels[level]
      let isTop = levels[(level + 1)...].allSatisfy(\.isEmpty)
      if isTop && children.count == 1 { return .root(children[0].page) }
      if !children.isEmpty { try await endLevel(level) }
      level += 1
    }
    throw .corrupt("manifest without pages")
  }

  private mutating func endPage() async throws(DataPathError) {
    let bytes = runs.reduce(0) { $0 + $1.byteCount }
    let page = Page.runs(runs)
    runs = []
    chunksInPage = 0
    try await append(Page.Child(page: try await put(page), byteCount: bytes), level: 0)
  }

  private mutating func append(_ child: Page.Child, level: Int) async throws(DataPathError) {
    if level == levels.count { levels.append([]) }
    levels[level].append(child)
    let count = levels[level].count
    if count == Page.entryLimit || count >= Self.fewestChildren && isCut(level) {
      try await endLevel(level)
    }
  }

  /// Whether the last chunk's fingerprint ends a page of this level.
  private func isCut(_ level: Int) -> Bool { lastWord >> UInt64(8 + 6 * level) & 0x3F == 0 }

  private mutating func endLevel(_ level: Int) async throws(DataPathError) {
    let children = levels[level]
    levels[level] = []
    let bytes = children.reduce(0) { $0 + $1.byteCount }
    try await append(
      Page.Child(page: try await put(.children(children)), byteCount: bytes), level: level + 1)
  }
}

/// The content hash of an object, chunk by chunk; see ``ObjectRecord/contentHash``. Loop-confined.
final class ContentHash: @unchecked Sendable {
  // Loop-confined.
  private var chunkCount = 0
  private var only: Fingerprint?
  private var hasher = SHA256Hasher()

  func add(_ fingerprint: Fingerprint, byteCount: Int) {
    chunkCount += 1
    only = fingerprint
    hasher.update(fingerprint.bytes)
    withUnsafeBytes(of: UInt32(byteCount).littleEndian) { hasher.update($0) }
  }

  /// Call once, after the last chunk.
  func finish() -> Fingerprint { chunkCount == 1 ? only! : hasher.finish() }
}
