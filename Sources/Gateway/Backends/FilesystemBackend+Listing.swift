import Coding
import Messages
import Ring

extension FilesystemBackend {
  package func list(_ request: ListRequest) async throws(BackendError) -> ListPage {
    try await requireBucket(request.bucket)
    var keys: [String] = []
    try await gather(folder(request.bucket), [], request.prefix, &keys)
    keys.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    var page = ListPage()
    var last = ""
    var group: String?
    for key in keys {
      guard key.utf8.starts(with: request.prefix.utf8),
        request.after.isEmpty || request.after.utf8.lexicographicallyPrecedes(key.utf8)
      else { continue }
      if let group, key.utf8.starts(with: group.utf8) {
        last = key
        continue
      }
      if page.entries.count + page.prefixes.count == request.limit {
        page.next = last
        break
      }
      group = Self.group(of: key, prefix: request.prefix, delimiter: request.delimiter)
      if let group {
        page.prefixes.append(group)
      } else {
        let name = ObjectName(bucket: request.bucket, key: key)
        // Gone since the folder was read.
        guard let status = try await place(name).status else { continue }
        page.entries.append(
          ListPage.Entry(
            key: key, byteCount: status.byteCount,
            modified: UInt64(max(0, status.modified)) / 1_000_000,
            attributes: try await record(name, status).attributes,
            contentName: status.versionName.hex))
      }
      last = key
    }
    return page
  }

  /// The key up to and with the first delimiter after the prefix.
  static func group(of key: String, prefix: String, delimiter: String) -> String? {
    guard !delimiter.isEmpty else { return nil }
    let bytes = Array(key.utf8)
    let mark = Array(delimiter.utf8)
    let first = prefix.utf8.count
    guard bytes.count >= first + mark.count else { return nil }
    for place in first...bytes.count - mark.count
    where bytes[place..<place + mark.count].elementsEqual(mark) {
      return String(decoding: bytes[..<(place + mark.count)], as: UTF8.self)
    }
    return nil
  }

  /// Keys of all files below a folder, but of folders where none can begin with the prefix.
  private func gather(
    _ path: String, _ names: [String], _ prefix: String, _ keys: inout [String]
  ) async throws(BackendError) {
    let entries: [DirectoryEntry]
    do throws(RingError) {
      entries = try await driver.list(path)
    } catch {
      // Gone since the folder above was read.
      if names.isEmpty { throw BackendError(error) }
      return
    }
    for entry in entries {
      guard let name = String(validating: entry.name, as: UTF8.self) else { continue }
      let below = names + [name]
      if entry.kind == .directory {
        // With any name in it: what it stands for is what its files' keys begin with.
        guard let sample = FileNames.key(below + ["x"]) else { continue }
        let start = String(String.UnicodeScalarView(sample.unicodeScalars.dropLast()))
        guard start.utf8.starts(with: prefix.utf8) || prefix.utf8.starts(with: start.utf8) else {
          continue
        }
        try await gather("\(path)/\(name)", below, prefix, &keys)
      } else if entry.kind == .file, let key = FileNames.key(below) {
        keys.append(key)
      }
    }
  }
}
