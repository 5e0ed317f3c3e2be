import Coding
import DataPath
import Messages
import Ring
import Wire

/// What is kept of an object beside its bytes. It lies under a name that says which file it is of, so that it counts from the
/// moment when that file has the object's name, and no longer.
struct FileRecord: WireValue, Hashable {
  var attributes: ObjectAttributes
  /// Of the parts it was completed from; empty when it came as a whole.
  var partByteCounts: [UInt64]

  init(attributes: ObjectAttributes, partByteCounts: [UInt64] = []) {
    self.attributes = attributes
    self.partByteCounts = partByteCounts
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.value(attributes)
    writer.list(partByteCounts)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == 1 else { throw .invalid("file record") }
    attributes = try reader.value()
    partByteCounts = try reader.list(limit: Int(NewPart.numbers.upperBound))
  }
}

/// A multipart upload's beginning, and one of its parts.
struct FileUpload: WireValue, Hashable {
  var key: String
  var description: MultipartDescription

  init(key: String, description: MultipartDescription) {
    self.key = key
    self.description = description
  }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.string(key)
    writer.value(description)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    guard try reader.fixed(UInt8.self) == 1 else { throw .invalid("upload") }
    key = try reader.string(limit: 4096)
    description = try reader.value()
  }
}

extension FileStatus {
  /// Another one whenever a file is written anew: from its number, its time and its length.
  var version: UInt64 { versionName.w0 | 1 }
  var versionName: Fingerprint {
    Fingerprint(of: Array("\(deviceNumber) \(inode) \(modified) \(byteCount)".utf8))
  }
}

/// Bytes of a file, as the source of another object.
final class FileSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let file: File
  private let range: Range<UInt64>
  private var next: UInt64

  init(_ file: File, _ range: Range<UInt64>) {
    self.file = file
    self.range = range
    next = range.lowerBound
  }
  var byteCount: UInt64? { UInt64(range.count) }
  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let count = Int(min(UInt64(slice.count), range.upperBound - next))
    guard count > 0 else { return 0 }
    do throws(RingError) {
      guard try await file.read(into: slice[0..<count], at: next) == count else {
        throw RingError(errno: 5, operation: "read", subject: file.path)
      }
    } catch {
      throw .source(error.reason)
    }
    next += UInt64(count)
    return count
  }
  func rewind() -> Bool {
    next = range.lowerBound
    return true
  }
}
