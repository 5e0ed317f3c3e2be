package import Messages
import Ring
import Wire

/// What a bucket grants, as a file of its own in `.cairn/access/`. Users there are none but those of the gateway's configuration.
private struct FileAccess: WireValue, Hashable {
  var access: BucketAccess

  init(_ access: BucketAccess) { self.access = access }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(access)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == 1 else { throw .invalid("a bucket's access") }
    access = try reader.value()
  }
}

extension FilesystemBackend {
  private func accessPath(_ bucket: String) -> String { inner("access/\(bucket)") }

  package func user(withKey accessKey: String) async throws(BackendError) -> KnownUser? { nil }
  package func hasUser(_ name: String) async throws(BackendError) -> Bool { false }

  package func access(of bucket: String) async throws(BackendError) -> BucketAccess {
    try await requireBucket(bucket)
    let path = accessPath(bucket)
    guard try await status(path) != nil else { return BucketAccess() }
    let bytes = try await attempt { () throws(RingError) in try await driver.readFile(path) }
    guard let found = try? FileAccess(decoding: bytes) else {
      throw .failed("what \(bucket) grants cannot be read")
    }
    return found.access
  }

  package func changeAccess(of bucket: String, _ change: BucketAccessChange)
    async throws(BackendError)
  {
    try await locked { () throws(BackendError) in
      var access = try await access(of: bucket)
      access.apply(change)
      let bytes = FileAccess(access).encoded
      try await attempt { () throws(RingError) in
        try await driver.replaceFile(accessPath(bucket), with: bytes)
      }
    }
  }

  /// Before a bucket is made, and after it is removed: what one of that name granted is not another's.
  func forgetAccess(of bucket: String) async throws(BackendError) {
    let path = accessPath(bucket)
    guard try await status(path) != nil else { return }
    try await attempt { () throws(RingError) in
      try await driver.remove(path)
      try await driver.synchronizeDirectory(inner("access"))
    }
  }
}
