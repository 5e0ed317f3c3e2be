import Messages

@testable import Gateway
@testable import HTTP

/// A head that is taken must be what a careless reader takes it for, too, and must be read back when it is written anew.
enum HeadFuzz {
  static func complaint(_ bytes: [UInt8]) -> String? {
    if let head = try? HTTPHeadParser.response(bytes[...]) {
      guard (try? HTTPHeadParser.response(head.encoded[...])) == head else {
        return "an answer's head is another when it is written again"
      }
      _ = try? HTTPBodyFraming(response: head)
    }
    guard let head = try? HTTPHeadParser.request(bytes[...]) else { return nil }
    guard HTTPHeadParser.end(of: bytes[...]) == bytes.count else {
      return "a head was taken that ends elsewhere"
    }
    guard (try? HTTPHeadParser.request(head.encoded[...])) == head else {
      return "a request's head is another when it is written again"
    }
    let other = CarelessHead(bytes)
    guard other.method == head.method, other.target == head.target else {
      return "a careless reader finds \(other.method) \(other.target)"
    }
    let fields = head.fields.lines.map {
      CarelessHead.Field(name: $0.name.lowercased(), value: Array($0.value.utf8))
    }
    guard other.fields == fields else { return "a careless reader finds other fields" }
    if let framing = try? HTTPBodyFraming(request: head), framing != other.framing {
      return "a careless reader finds another end of the body than \(framing)"
    }
    guard let request = try? S3Request(head, domain: "example.org") else { return nil }
    return read(request)
  }

  /// What operations read of a request before its body.
  private static func read(_ request: S3Request) -> String? {
    _ = try? BodyClaims(request)
    _ = try? OperationTable.needs(request)
    _ = try? S3Service.copySource(request)
    _ = try? S3Lock.read(request, now: 1)
    _ = try? S3Service.initialAccess(request)
    for byteCount in [0, 1, 10, UInt64(5) << 40] {
      guard let range = (try? request.header("Range"))??.byteRange?.resolve(byteCount) else {
        continue
      }
      guard !range.isEmpty, range.upperBound <= byteCount else {
        return "a range beyond the object"
      }
    }
    for prefix in ["", "x-amz-copy-source-"] {
      try? Conditions(request, prefix: prefix).check(etag: "e", modified: 1000, isRead: true)
    }
    if let tags = try? S3Tags(header: (try? request.header("x-amz-tagging")) ?? "") {
      guard S3Tags(ObjectAttributes(user: tags.attributes)).pairs.count == tags.pairs.count else {
        return "tags are others when they are kept"
      }
    }
    if let facts = try? ObjectFacts(request, now: 1) {
      let answer = HTTPResponseHead(status: 200, reason: "OK", fields: HTTPFields(facts.fields))
      guard let again = try? HTTPHeadParser.response(answer.encoded[...]),
        again.fields.lines.count == facts.fields.count
      else { return "what is kept of a head makes an answer of another shape" }
    }
    return nil
  }
}

extension String {
  fileprivate var byteRange: ByteRange? { ByteRange(self) }
}

/// A head as a reader takes it that forgives everything: lines end at LF, are folded, have spaces before their colons, numbers
/// end at the first byte that is no digit.
struct CarelessHead {
  struct Field: Equatable {
    var name: String
    var value: [UInt8]
  }
  var method = ""
  var target = ""
  var fields: [Field] = []

  init(_ bytes: [UInt8]) {
    var lines = bytes.split(separator: 10, omittingEmptySubsequences: false).map { line in
      line.last == 13 ? line.dropLast() : line
    }
    while lines.first?.isEmpty == true { lines.removeFirst() }
    guard let first = lines.first else { return }
    let words = first.split { $0 <= 32 }
    method = words.first.map { String(decoding: $0, as: UTF8.self) } ?? ""
    target = words.count > 1 ? String(decoding: words[1], as: UTF8.self) : ""
    for line in lines.dropFirst() {
      if line.isEmpty { break }
      if let start = line.first, start <= 32, !fields.isEmpty {
        fields[fields.count - 1].value += [32] + Self.trimmed(line)
        continue
      }
      let sides = line.split(separator: 58, maxSplits: 1, omittingEmptySubsequences: false)
      fields.append(
        Field(
          name: String(decoding: Self.trimmed(sides[0]), as: UTF8.self).lowercased(),
          value: sides.count > 1 ? Array(Self.trimmed(sides[1])) : []))
    }
  }

  private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var rest = bytes
    while let first = rest.first, first <= 32 { rest.removeFirst() }
    while let last = rest.last, last <= 32 { rest.removeLast() }
    return rest
  }

  /// Of several lengths the last; chunked when that is said anywhere.
  var framing: HTTPBodyFraming {
    var length: UInt64 = 0
    var isChunked = false
    for field in fields {
      let text = String(decoding: field.value, as: UTF8.self).lowercased()
      if field.name == "transfer-encoding", text.contains("chunked") { isChunked = true }
      if field.name == "content-length" { length = UInt64(text.prefix { $0.isNumber }) ?? 0 }
    }
    return isChunked ? .chunked : .length(length)
  }
}
