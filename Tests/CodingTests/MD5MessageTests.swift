import TestSupport
import Testing

@testable import Coding

@Suite("MD5 of several messages")
struct MD5MessageTests {
  /// RFC 1321, appendix A.5.
  static let published = [
    ("", "d41d8cd98f00b204e9800998ecf8427e"),
    ("a", "0cc175b9c0f1b6a831c399e269772661"),
    ("abc", "900150983cd24fb0d6963f7d28e17f72"),
    ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    (
      "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
      "57edf4a22be3c955ac49da2e2107b67a"
    ),
  ]

  @Test("the published digests", arguments: 1...MD5Message.laneCount)
  func vectors(lanes: Int) {
    let messages = Self.published.map { _ in MD5Message() }
    advance(messages, Self.published.map { Array($0.0.utf8) }, lanes)
    #expect(messages.map { hexText($0.finish()) } == Self.published.map(\.1))
  }

  @Test("messages that advance together are those that advance alone", arguments: Seed.several)
  func together(seed: Seed) {
    var random = seed.generator
    for _ in 0..<40 {
      let count = Int.random(in: 1...20, using: &random)
      let lanes = Int.random(in: 1...MD5Message.laneCount, using: &random)
      let messages = (0..<count).map { _ in MD5Message() }
      var wholes = [[UInt8]](repeating: [], count: count)
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let some = (0..<count).filter { _ in Bool.random(using: &random) }
        let pieces = some.map { _ in
          random.bytes(
            Bool.random(using: &random)
              ? Int.random(in: 0...200, using: &random)
              : Int.random(in: 0...9000, using: &random))
        }
        advance(some.map { messages[$0] }, pieces, lanes)
        for (index, piece) in zip(some, pieces) { wholes[index] += piece }
      }
      for (message, whole) in zip(messages, wholes) {
        #expect(message.finish() == RunningDigest.of(whole, .md5))
      }
    }
  }

  @Test("the length's upper word counts, too")
  func long() {
    // 2^29 bytes are 2^32 bits.
    let piece = [UInt8](repeating: 7, count: 1 << 20)
    let (one, other) = (MD5Message(), MD5Message())
    let plain = RunningDigest(.md5)
    for _ in 0..<513 {
      advance([one, other], [piece, piece], MD5Message.laneCount)
      plain.update(piece)
    }
    let wanted = plain.finish()
    #expect(one.finish() == wanted)
    #expect(other.finish() == wanted)
  }

  private func advance(_ messages: [MD5Message], _ pieces: [[UInt8]], _ lanes: Int) {
    let copies = pieces.map { piece in
      let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: piece.count, alignment: 1)
      copy.copyBytes(from: piece)
      return copy
    }
    MD5Message.update(
      zip(messages, copies).map { ($0, UnsafeRawBufferPointer($1)) }, lanes: lanes)
    for copy in copies { copy.deallocate() }
  }
}
