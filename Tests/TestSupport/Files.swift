import Glibc

/// A file that cannot be read.
public struct UnreadableFile: Error {
  public var path: String
}

/// Of a test's own files; at most 4 MiB.
public func bytes(of path: String) throws(UnreadableFile) -> [UInt8] {
  guard let file = fopen(path, "r") else { throw UnreadableFile(path: path) }
  defer { fclose(file) }
  var bytes = [UInt8](repeating: 0, count: 4 << 20)
  let count = fread(&bytes, 1, bytes.count, file)
  return Array(bytes[..<count])
}

public func text(of path: String) throws(UnreadableFile) -> String {
  String(decoding: try bytes(of: path), as: UTF8.self)
}

/// Paths of all files in a folder and in those below, sorted; none whose name begins with a dot.
public func files(below folder: String) throws(UnreadableFile) -> [String] {
  guard let open = opendir(folder) else { throw UnreadableFile(path: folder) }
  defer { closedir(open) }
  var found: [String] = []
  while let entry = readdir(open) {
    let name = withUnsafePointer(to: &entry.pointee.d_name) {
      $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
    }
    if name.hasPrefix(".") { continue }
    let path = folder + "/" + name
    if entry.pointee.d_type == UInt8(DT_DIR) {
      found += try files(below: path)
    } else {
      found.append(path)
    }
  }
  return found.sorted()
}
