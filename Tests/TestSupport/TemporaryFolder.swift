import Glibc

/// A fresh folder on a disk, where direct I/O works; removed afterwards.
package func withTemporaryFolder<Result, Failure: Error>(
  _ body: (String) async throws(Failure) -> Result
) async throws(Failure) -> Result {
  var name = Array("/var/tmp/cairn-tests-XXXXXX".utf8CString)
  precondition(mkdtemp(&name) != nil)
  let path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer { removeTree(path) }
  return try await body(path)
}

private func removeTree(_ path: String) {
  if let directory = opendir(path) {
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != "." && name != ".." { removeTree(path + "/" + name) }
    }
    closedir(directory)
    rmdir(path)
  } else {
    unlink(path)
  }
}
