import HTTP
import Ring

/// A browser's form (`multipart/form-data`, RFC 7578) as S3 takes it: fields, then one file, whose bytes are read as they come. What
/// follows the file is not looked at. Loop-confined.
final class PostForm: BytePull, @unchecked Sendable {
  // Loop-confined.
  private let body: any BytePull
  private let pool: BufferPool
  /// What stands before each part: CR LF, two hyphens, the boundary.
  private let delimiter: [UInt8]
  private var buffer: [UInt8] = []
  private var isAtEnd = false
  private var hasFileEnded = false
  /// By name in lower case.
  private(set) var fields: [String: String] = [:]
  private(set) var fileName = ""

  /// Of all that stands before the file; S3's limit.
  private static let fieldByteLimit = 20 << 10
  private static let pieceByteCount = 64 << 10

  /// - Throws: MalformedPOSTRequest when `contentType` names no boundary.
  init(_ body: any BytePull, contentType: String, pool: BufferPool) throws(S3Error) {
    var boundary: Substring?
    for part in contentType.split(separator: ";").dropFirst() {
      let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard sides.count == 2, sides[0].filter({ $0 != " " }).lowercased() == "boundary" else {
        continue
      }
      guard boundary == nil else { throw Self.malformed }
      boundary = sides[1]
    }
    guard var name = boundary else { throw Self.malformed }
    if name.hasPrefix("\""), name.hasSuffix("\""), name.utf8.count >= 2 {
      name = name.dropFirst().dropLast()
    }
    guard (1...70).contains(name.utf8.count), name.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
      throw Self.malformed
    }
    self.body = body
    self.pool = pool
    delimiter = Array("\r\n--\(name)".utf8)
    // So that the first part begins as all others do.
    buffer = [13, 10]
  }

  static let malformed = S3Error(.malformedPOST)

  /// False at the end of the body.
  private func fill() async throws(HTTPError) -> Bool {
    if isAtEnd { return false }
    let piece = pool.slice(Self.pieceByteCount)
    let count = try await body.read(into: piece)
    if count == 0 {
      isAtEnd = true
      return false
    }
    buffer += piece[0..<count].array
    return true
  }

  /// Reads all fields, up to the first byte of the file.
  func readFields() async throws(S3Error) {
    var left = Self.fieldByteLimit
    /// Takes what stands before `mark`, and `mark` itself.
    func take(_ mark: [UInt8]) async throws(S3Error) -> [UInt8] {
      while true {
        if let found = buffer.firstRange(of: mark) {
          let text = Array(buffer[..<found.lowerBound])
          buffer.removeFirst(found.upperBound)
          left -= text.count
          guard left >= 0 else { throw S3Error(.maxPostPreDataLengthExceeded) }
          return text
        }
        guard buffer.count <= left + mark.count else {
          throw S3Error(.maxPostPreDataLengthExceeded)
        }
        do throws(HTTPError) {
          guard try await fill() else { throw HTTPError.lost("the form ended") }
        } catch {
          throw Self.malformed
        }
      }
    }
    guard try await take(delimiter).isEmpty else { throw Self.malformed }
    while true {
      guard try await take([13, 10]).isEmpty else { throw Self.malformed }
      let (name, file) = try Self.disposition(try await take([13, 10, 13, 10]))
      if name == "file" {
        fileName = file ?? ""
        return
      }
      guard let text = String(validating: try await take(delimiter), as: UTF8.self),
        fields.updateValue(text, forKey: name) == nil
      else { throw Self.malformed }
    }
  }

  /// The name of a part in lower case, and of the file in it.
  private static func disposition(_ head: [UInt8]) throws(S3Error) -> (
    name: String, file: String?
  ) {
    guard let text = String(validating: head, as: UTF8.self) else { throw malformed }
    for line in text.split(separator: "\r\n") {
      guard line.lowercased().hasPrefix("content-disposition:") else { continue }
      let parts = line.split(separator: ";")
      var found: [String: String] = [:]
      for part in parts.dropFirst() {
        let sides = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard sides.count == 2 else { throw malformed }
        var value = sides[1]
        while value.last == " " { value.removeLast() }
        if value.hasPrefix("\""), value.hasSuffix("\""), value.utf8.count >= 2 {
          value = value.dropFirst().dropLast()
        }
        found[sides[0].filter { $0 != " " }.lowercased()] = String(value)
      }
      guard let name = found["name"], !name.isEmpty else { throw malformed }
      return (name.lowercased(), found["filename"])
    }
    throw malformed
  }

  /// Bytes of the file.
  func read(into slice: Slice) async throws(HTTPError) -> Int {
    while !hasFileEnded {
      if let found = buffer.firstRange(of: delimiter) {
        if found.lowerBound > 0 { return take(min(slice.count, found.lowerBound), slice) }
        hasFileEnded = true
        break
      }
      // The last of them may be the beginning of the end.
      let sure = buffer.count - (delimiter.count - 1)
      if sure > 0 { return take(min(slice.count, sure), slice) }
      guard try await fill() else { throw .lost("the form ended within its file") }
    }
    // What follows is read over, so that the connection can be kept.
    buffer = []
    let rest = pool.slice(4096)
    while !isAtEnd { isAtEnd = try await body.read(into: rest) == 0 }
    return 0
  }

  private func take(_ count: Int, _ slice: Slice) -> Int {
    slice.withMutableBytes { $0.copyBytes(from: buffer[..<count]) }
    buffer.removeFirst(count)
    return count
  }
}

extension [UInt8] {
  /// Where `mark`, which is not empty, stands first. Looks at most bytes once: marks begin with CR, which is rare.
  fileprivate func firstRange(of mark: [UInt8]) -> Range<Int>? {
    var from = 0
    while let start = self[from...].firstIndex(of: mark[0]) {
      let end = start + mark.count
      if end > count { return nil }
      if self[start..<end].elementsEqual(mark) { return start..<end }
      from = start + 1
    }
    return nil
  }
}
