import HTTP
import Ring
import TestSupport
import Testing

@testable import Gateway

@Suite("Forms of browsers") struct PostFormTests {
  private static let pool = BufferPool(retainedByteLimit: 0)
  private static let contentType = "multipart/form-data; boundary=\"--ab\""

  private static func form(
    _ fields: [(String, String)], _ file: [UInt8], boundary: String = "--ab"
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    for (name, value) in fields {
      bytes += Array(
        "--\(boundary)\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n".utf8
      )
    }
    bytes += Array(
      "--\(boundary)\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\x\\y.txt\"\r\nContent-Type: a/b\r\n\r\n"
        .utf8)
    return bytes + file + Array("\r\n--\(boundary)--\r\n".utf8)
  }

  private static func read(_ bytes: [UInt8], most: Int, slice: Int = 1000) async throws -> (
    fields: [String: String], file: [UInt8]
  ) {
    let form = try PostForm(BytesPull(bytes, most: most), contentType: contentType, pool: pool)
    try await form.readFields()
    var file: [UInt8] = []
    let piece = pool.slice(slice)
    while true {
      let count = try await form.read(into: piece)
      if count == 0 { return (form.fields, file) }
      file += piece[0..<count].array
    }
  }

  @Test("what is in a form is read, however it comes", arguments: Seed.several)
  func whole(seed: Seed) async throws {
    var random = seed.generator
    // Much of what looks like the end, and is not.
    let words: [[UInt8]] = [
      [13], [10], [13, 10], [13, 10, 45, 45], Array("\r\n--".utf8), Array("\r\n----a".utf8),
      Array("--ab".utf8), [0], Array("word".utf8),
    ]
    for _ in 0..<100 {
      var file: [UInt8] = []
      for _ in 0..<Int.random(in: 0..<40, using: &random) {
        file += words.randomElement(using: &random)!
      }
      let mark = Array("\r\n----ab".utf8)
      if file.indices.contains(where: { file[$0...].starts(with: mark) }) { continue }
      let fields = [("Key", "a/b"), ("policy", ""), ("x-amz-meta-é", "ü\r\n-")]
      let read = try await Self.read(
        Self.form(fields, file), most: Int.random(in: 1...300, using: &random),
        slice: Int.random(in: 1...500, using: &random))
      #expect(read.file == file)
      #expect(read.fields == ["key": "a/b", "policy": "", "x-amz-meta-é": "ü\r\n-"])
    }
  }

  @Test("one that is cut or changed is refused or read, and never traps", arguments: Seed.several)
  func damage(seed: Seed) async throws {
    var random = seed.generator
    let bytes = Self.form([("key", "a"), ("acl", "private")], Array("content\r\n-".utf8))
    for end in 0..<bytes.count - 4 {
      await #expect(throws: (any Error).self) {
        try await Self.read(Array(bytes[..<end]), most: 50)
      }
    }
    for _ in 0..<300 {
      var changed = bytes
      changed[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
        in: 0...255, using: &random)
      _ = try? await Self.read(changed, most: 50)
    }
  }

  @Test("fields have a bound, names come once, and a boundary is needed")
  func refused() async throws {
    func code(_ fields: [(String, String)]) async -> S3Error.Code? {
      do {
        _ = try await Self.read(Self.form(fields, [1]), most: 5000)
        return nil
      } catch {
        return (error as? S3Error)?.code
      }
    }
    #expect(await code([("a", String(repeating: "x", count: 19_000))]) == nil)
    #expect(
      await code([("a", String(repeating: "x", count: 21_000))]) == .maxPostPreDataLengthExceeded)
    #expect(
      await code((0..<30).map { ("a\($0)", String(repeating: "x", count: 1000)) })
        == .maxPostPreDataLengthExceeded)
    #expect(await code([("a", "1"), ("A", "2")]) == .malformedPOST)
    for wrong in [
      "multipart/form-data", "multipart/form-data; boundary=",
      "multipart/form-data; boundary=a; boundary=b",
      "multipart/form-data; boundary=" + String(repeating: "a", count: 71),
      "multipart/form-data; boundary=a\u{7F}",
    ] {
      #expect(throws: S3Error.self) {
        try PostForm(BytesPull([], most: 1), contentType: wrong, pool: Self.pool)
      }
    }
  }

  private static func policy(
    _ conditions: String, _ expiration: String = "2026-11-30T12:00:00.000Z"
  )
    throws -> PostPolicy
  {
    try PostPolicy(
      Array("{\"expiration\":\"\(expiration)\",\"conditions\":[\(conditions)]}".utf8))
  }

  @Test("a form's policy names every field, and says what it may be")
  func policies() throws {
    let fields = [
      "bucket": "b", "key": "user/a", "acl": "private", "x-ignore-a": "b", "policy": "p",
    ]
    let now = 1_796_040_000.0 - 1
    let whole = #"{"bucket":"b"},["starts-with","$key","user/"],["eq","$acl","private"]"#
    try Self.policy(whole).check(fields, now: now)
    #expect(throws: S3Error.self) { try Self.policy(whole).check(fields, now: now + 1) }
    for wrong in [
      #"{"bucket":"c"},["starts-with","$key",""],{"acl":"private"}"#,
      #"["starts-with","$key","other/"],{"acl":"private"}"#, #"["starts-with","$key",""]"#,
      #"["starts-with","$key",""],{"acl":"private"},{"tagging":""}"#,
    ] { #expect(throws: S3Error.self) { try Self.policy(wrong).check(fields, now: now) } }
    #expect(try Self.policy(#"["content-length-range",1,10]"#).byteCounts == 1...10)
    for wrong in [
      "1", #""a""#, "[]", #"{"a":1}"#, #"["eq","key","a"]"#, #"["is","$key","a"]"#,
      #"["content-length-range",10,1]"#, #"["content-length-range",-1,1]"#,
      #"["content-length-range",1,2],["content-length-range",5,9]"#,
    ] { #expect(throws: S3Error.self) { try Self.policy(wrong) } }
    for wrong in ["", "2026-13-01T00:00:00Z", "1796040000", "tomorrow"] {
      #expect(throws: S3Error.self) { try Self.policy("", wrong) }
    }
    for wrong in ["", "{}", "[]", #"{"expiration":"2026-11-30T12:00:00Z"}"#] {
      #expect(throws: S3Error.self) { try PostPolicy(Array(wrong.utf8)) }
    }
  }
}
