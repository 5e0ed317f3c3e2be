/// The chunked coding (RFC 9112, 7.1), a state that bytes are fed to. Strict as the head's parser; extensions and
/// trailers are read over.
package struct ChunkedDecoder: Sendable {
  private enum State {
    case size
    case data(left: UInt64)
    /// The CR LF behind a chunk's bytes.
    case dataEnd
    case trailer
    case done
  }

  /// Of a size with its extensions, and of a trailer line.
  static let lineLimit = 1024
  static let trailerLimit = 64

  private var state = State.size
  private var line: [UInt8] = []
  private var trailerCount = 0

  package init() {}

  /// All of the body, its end included, has come.
  package var isDone: Bool { if case .done = state { true } else { false } }

  /// Takes in what came, up to the body's end.
  ///
  /// - Parameter body: gets the plain bytes.
  /// - Returns: how many of `bytes` belonged to this body.
  package mutating func feed(_ bytes: ArraySlice<UInt8>, into body: inout [UInt8])
    throws(HTTPError) -> Int
  {
    var rest = bytes
    while !isDone && !rest.isEmpty {
      if case .data(let left) = state {
        let piece = rest.prefix(Int(clamping: left))
        body.append(contentsOf: piece)
        rest = rest.dropFirst(piece.count)
        state = left == UInt64(piece.count) ? .dataEnd : .data(left: left - UInt64(piece.count))
        continue
      }
      line.append(rest.removeFirst())
      guard line.last == newline else {
        if line.count > Self.lineLimit { throw .malformed("a chunk's line that is too long") }
        continue
      }
      guard line.count >= 2, line[line.count - 2] == carriageReturn else {
        throw .malformed("a chunk's line without an end")
      }
      let text = line.dropLast(2)
      switch state {
      case .size:
        let size = try Self.size(text)
        state = size == 0 ? .trailer : .data(left: size)
      case .dataEnd:
        guard text.isEmpty else { throw .malformed("a chunk longer than its size") }
        state = .size
      case .trailer:
        if text.isEmpty {
          state = .done
        } else {
          _ = try HTTPHeadParser.field(text[...])
          trailerCount += 1
          if trailerCount > Self.trailerLimit { throw .malformed("too many trailers") }
        }
      case .data, .done: break
      }
      line.removeAll(keepingCapacity: true)
    }
    return bytes.count - rest.count
  }

  /// Of a chunk, from its line.
  static func size(_ text: ArraySlice<UInt8>) throws(HTTPError) -> UInt64 {
    let digits = text.prefix { $0 != UInt8(ascii: ";") && $0 != space && $0 != tab }
    let rest = text.dropFirst(digits.count).drop { $0 == space || $0 == tab }
    guard (1...15).contains(digits.count), rest.isEmpty || rest.first == UInt8(ascii: ";"),
      digits.allSatisfy({
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
          || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0 | 0x20)
      }), let size = UInt64(String(decoding: digits, as: UTF8.self), radix: 16),
      text.allSatisfy({ $0 >= space && $0 != 127 || $0 == tab })
    else { throw .malformed("a chunk without a size") }
    return size
  }
}
