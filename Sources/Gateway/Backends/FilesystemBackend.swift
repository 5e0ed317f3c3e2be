import Coding
package import DataPath
import Glibc  // Flags and error numbers only.
package import Messages
package import Ring
import Service
import Wire

/// Objects in plain files, for development and single machines. Loop-confined.
///
/// A bucket is a folder below the base, an object a file in it (`FileNames`). `.cairn/` beside them has what files cannot say:
/// when buckets were made, records of objects, uploads under way, and files that are being written. What is visible was
/// renamed there when all of it was on the disk. One process at a time.
///
/// Its listings cost what the bucket holds, and copies move bytes: it is no store for much.
package final class FilesystemBackend: ObjectBackend, @unchecked Sendable {
  // Loop-confined.
  let driver: any Driver
  private let base: String
  /// Names change one after the other.
  let names = Semaphore(1)
  private var lastNumber: UInt64 = 0
  static let pieceByteCount = 1 << 20

  private init(_ base: String, _ driver: any Driver) {
    self.base = base
    self.driver = driver
  }

  /// - Parameter base: made when it is not there.
  package static func open(_ base: String, on driver: any Driver) async throws(BackendError)
    -> FilesystemBackend
  {
    let backend = FilesystemBackend(base, driver)
    try await backend.attempt { () throws(RingError) in
      for folder in ["access", "buckets", "records", "uploads"] {
        try await driver.makeDirectories("\(base)/.cairn/\(folder)")
      }
      // What was being written when the last process ended is nobody's.
      let temporary = "\(base)/.cairn/temporary"
      try await driver.makeDirectories(temporary)
      for entry in try await driver.list(temporary) {
        try await driver.remove("\(temporary)/\(String(decoding: entry.name, as: UTF8.self))")
      }
    }
    return backend
  }

  package func close() async {}

  // MARK: Helpers

  func attempt<Value>(_ body: () async throws(RingError) -> Value) async throws(BackendError)
    -> Value
  {
    do throws(RingError) {
      return try await body()
    } catch {
      throw BackendError(error)
    }
  }

  func locked<Value>(_ body: () async throws(BackendError) -> Value) async throws(BackendError)
    -> Value
  {
    await names.acquire()
    defer { names.release() }
    return try await body()
  }

  /// Rises, also over restarts as long as the clock does.
  func freshNumber() -> UInt64 {
    lastNumber = max(lastNumber + 1, UInt64(driver.wallClock.wholeMilliseconds) << 16)
    return lastNumber
  }

  func folder(_ bucket: String) -> String { "\(base)/\(bucket)" }
  func inner(_ part: String) -> String { "\(base)/.cairn/\(part)" }

  func requireBucket(_ bucket: String) async throws(BackendError) {
    guard try await bucketExists(bucket) else { throw .bucketNotFound }
  }

  /// The status of what is there; nil: nothing.
  func status(_ path: String) async throws(BackendError) -> FileStatus? {
    do throws(RingError) {
      return try await driver.status(path, followLinks: false)
    } catch {
      if error.errno == ENOENT || error.errno == ENOTDIR { return nil }
      throw BackendError(error)
    }
  }

  // MARK: Buckets

  package func buckets() async throws(BackendError) -> [BucketEntry] {
    var found: [BucketEntry] = []
    for entry in try await attempt({ () throws(RingError) in try await driver.list(base) })
    where entry.kind == .directory {
      let name = String(decoding: entry.name, as: UTF8.self)
      guard BucketName.brokenRule(name) == nil else { continue }
      // One that was made by hand has no time of its own.
      var made = try await status(inner("buckets/\(name)"))
      if made == nil { made = try await status(folder(name)) }
      found.append(
        BucketEntry(name: name, created: UInt64(max(0, made?.modified ?? 0)) / 1_000_000))
    }
    return found.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  package func createBucket(_ name: String, keyDomain: String) async throws(BackendError) {
    guard keyDomain.isEmpty else { throw .notImplemented }
    if let rule = BucketName.brokenRule(name) { throw .invalidName("\(rule)") }
    try await locked { () throws(BackendError) in
      guard try await status(folder(name)) == nil else { throw .bucketExists }
      try await forgetAccess(of: name)
      try await attempt { () throws(RingError) in
        try await driver.replaceFile(inner("buckets/\(name)"), with: [])
        try await driver.makeDirectories(folder(name))
        try await driver.synchronizeDirectory(base)
      }
    }
  }

  package func removeBucket(_ name: String) async throws(BackendError) {
    try await requireBucket(name)
    try await locked { () throws(BackendError) in
      do throws(RingError) {
        try await driver.remove(folder(name), isDirectory: true)
      } catch {
        throw error.errno == ENOTEMPTY || error.errno == EEXIST
          ? .bucketNotEmpty : BackendError(error)
      }
      try await forgetAccess(of: name)
      try await removeTree(inner("uploads/\(name)"))
      try await removeTree(inner("records/\(name)"))
      try await attempt { () throws(RingError) in
        try await driver.remove(inner("buckets/\(name)"))
        try await driver.synchronizeDirectory(base)
      }
    }
  }

  /// A folder of files and folders, if it is there.
  func removeTree(_ path: String) async throws(BackendError) {
    guard try await status(path) != nil else { return }
    for entry in try await attempt({ () throws(RingError) in try await driver.list(path) }) {
      let name = "\(path)/\(String(decoding: entry.name, as: UTF8.self))"
      if entry.kind == .directory {
        try await removeTree(name)
      } else {
        try await attempt { () throws(RingError) in try await driver.remove(name) }
      }
    }
    try await attempt { () throws(RingError) in
      try await driver.remove(path, isDirectory: true)
    }
  }

  package func bucketExists(_ name: String) async throws(BackendError) -> Bool {
    guard BucketName.brokenRule(name) == nil else { return false }
    return try await status(folder(name))?.kind == .directory
  }

  // MARK: Objects

  /// Where an object is, or would be when there is nothing else of that name.
  func place(_ name: ObjectName) async throws(BackendError) -> (path: String, status: FileStatus?) {
    let path = "\(folder(name.bucket))/\(FileNames.path(name.key))"
    if let found = try await status(path), found.kind == .file { return (path, found) }
    let beside = path + FileNames.besideFolder
    if let found = try await status(beside), found.kind == .file { return (beside, found) }
    return (path, nil)
  }

  private func recordPath(_ name: ObjectName, _ status: FileStatus) -> String {
    let key = Fingerprint(of: Array(name.key.utf8)).hex
    return inner("records/\(name.bucket)/\(key)-\(status.versionName.hex.prefix(32))")
  }

  func record(_ name: ObjectName, _ status: FileStatus) async throws(BackendError) -> FileRecord {
    let path = recordPath(name, status)
    guard try await self.status(path) != nil else {
      return FileRecord(attributes: ObjectAttributes())
    }
    let bytes = try await attempt { () throws(RingError) in try await driver.readFile(path) }
    guard let record = try? FileRecord(decoding: bytes) else {
      throw .failed("the record of \(name.key) cannot be read")
    }
    return record
  }

  package func find(_ name: ObjectName, version: VersionName, wanted: Range<UInt64>)
    async throws(BackendError) -> FoundObject
  {
    try await requireBucket(name.bucket)
    if case .identity = version { throw .versionNotFound }
    // A file that is renamed aside between two looks is found at the second.
    for _ in 0..<2 {
      guard let status = try await place(name).status else { continue }
      let record = try await record(name, status)
      return FoundObject(
        name: name, version: status.version, byteCount: status.byteCount,
        modified: UInt64(max(0, status.modified)) / 1_000_000, attributes: record.attributes,
        contentName: status.versionName.hex)
    }
    throw .notFound
  }

  /// The file of a version, open; it stays what it is though its name may come to mean another.
  func open(_ object: FoundObject) async throws(BackendError) -> File {
    let path = try await place(object.name).path
    let file: File
    do throws(RingError) {
      file = try await File.open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, on: driver)
    } catch {
      throw error.errno == ENOENT ? .changed : BackendError(error)
    }
    // Of the two the name is looked at last: when it still means this version, so did it before.
    guard try await status(path)?.version == object.version else {
      await file.close()
      throw .changed
    }
    return file
  }

  package func read(_ object: FoundObject, _ range: Range<UInt64>, into sink: any ByteSink)
    async throws(BackendError)
  {
    let file = try await open(object)
    do throws(BackendError) {
      var next = range.lowerBound
      while next < range.upperBound {
        let count = Int(min(UInt64(Self.pieceByteCount), range.upperBound - next))
        let piece = driver.buffers.slice(count)
        let offset = next
        guard
          try await attempt({ () throws(RingError) in
            try await file.read(into: piece, at: offset)
          }) == count
        else { throw .changed }
        do throws(DataPathError) {
          try await sink.write([piece], at: offset)
        } catch {
          throw BackendError(error)
        }
        next += UInt64(count)
      }
      await file.close()
    } catch {
      await file.close()
      throw error
    }
  }

  package func put(
    _ name: ObjectName, source: any ByteSource, precondition: Precondition,
    describe: @escaping @Sendable () async throws(DataPathError) -> ObjectAttributes
  ) async throws(BackendError) -> MadeVersion {
    try await requireBucket(name.bucket)
    let written = try await write([source])
    do throws(BackendError) {
      let attributes: ObjectAttributes
      do throws(DataPathError) {
        attributes = try await describe()
      } catch {
        throw BackendError(error)
      }
      return MadeVersion(
        identity: try await publish(
          written, as: name, FileRecord(attributes: attributes), precondition), name: .unnamed)
    } catch {
      await discard(written)
      throw error
    }
  }

  /// Bytes in a file of no name yet, on the disk.
  func write(_ sources: [any ByteSource]) async throws(BackendError) -> String {
    let path = inner("temporary/\(String(freshNumber(), radix: 16))")
    let file = try await attempt { () throws(RingError) in
      try await File.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, on: driver)
    }
    do throws(BackendError) {
      var offset: UInt64 = 0
      let piece = driver.buffers.slice(Self.pieceByteCount)
      for source in sources {
        var left = source.byteCount
        // Also one without bytes is read: at its end it says whether it is what it was said to be.
        repeat {
          let count: Int
          do throws(DataPathError) {
            count = try await source.read(into: piece)
          } catch {
            throw BackendError(error)
          }
          if count == 0 { break }
          let place = offset
          try await attempt { () throws(RingError) in
            try await file.write([piece[0..<count]], at: place)
          }
          offset += UInt64(count)
          left = left.map { $0 - min($0, UInt64(count)) }
        } while left != 0
        // A source that was not read to its end has not judged its bytes.
        if let left, left > 0 { throw .source("ended \(left) bytes too early") }
      }
      try await attempt { () throws(RingError) in try await file.synchronize(dataOnly: false) }
      await file.close()
      return path
    } catch {
      await file.close()
      await discard(path)
      throw error
    }
  }

  func discard(_ path: String) async {
    do throws(RingError) {
      try await driver.remove(path)
    } catch {
      // It goes at the next start.
    }
  }

  /// Gives a written file the name of an object.
  func publish(
    _ written: String, as name: ObjectName, _ record: FileRecord, _ precondition: Precondition
  ) async throws(BackendError) -> UInt64 {
    if name.key.utf8.isEmpty || name.key.utf8.count > 1024 {
      throw .invalidName("a key has 1 to 1,024 bytes")
    }
    return try await locked { () throws(BackendError) in
      try await requireBucket(name.bucket)
      let former = try await place(name).status
      try Self.check(precondition, former)
      guard let fresh = try await status(written) else { throw .failed("\(written) is gone") }
      let path = try await makeWay(name)
      try await attempt { () throws(RingError) in
        try await driver.makeDirectories(inner("records/\(name.bucket)"))
        try await driver.replaceFile(recordPath(name, fresh), with: record.encoded)
        try await driver.rename(written, to: path)
        try await driver.synchronizeDirectory(Self.parent(path))
      }
      if let former { await discard(recordPath(name, former)) }
      return fresh.version
    }
  }

  private static func check(_ precondition: Precondition, _ former: FileStatus?)
    throws(BackendError)
  {
    switch precondition {
    case .none: return
    case .absent: if former != nil { throw .preconditionFailed }
    case .identity(let version): if former?.version != version { throw .preconditionFailed }
    }
  }

  static func parent(_ path: String) -> String {
    path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? "."
  }

  /// Where the object goes, its folders made: a file that is in the way of one of them is put beside it.
  private func makeWay(_ name: ObjectName) async throws(BackendError) -> String {
    let (known, found) = try await place(name)
    if found != nil { return known }
    var path = folder(name.bucket)
    let parts = FileNames.path(name.key).split(separator: "/")
    for part in parts.dropLast() {
      let above = path
      path += "/" + part
      let way = path
      switch try await status(way)?.kind {
      case .directory: continue
      case nil: break
      default:
        try await attempt { () throws(RingError) in
          try await driver.rename(way, to: way + FileNames.besideFolder)
        }
      }
      try await attempt { () throws(RingError) in
        try await driver.makeDirectories(way)
        try await driver.synchronizeDirectory(above)
      }
    }
    path += "/" + (parts.last ?? "")
    return try await status(path) == nil ? path : path + FileNames.besideFolder
  }

  @discardableResult
  package func delete(_ name: ObjectName, precondition: Precondition) async throws(BackendError)
    -> VersionName
  {
    try await requireBucket(name.bucket)
    try await locked { () throws(BackendError) in
      let (path, found) = try await place(name)
      guard let found else { throw .notFound }
      try Self.check(precondition, found)
      try await attempt { () throws(RingError) in
        try await driver.remove(path)
        try await driver.synchronizeDirectory(Self.parent(path))
      }
      await discard(recordPath(name, found))
      // Folders that hold nothing any more.
      var above = Self.parent(path)
      while above.utf8.count > folder(name.bucket).utf8.count {
        do throws(RingError) {
          try await driver.remove(above, isDirectory: true)
        } catch {
          break
        }
        above = Self.parent(above)
      }
    }
    return .unnamed
  }

  @discardableResult
  package func copy(
    _ source: FoundObject, to target: ObjectName, attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion {
    try await requireBucket(target.bucket)
    let partByteCounts = try await record(of: source).partByteCounts
    let file = try await open(source)
    do throws(BackendError) {
      let written = try await write([FileSource(file, 0..<source.byteCount)])
      do throws(BackendError) {
        let version = try await publish(
          written, as: target,
          FileRecord(attributes: attributes, partByteCounts: partByteCounts), precondition)
        await file.close()
        return MadeVersion(identity: version, name: .unnamed)
      } catch {
        await discard(written)
        throw error
      }
    } catch {
      await file.close()
      throw error
    }
  }

  func record(of object: FoundObject) async throws(BackendError) -> FileRecord {
    guard let status = try await place(object.name).status, status.version == object.version else {
      throw .changed
    }
    return try await record(object.name, status)
  }
}

extension BackendError {
  init(_ error: RingError) {
    switch error.errno {
    case ENOSPC, EDQUOT: self = .quorumNotMet(error.reason)
    case ENAMETOOLONG: self = .invalidName(error.reason)
    default: self = .failed("\(error.reason): \(error.subject)")
    }
  }
}
