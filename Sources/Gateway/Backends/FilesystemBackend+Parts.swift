package import DataPath
import Glibc  // Flags only.
package import Messages
import Ring
import Service
import Wire

/// Uploads in parts: a folder each below `.cairn/uploads/BUCKET/`, with a file `upload`, and for each part its bytes under its number
/// and identity, and a record that names these. What no record names is nobody's.
extension FilesystemBackend {
  private func folder(_ upload: UploadName) throws(BackendError) -> String {
    guard upload.id.utf8.count == 16,
      upload.id.utf8.allSatisfy({
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
          || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
      })
    else { throw .uploadNotFound }
    return inner("uploads/\(upload.name.bucket)/\(upload.id)")
  }

  private static func digits(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
  }

  private func upload(_ folder: String) async throws(BackendError) -> FileUpload? {
    guard try await status(folder + "/upload") != nil else { return nil }
    let bytes = try await attempt { () throws(RingError) in
      try await driver.readFile(folder + "/upload")
    }
    guard let upload = try? FileUpload(decoding: bytes) else {
      throw .failed("an upload's record cannot be read")
    }
    return upload
  }

  @discardableResult
  private func require(_ upload: UploadName) async throws(BackendError) -> FileUpload {
    try await requireBucket(upload.name.bucket)
    guard let found = try await self.upload(try folder(upload)),
      found.key.utf8.elementsEqual(upload.name.key.utf8)
    else { throw .uploadNotFound }
    return found
  }

  package func beginUpload(_ name: ObjectName, attributes: ObjectAttributes, owner: String)
    async throws(BackendError) -> String
  {
    try await requireBucket(name.bucket)
    let upload = UploadName(name, id: Self.digits(freshNumber()))
    let folder = try folder(upload)
    let record = FileUpload(
      key: name.key,
      description: MultipartDescription(
        initiated: UInt64(driver.wallClock.wholeMilliseconds), owner: owner,
        attributes: attributes))
    try await attempt { () throws(RingError) in
      try await driver.makeDirectories(folder)
      try await driver.replaceFile(folder + "/upload", with: record.encoded)
      try await driver.synchronizeDirectory(Self.parent(folder))
    }
    return upload.id
  }

  private func path(_ folder: String, _ number: UInt32, _ identity: UInt64) -> String {
    "\(folder)/\(Self.digits(UInt64(number)))-\(Self.digits(identity))"
  }

  package func putPart(
    _ upload: UploadName, number: UInt32, source: any ByteSource,
    describe: @escaping @Sendable () async throws(DataPathError) -> PartWords
  ) async throws(BackendError) {
    try await require(upload)
    let folder = try folder(upload)
    let written = try await write([source])
    do throws(BackendError) {
      let words: PartWords
      do throws(DataPathError) {
        words = try await describe()
      } catch {
        throw BackendError(error)
      }
      try await locked { () throws(BackendError) in
        try await require(upload)
        guard let status = try await status(written) else { throw .failed("\(written) is gone") }
        let former = try await allParts(folder).filter { $0.part.number == number }
        let identity = freshNumber()
        let part = ListParts.Part(
          part: NewPart(
            number: number, page: status.byteCount == 0 ? 0 : identity,
            byteCount: status.byteCount, digest: words.digest, checksum: words.checksum),
          identity: identity, modified: UInt64(driver.wallClock.wholeMilliseconds))
        let path = path(folder, number, identity)
        try await attempt { () throws(RingError) in
          try await driver.rename(written, to: path)
          try await driver.replaceFile(path + ".record", with: part.encoded)
        }
        for old in former {
          await discard(self.path(folder, number, old.identity) + ".record")
          await discard(self.path(folder, number, old.identity))
        }
      }
    } catch {
      await discard(written)
      throw error
    }
  }

  package func copyPart(
    _ upload: UploadName, number: UInt32, from source: FoundObject, range: Range<UInt64>,
    words: PartWords
  ) async throws(BackendError) {
    let file = try await open(source)
    do throws(BackendError) {
      try await putPart(upload, number: number, source: FileSource(file, range)) { words }
      await file.close()
    } catch {
      await file.close()
      throw error
    }
  }

  /// Of two with one number, as a crash may leave them, the later.
  private func allParts(_ folder: String) async throws(BackendError) -> [ListParts.Part] {
    var parts: [UInt32: ListParts.Part] = [:]
    for entry in try await attempt({ () throws(RingError) in try await driver.list(folder) }) {
      let name = String(decoding: entry.name, as: UTF8.self)
      guard name.hasSuffix(".record") else { continue }
      let bytes: [UInt8]
      do throws(RingError) {
        bytes = try await driver.readFile("\(folder)/\(name)")
      } catch {
        // Put again meanwhile.
        if error.errno == ENOENT { continue }
        throw BackendError(error)
      }
      guard let part = try? ListParts.Part(decoding: bytes) else {
        throw .failed("a part's record cannot be read")
      }
      if let other = parts[part.part.number], other.identity > part.identity { continue }
      parts[part.part.number] = part
    }
    return parts.values.sorted { $0.part.number < $1.part.number }
  }

  package func parts(_ upload: UploadName, after: UInt32, limit: Int) async throws(BackendError)
    -> PartPage
  {
    let found = try await require(upload)
    let rest =
      limit == 0 ? [] : try await allParts(folder(upload)).filter { $0.part.number > after }
    return PartPage(
      description: found.description, parts: Array(rest.prefix(limit)), isLast: rest.count <= limit)
  }

  package func complete(
    _ upload: UploadName, parts: [ListParts.Part], attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion {
    try await require(upload)
    let folder = try folder(upload)
    var last: UInt32 = 0
    for part in parts {
      guard part.part.number > last else { throw .invalidPartOrder }
      last = part.part.number
    }
    // Open: they stay what they are though they are put again.
    var files: [File] = []
    var written: String?
    do throws(BackendError) {
      let known = Set(try await allParts(folder).map(\.identity))
      guard parts.allSatisfy({ known.contains($0.identity) }) else { throw .partNotFound }
      for part in parts {
        let path = path(folder, part.part.number, part.identity)
        do throws(RingError) {
          files.append(try await File.open(path, O_RDONLY | O_CLOEXEC, on: driver))
        } catch {
          throw error.errno == ENOENT ? .partNotFound : BackendError(error)
        }
      }
      let sources = zip(files, parts).map { FileSource($0, 0..<$1.part.byteCount) }
      let path = try await write(sources)
      written = path
      let version = try await publish(
        path, as: upload.name,
        FileRecord(attributes: attributes, partByteCounts: parts.map(\.part.byteCount)),
        precondition)
      for file in files { await file.close() }
      try await locked { () throws(BackendError) in try await removeTree(folder) }
      return MadeVersion(identity: version, name: .unnamed)
    } catch {
      for file in files { await file.close() }
      if let written { await discard(written) }
      throw error
    }
  }

  package func abort(_ upload: UploadName) async throws(BackendError) {
    try await locked { () throws(BackendError) in
      try await require(upload)
      try await removeTree(try folder(upload))
    }
  }

  package func uploads(_ request: UploadListRequest) async throws(BackendError) -> UploadPage {
    try await requireBucket(request.bucket)
    let folder = inner("uploads/\(request.bucket)")
    var found: [UploadPage.Entry] = []
    if try await status(folder) != nil {
      for entry in try await attempt({ () throws(RingError) in try await driver.list(folder) }) {
        let id = String(decoding: entry.name, as: UTF8.self)
        guard let upload = try await upload("\(folder)/\(id)") else { continue }
        found.append(
          UploadPage.Entry(key: upload.key, id: id, description: upload.description))
      }
    }
    found.sort {
      $0.key.utf8.elementsEqual($1.key.utf8)
        ? $0.id < $1.id : $0.key.utf8.lexicographicallyPrecedes($1.key.utf8)
    }
    var page = UploadPage()
    for entry in found where entry.key.utf8.starts(with: request.prefix.utf8) {
      if !request.afterKey.isEmpty,
        !request.afterKey.utf8.lexicographicallyPrecedes(entry.key.utf8),
        request.afterID.isEmpty || entry.id <= request.afterID
          || !entry.key.utf8.elementsEqual(request.afterKey.utf8)
      {
        continue
      }
      let group = Self.group(
        of: entry.key, prefix: request.prefix, delimiter: request.delimiter)
      if let group, page.prefixes.last == group { continue }
      if page.entries.count + page.prefixes.count == request.limit {
        page.isLast = request.limit == 0
        break
      }
      if let group { page.prefixes.append(group) } else { page.entries.append(entry) }
    }
    return page
  }

  package func part(_ object: FoundObject, ordinal: UInt32, partCount: UInt32)
    async throws(BackendError) -> Range<UInt64>
  {
    let sizes = try await record(of: object).partByteCounts
    guard ordinal > 0, Int(ordinal) <= sizes.count else { throw .invalidRange }
    let first = sizes.prefix(Int(ordinal) - 1).reduce(0, &+)
    let (end, overflow) = first.addingReportingOverflow(sizes[Int(ordinal) - 1])
    guard !overflow, end <= object.byteCount else { throw .failed("parts of a record") }
    return first..<end
  }
}
