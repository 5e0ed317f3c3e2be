/// The head of an HTTP/1.1 message (RFC 9112), by hand because no library without an event loop of its own can be had
/// (docs/decisions/0003). Strict: lines end with CR LF, no line is folded, no space stands before a colon, no control
/// character anywhere; what differs is refused and never guessed at.
package enum HTTPHeadParser {
  package struct Limits: Sendable {
    /// First line, fields and the empty line.
    package var byteCount: Int
    package var fieldCount: Int
    package init(byteCount: Int = 32 << 10, fieldCount: Int = 128) {
      self.byteCount = byteCount
      self.fieldCount = fieldCount
    }
  }

  /// Where the head in `bytes` ends, after its empty line; nil while that has not come.
  ///
  /// - Parameter searched: so many first bytes were looked at before, without success.
  package static func end(of bytes: ArraySlice<UInt8>, searched: Int = 0) -> Int? {
    var index = bytes.startIndex + max(0, searched - 3)
    while index + 3 < bytes.endIndex {
      if bytes[index + 3] == newline && bytes[index + 2] == carriageReturn
        && bytes[index + 1] == newline && bytes[index] == carriageReturn
      {
        return index + 4
      }
      index += 1
    }
    return nil
  }

  /// - Parameter bytes: the head, its empty line included, and nothing else.
  package static func request(_ bytes: ArraySlice<UInt8>, limits: Limits = Limits())
    throws(HTTPError) -> HTTPRequestHead
  {
    var lines = try Lines(bytes, limits)
    let words = lines.first.split(separator: space, omittingEmptySubsequences: false)
    guard words.count == 3, !words[0].isEmpty, words[0].allSatisfy(isToken), !words[1].isEmpty,
      words[1].allSatisfy({ $0 > space && $0 < 127 })
    else { throw .malformed("no request line") }
    return HTTPRequestHead(
      method: string(words[0]), target: string(words[1]), minorVersion: try version(words[2]),
      fields: try lines.fields(limits))
  }

  package static func response(_ bytes: ArraySlice<UInt8>, limits: Limits = Limits())
    throws(HTTPError) -> HTTPResponseHead
  {
    var lines = try Lines(bytes, limits)
    let words = lines.first.split(
      separator: space, maxSplits: 2, omittingEmptySubsequences: false)
    guard words.count == 3, words[1].count == 3, words[1].allSatisfy(isDigit),
      words[1].first != UInt8(ascii: "0"), words[2].allSatisfy(isContent)
    else { throw .malformed("no status line") }
    return HTTPResponseHead(
      status: words[1].reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) },
      reason: string(words[2]), minorVersion: try version(words[0]),
      fields: try lines.fields(limits))
  }

  private static func version(_ word: ArraySlice<UInt8>) throws(HTTPError) -> UInt8 {
    if word.elementsEqual("HTTP/1.1".utf8) { return 1 }
    if word.elementsEqual("HTTP/1.0".utf8) { return 0 }
    throw .malformed("not HTTP/1.1")
  }

  /// Cut at CR LF; the empty line at the end left out.
  private struct Lines {
    var first: ArraySlice<UInt8>
    private var rest: ArraySlice<UInt8>

    init(_ bytes: ArraySlice<UInt8>, _ limits: Limits) throws(HTTPError) {
      guard bytes.count <= limits.byteCount else { throw .malformed("a head that is too long") }
      guard HTTPHeadParser.end(of: bytes) == bytes.endIndex else { throw .malformed("no head") }
      rest = bytes.dropLast(2)
      first = []
      first = try next()
    }

    private mutating func next() throws(HTTPError) -> ArraySlice<UInt8> {
      guard let end = rest.firstIndex(of: carriageReturn), end + 1 < rest.endIndex,
        rest[end + 1] == newline
      else { throw .malformed("a line without an end") }
      defer { rest = rest[(end + 2)...] }
      return rest[..<end]
    }

    mutating func fields(_ limits: Limits) throws(HTTPError) -> HTTPFields {
      var fields = HTTPFields()
      while !rest.isEmpty {
        guard fields.lines.count < limits.fieldCount else { throw .malformed("too many fields") }
        fields.lines.append(try HTTPHeadParser.field(try next()))
      }
      return fields
    }
  }

  /// One line, without its end.
  static func field(_ line: ArraySlice<UInt8>) throws(HTTPError) -> HTTPFields.Line {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
      line[..<colon].allSatisfy(isToken)
    else { throw .malformed("a field without a name") }
    var value = line[(colon + 1)...]
    guard value.allSatisfy(isContent) else { throw .malformed("a control character in a field") }
    while let first = value.first, first == space || first == tab { value.removeFirst() }
    while let last = value.last, last == space || last == tab { value.removeLast() }
    guard let text = String(validating: value, as: UTF8.self) else {
      throw .malformed("a field that is not UTF-8")
    }
    return HTTPFields.Line(string(line[..<colon]), text)
  }

  private static func string(_ bytes: ArraySlice<UInt8>) -> String {
    String(decoding: bytes, as: UTF8.self)
  }

  /// RFC 9110, 5.6.2.
  private static func isToken(_ byte: UInt8) -> Bool {
    isDigit(byte) || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
      || "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
  private static func isContent(_ byte: UInt8) -> Bool {
    byte >= space && byte != 127 || byte == tab
  }
}

let space = UInt8(ascii: " ")
let tab = UInt8(ascii: "\t")
let carriageReturn = UInt8(ascii: "\r")
let newline = UInt8(ascii: "\n")

func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
