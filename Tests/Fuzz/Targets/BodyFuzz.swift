import Coding
import Ring

@testable import Gateway
@testable import HTTP

/// What comes of a body: its bytes and how many that follow belong to the next request, or that it is refused.
private struct Outcome: Equatable {
  var body: [UInt8] = []
  var left = 0
  /// Nil: it is whole.
  var refusal: String?
}

/// Both readers of the chunked coding find the same, however it is cut.
enum ChunkedFuzz {
  static func complaint(_ bytes: [UInt8]) -> String? {
    guard let (most, coded) = cut(bytes) else { return nil }
    let whole = feed(coded, most: .max)
    guard feed(coded, most: most) == whole else { return "cut otherwise it is another body" }
    let streamed = drained { await stream(coded, most: most) }
    guard streamed == whole else { return "read from a stream it is another body" }
    return nil
  }

  private static func feed(_ coded: ArraySlice<UInt8>, most: Int) -> Outcome {
    var decoder = ChunkedDecoder()
    var outcome = Outcome()
    var rest = coded
    while !decoder.isDone && !rest.isEmpty {
      let piece = rest.prefix(most)
      guard let used = try? decoder.feed(piece, into: &outcome.body) else {
        return Outcome(refusal: "refused")
      }
      rest = rest.dropFirst(used)
    }
    guard decoder.isDone else { return Outcome(refusal: "refused") }
    outcome.left = rest.count
    return outcome
  }

  private static func stream(_ coded: ArraySlice<UInt8>, most: Int) async -> Outcome {
    let reader = HTTPReader(PiecewisePull(coded, most: most))
    let body = HTTPRequestBody(reader, .chunked, invite: nil)
    guard let bytes = try? await body.all(limit: 1 << 20, pool: fuzzPool), body.isDone else {
      return Outcome(refusal: "refused")
    }
    var outcome = Outcome(body: bytes)
    let slice = fuzzPool.slice(4096)
    while let count = try? await reader.read(into: slice), count > 0 { outcome.left += count }
    return outcome
  }
}

/// An `aws-chunked` body is the same however it is cut, and nothing that is not signed is taken for signed.
enum PiecesFuzz {
  static func complaint(_ bytes: [UInt8]) -> String? {
    guard let (most, coded) = cut(bytes) else { return nil }
    for hasTrailer in [false, true] {
      let whole = drained { await read(coded, most: .max, nil, hasTrailer) }
      guard drained({ await read(coded, most: most, nil, hasTrailer) }) == whole else {
        return "cut otherwise it is another body"
      }
    }
    guard drained({ await read(coded, most: most, signing, true) }).refusal != nil else {
      return "pieces were believed that nobody signed"
    }
    // The same bytes as the body of somebody who knows the key.
    var signed = sign(coded, each: max(most, coded.count / 8 + 1))
    guard
      drained({ [signed] in await read(signed[...], most: most, signing, false) })
        == Outcome(body: Array(coded))
    else { return "pieces that are signed were refused" }
    guard let place = signed.indices.dropLast(2).last(where: { signed[$0] != 13 }) else {
      return nil
    }
    signed[place] ^= 1
    guard
      drained({ [signed] in await read(signed[...], most: most, signing, false) }).refusal != nil
    else { return "pieces were believed that were changed" }
    return nil
  }

  private static let signing = PieceSigning(
    key: [1, 2, 3], previous: "", date: "20261130T000000Z", scope: "s")

  private static func sign(_ body: ArraySlice<UInt8>, each: Int) -> [UInt8] {
    var coded: [UInt8] = []
    var previous = signing.previous
    var rest = body
    while true {
      let piece = Array(rest.prefix(each))
      rest = rest.dropFirst(piece.count)
      let text =
        "\(SignatureV4.algorithm)-PAYLOAD\n\(signing.date)\n\(signing.scope)\n\(previous)\n\(SignatureV4.emptyDigest)\n\(Fingerprint(of: piece).hex)"
      previous = SignatureV4.sign(text, key: signing.key)
      coded += Array("\(String(piece.count, radix: 16));chunk-signature=\(previous)\r\n".utf8)
      coded += piece + [13, 10]
      if piece.isEmpty { return coded }
    }
  }

  private static func read(
    _ coded: ArraySlice<UInt8>, most: Int, _ signing: PieceSigning?, _ hasTrailer: Bool
  ) async -> Outcome {
    let payload = ChunkedPayload(
      PiecewisePull(coded, most: most), signing: signing, hasTrailer: hasTrailer, pool: fuzzPool)
    var outcome = Outcome()
    let slice = fuzzPool.slice(4096)
    do throws(ChunkedPayload.Failure) {
      while true {
        let count = try await payload.read(into: slice)
        if count == 0 { break }
        outcome.body += slice[0..<count].array
      }
    } catch {
      return Outcome(refusal: "\(error)")
    }
    for (name, value) in payload.trailers { outcome.body += Array("\(name):\(value)\n".utf8) }
    return outcome
  }
}

/// A form is the same however it is cut. The first line of what is fuzzed is its content type.
enum FormFuzz {
  static func complaint(_ bytes: [UInt8]) -> String? {
    guard let (most, rest) = cut(bytes), let end = rest.firstIndex(of: 10) else { return nil }
    let type = String(decoding: rest[..<end], as: UTF8.self)
    let form = rest[(end + 1)...]
    let whole = drained { await read(form, type, most: .max) }
    guard drained({ await read(form, type, most: most) }) == whole else {
      return "cut otherwise it is another form"
    }
    return nil
  }

  private static func read(_ bytes: ArraySlice<UInt8>, _ type: String, most: Int) async -> Outcome {
    do {
      let form = try PostForm(
        PiecewisePull(bytes, most: most), contentType: type, pool: fuzzPool)
      try await form.readFields()
      var outcome = Outcome(body: Array(form.fileName.utf8))
      for name in form.fields.keys.sorted() {
        outcome.body += Array("\(name)=\(form.fields[name] ?? "")\n".utf8)
      }
      if let text = form.fields["policy"], let policy = try? PostPolicy(Array(text.utf8)) {
        try? policy.check(form.fields, now: 0)
      }
      let slice = fuzzPool.slice(4096)
      while true {
        let count = try await form.read(into: slice)
        if count == 0 { return outcome }
        outcome.body += slice[0..<count].array
      }
    } catch let error as S3Error {
      return Outcome(refusal: error.code.rawValue)
    } catch {
      return Outcome(refusal: "refused")
    }
  }
}
