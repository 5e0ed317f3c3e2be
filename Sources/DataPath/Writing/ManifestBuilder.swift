import Coding
import Messages
import Ring

/// Turns an object's chunks, in order, into runs and pages as their places become known, so that only one open page
/// a level is in memory. Loop-confined.
///
/// A page ends after a chunk whose fingerprint's last byte is zero, and after 1,024 entries at the latest, so that
/// equal content gives equal pages wherever it stands.
struct ManifestBuilder {
  /// Runs of the open page.
  private var runs: [Run] = []
  private var chunksInPage = 0
  /// Open interior pages, lowest level first.
  private var levels: [[Page.Child]] = []
  private(set) var byteCount: UInt64 = 0

  private let put: (Page) async throws(DataPathError) -> UInt64

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
    if chunksInPage == Page.entryLimit || handle.fingerprint.w3 & 0xFF == 0 { try await endPage() }
  }

  /// The content of the object. Call once, after the last chunk.
  mutating func finish() async throws(DataPathError) -> ObjectContent {
    if levels.isEmpty && runs.count <= ObjectContent.embeddedRunLimit { return .embedded(runs) }
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
    if levels[level].count == Page.entryLimit { try await endLevel(level) }
  }

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
