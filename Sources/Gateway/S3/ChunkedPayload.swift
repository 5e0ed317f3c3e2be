import Coding
import HTTP
import Ring

/// How the bytes of a body stand for those of the object.
enum Payload {
  /// As they are.
  case unsigned
  /// As they are; their SHA-256 is signed.
  case digest([UInt8])
  /// In pieces with lines between them, each perhaps signed (`aws-chunked`).
  case pieces(signing: PieceSigning?, hasTrailer: Bool)

  /// What `x-amz-content-sha256` says of bodies that nothing is known of before they come.
  static let unsignedText = "UNSIGNED-PAYLOAD"
  static let unsignedTrailerText = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

  init(_ claim: SignedClaim, key: [UInt8]) throws(S3Error) {
    let signing = PieceSigning(
      key: key, previous: claim.signature, date: claim.date, scope: claim.scope.text)
    switch claim.payload {
    case Self.unsignedText: self = .unsigned
    case Self.unsignedTrailerText: self = .pieces(signing: nil, hasTrailer: true)
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
      self = .pieces(signing: signing, hasTrailer: false)
    case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
      self = .pieces(signing: signing, hasTrailer: true)
    default:
      guard let digest = hexBytes(claim.payload), digest.count == 32 else {
        throw S3Error(
          .invalidArgument,
          "x-amz-content-sha256 must be \(Self.unsignedText), \(Self.unsignedTrailerText), STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
        ).with("ArgumentName", "x-amz-content-sha256").with("ArgumentValue", claim.payload)
      }
      self = .digest(digest)
    }
  }
}

/// The chain of signatures over the pieces of a body: each covers the one before.
struct PieceSigning {
  let key: [UInt8]
  var previous: String
  let date: String
  let scope: String

  private mutating func verify(_ claimed: String, _ text: String) -> Bool {
    guard let mac = hexBytes(claimed), HMACSHA256.isValid(mac, for: Array(text.utf8), key: key)
    else { return false }
    previous = claimed
    return true
  }
  mutating func acceptsPiece(_ claimed: String, digest: [UInt8]) -> Bool {
    verify(
      claimed,
      "\(SignatureV4.algorithm)-PAYLOAD\n\(date)\n\(scope)\n\(previous)\n\(SignatureV4.emptyDigest)\n\(hexText(digest))"
    )
  }
  mutating func acceptsTrailer(_ claimed: String, _ trailer: String) -> Bool {
    verify(
      claimed,
      "\(SignatureV4.algorithm)-TRAILER\n\(date)\n\(scope)\n\(previous)\n\(Fingerprint(of: Array(trailer.utf8)).hex)"
    )
  }
}

/// Takes an `aws-chunked` body apart. Loop-confined.
///
///     HEX-SIZE[;chunk-signature=HEX] CR LF BYTES CR LF … 0[;chunk-signature=HEX] CR LF [NAME:VALUE CR LF …] CR LF
final class ChunkedPayload: @unchecked Sendable {
  // Loop-confined.
  private enum State {
    case size(isFirst: Bool)
    case data(left: UInt64)
    case trailer
    case done
  }
  private let pull: any BytePull
  private let pool: BufferPool
  private var signing: PieceSigning?
  private let hasTrailer: Bool
  private var state = State.size(isFirst: true)
  private var claimed = ""
  private var digest: RunningDigest?
  /// Come and not yet given out.
  private var held: Slice?
  private(set) var trailers: [(name: String, value: String)] = []

  private static let lineLimit = 1024
  private static let trailerLimit = 16
  /// S3's bound on a piece; the signature of a larger one would be checked too late to be of use.
  private static let pieceLimit: UInt64 = 1 << 30

  init(_ pull: any BytePull, signing: PieceSigning?, hasTrailer: Bool, pool: BufferPool) {
    self.pull = pull
    self.signing = signing
    self.hasTrailer = hasTrailer
    self.pool = pool
  }

  enum Failure: Error {
    case http(HTTPError)
    case s3(S3Error)
  }

  private static let incomplete = Failure.s3(S3Error(.incompleteBody))
  private static let malformed = Failure.s3(
    S3Error(.invalidRequest, "The body is not coded as aws-chunked."))

  private func receive(into slice: Slice) async throws(Failure) -> Int {
    do throws(HTTPError) {
      return try await pull.read(into: slice)
    } catch {
      throw .http(error)
    }
  }

  private func line() async throws(Failure) -> [UInt8] {
    var line: [UInt8] = []
    while true {
      if held == nil {
        let slice = pool.slice(4096)
        let count = try await receive(into: slice)
        if count == 0 { throw Self.incomplete }
        held = slice[0..<count]
      }
      guard let come = held else { continue }
      let end = come.withBytes { bytes in bytes.firstIndex(of: UInt8(ascii: "\n")) }
      let taken = end.map { $0 + 1 } ?? come.count
      line += come[0..<taken].array
      held = taken < come.count ? come[taken..<come.count] : nil
      guard line.count <= Self.lineLimit else { throw Self.malformed }
      if end != nil {
        guard line.count >= 2, line[line.count - 2] == UInt8(ascii: "\r") else {
          throw Self.malformed
        }
        line.removeLast(2)
        return line
      }
    }
  }

  func read(into slice: Slice) async throws(Failure) -> Int {
    while true {
      switch state {
      case .done: return 0
      case .data(let left):
        let wanted = slice[0..<Int(min(UInt64(slice.count), left))]
        let count: Int
        if let come = held {
          count = min(come.count, wanted.count)
          come.withBytes { from in
            wanted.withMutableBytes {
              $0.copyMemory(from: UnsafeRawBufferPointer(rebasing: from[..<count]))
            }
          }
          held = count < come.count ? come[count..<come.count] : nil
        } else {
          count = try await receive(into: wanted)
        }
        if count == 0 { throw Self.incomplete }
        wanted[0..<count].withBytes { digest?.update($0) }
        if left == UInt64(count) {
          try endPiece()
          state = .size(isFirst: false)
        } else {
          state = .data(left: left - UInt64(count))
        }
        return count
      case .size(let isFirst):
        if !isFirst, try await !line().isEmpty { throw Self.malformed }
        let size = try takeSize(String(decoding: try await line(), as: UTF8.self))
        digest = signing == nil ? nil : RunningDigest(.sha256)
        if size > 0 {
          state = .data(left: size)
        } else {
          try endPiece()
          state = .trailer
        }
      case .trailer:
        try await takeTrailers()
        // Bytes behind the end would belong to nothing.
        guard held == nil, try await receive(into: pool.slice(16)) == 0 else {
          throw Self.malformed
        }
        state = .done
      }
    }
  }

  private func takeSize(_ line: String) throws(Failure) -> UInt64 {
    let parts = line.split(separator: ";", omittingEmptySubsequences: false)
    guard (1...15).contains(parts[0].utf8.count), parts[0].utf8.first != UInt8(ascii: "+"),
      let size = UInt64(parts[0], radix: 16), size <= Self.pieceLimit
    else { throw Self.malformed }
    claimed = ""
    if parts.count > 1, parts[1].hasPrefix("chunk-signature=") {
      claimed = String(parts[1].dropFirst("chunk-signature=".utf8.count))
    }
    if signing != nil && claimed.isEmpty { throw Self.malformed }
    return size
  }

  private func endPiece() throws(Failure) {
    guard let digest else { return }
    self.digest = nil
    guard signing?.acceptsPiece(claimed, digest: digest.finish()) == true else {
      throw .s3(S3Error(.signatureDoesNotMatch))
    }
  }

  private func takeTrailers() async throws(Failure) {
    var signed = ""
    var signature: String?
    while true {
      let text = String(decoding: try await line(), as: UTF8.self)
      if text.isEmpty { break }
      let sides = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      guard hasTrailer, sides.count == 2, signature == nil, trailers.count < Self.trailerLimit
      else { throw Self.malformed }
      let name = sides[0].lowercased()
      let value = String(sides[1].drop { $0 == " " })
      if name == "x-amz-trailer-signature" {
        signature = value
      } else {
        trailers.append((name, value))
        signed += "\(name):\(value)\n"
      }
    }
    guard hasTrailer, signing != nil else { return }
    guard let signature, signing?.acceptsTrailer(signature, signed) == true else {
      throw .s3(S3Error(.signatureDoesNotMatch))
    }
  }
}
