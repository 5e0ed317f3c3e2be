internal import Ring

/// A file, directory or symbolic link, apart from its name.
final class Inode {
  enum Body {
    case file(FileContent)
    case directory(DirectoryBody)
    case symbolicLink([UInt8])
  }

  struct Attributes {
    var mode: UInt32
    /// Nanoseconds since 1970.
    var modified: Int64
  }

  let number: UInt64
  let body: Body
  var attributes: Attributes
  var durableAttributes: Attributes
  /// Names that lead here, as the running system sees them; the root counts one.
  var nameCount = 0
  var openCount = 0
  var lockHolder: OpenFile?
  /// Sectors of 512 bytes that cannot be read until they are written again.
  var unreadableSectors = IntegerRanges()

  init(number: UInt64, body: Body, attributes: Attributes) {
    self.number = number
    self.body = body
    self.attributes = attributes
    durableAttributes = attributes
  }

  var kind: FileKind {
    switch body {
    case .file: .file
    case .directory: .directory
    case .symbolicLink: .symbolicLink
    }
  }

  var file: FileContent? { if case .file(let content) = body { content } else { nil } }
  var directory: DirectoryBody? { if case .directory(let body) = body { body } else { nil } }

  /// These bytes were written, or are gone: sectors that lie whole among them can be read again.
  func remakeSectors(_ start: Int, _ count: Int) {
    guard unreadableSectors.count > 0 else { return }
    let sector = Page.sectorByteCount
    let first = (start + sector - 1) / sector
    let last = (start + count) / sector
    if first < last { unreadableSectors.remove(first..<last) }
  }

  /// Frees the pages of a file without names that nobody has open.
  func releaseIfUnreachable() {
    if nameCount == 0 && openCount == 0 { file?.stopCounting() }
  }
}

/// The names in a directory, as the running system sees them and as the medium has them.
final class DirectoryBody {
  var current: [[UInt8]: Inode] = [:]
  var durable: [[UInt8]: Inode] = [:]

  /// By the bytes of their names.
  var sorted: [(name: [UInt8], inode: Inode)] {
    current.map { ($0.key, $0.value) }.sorted { $0.0.lexicographicallyPrecedes($1.0) }
  }
}
