import HTTP
import Messages
import TestSupport
import Testing

@testable import Gateway

@Suite("Policies") struct PolicyTests {
  private static func read(_ text: String, of owner: PolicyDocument.Owner = .bucket("bucket"))
    throws -> PolicyDocument
  {
    try PolicyDocument(Array(text.utf8), of: owner)
  }

  private static func decide(_ document: PolicyDocument, _ question: NaivePolicy.Question)
    -> String
  {
    var context = RequestContext()
    for (key, value) in question.context { context[key] = value }
    let requester: Requester =
      switch question.who {
      case "anonymous": .anonymous
      case "root": .root
      default: .user(question.who)
      }
    return
      "\(document.verdict(AccessQuestion(requester: requester, action: .named(String(question.action.dropFirst(3))), resource: Array(question.resource.utf8), context: context)))"
  }

  @Test(
    "a policy decides as one that is decided word by word, however it is printed",
    arguments: Seed.several, [true, false])
  func decisions(seed: Seed, ofBucket: Bool) throws {
    var random = seed.generator
    var counts: [String: Int] = [:]
    for _ in 0..<300 {
      let naive = NaivePolicy(&random, ofBucket: ofBucket)
      let texts = [naive.print(&random), naive.print(&random)]
      let owner = ofBucket ? PolicyDocument.Owner.bucket("bucket") : .user
      let documents = try texts.map { try Self.read($0, of: owner) }
      for _ in 0..<30 {
        let question = NaivePolicy.question(&random)
        let wanted = naive.decide(question)
        counts[wanted, default: 0] += 1
        for (document, text) in zip(documents, texts) {
          #expect(Self.decide(document, question) == wanted, "\(text)\n\(question)")
        }
      }
    }
    // Every answer was given often enough to mean something.
    for answer in ["allow", "deny", "nothing"] { #expect(counts[answer, default: 0] > 100) }
  }

  @Test(
    "documents that are cut, changed or made of anything are refused or read, and decide without a trap",
    arguments: Seed.several)
  func damage(seed: Seed) throws {
    var random = seed.generator
    let words: [[UInt8]] = [
      "{", "}", "[", "]", ":", ",", "\"", "\"Statement\"", "\"Effect\"", "\"Allow\"", "\"Action\"",
      "\"*\"", "${", "}", "\\u0000", "\\ud800", "*?", "null", "true", "1e99", "-0", "\"Condition\"",
      "\"Null\"", "\"IpAddress\"", "\"aws:SourceIp\"", "\"::/0\"", "\"1.2.3.4/33\"",
    ].map { Array($0.utf8) }
    for _ in 0..<300 {
      var bytes = Array(NaivePolicy(&random, ofBucket: true).print(&random).utf8)
      for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.removeSubrange(place..<min(bytes.count, place + 20))
        case 2: bytes.insert(contentsOf: words.randomElement(using: &random)!, at: place)
        default: bytes = Array(bytes[..<place])
        }
      }
      guard let document = try? PolicyDocument(bytes, of: .bucket("bucket")) else { continue }
      _ = Self.decide(document, NaivePolicy.question(&random))
      _ = document.isPublic
    }
  }

  @Test("what is not understood is refused", arguments: Broken.documents)
  func refused(text: String) {
    #expect(throws: MalformedPolicy.self) { try Self.read(text) }
  }

  @Test("what is a policy is read, and a user's has no principal")
  func accepted() throws {
    _ = try Self.read(Broken.statement(Broken.whole))
    let ofUser = Broken.statement(
      Broken.whole.replacing("\"Principal\":\"*\",", with: "").replacing("bucket/", with: "any/"))
    _ = try Self.read(ofUser, of: .user)
    #expect(throws: MalformedPolicy.self) {
      try Self.read(Broken.statement(Broken.whole), of: .user)
    }
    #expect(throws: MalformedPolicy.self) { try Self.read(ofUser) }
  }

  @Test("addresses of both kinds, and those that stand for the other")
  func addresses() throws {
    for (range, inside, outside) in [
      ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"), ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
      ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"), ("::1", "0:0:0:0:0:0:0:1", "::2"),
      ("10.0.0.0/8", "::ffff:10.9.9.9", "::10.9.9.9"), ("::/0", "fe80::1", "1.2.3.4"),
    ] {
      let range = try #require(AddressRange(range))
      #expect(range.contains(try #require(AddressRange(inside))))
      #expect(!range.contains(try #require(AddressRange(outside))))
    }
    for wrong in [
      "", "1", ":", ":::", "1:2", "1:2:3:4:5:6:7:8:9", "::g", "12345::", "1.2.3.4/-1", "1.2.3.256",
      "::1/129", "a.b.c.d",
    ] {
      #expect(AddressRange(wrong) == nil, "\(wrong)")
    }
  }

  @Test("public is what lets anybody in without asking who, or where from")
  func isPublic() throws {
    func isPublic(_ more: String, _ base: String = Broken.whole) throws -> Bool {
      try Self.read(Broken.statement(base + more)).isPublic
    }
    #expect(try isPublic(""))
    #expect(try isPublic(",\"Condition\":{\"StringLike\":{\"aws:UserAgent\":\"x\"}}"))
    #expect(try isPublic(",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"0.0.0.0/0\"}}"))
    #expect(try isPublic(",\"Condition\":{\"StringLike\":{\"aws:username\":\"a*\"}}"))
    #expect(try !isPublic(",\"Condition\":{\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}}"))
    #expect(try !isPublic(",\"Condition\":{\"StringEquals\":{\"aws:username\":\"a\"}}"))
    #expect(try !isPublic("", Broken.whole.replacing("Allow", with: "Deny")))
    #expect(
      try !isPublic(
        "",
        Broken.whole.replacing(
          "\"Principal\":\"*\"", with: "\"Principal\":{\"AWS\":\"000000000000\"}")
      ))
  }

  @Test("every operation needs a right, those with more than one sub-resource all of them")
  func table() throws {
    func needs(_ method: String, _ target: String, _ fields: [(String, String)] = []) throws
      -> [String]?
    {
      var lines = HTTPFields([.init("Host", "h")])
      for (name, value) in fields { lines.add(name, value) }
      return try OperationTable.needs(
        try S3Request(HTTPRequestHead(method: method, target: target, fields: lines), domain: "")
      )?.map { "\($0.action.name) \(String(decoding: $0.resource, as: UTF8.self))" }
    }
    let bucket = "arn:aws:s3:::b"
    let object = "arn:aws:s3:::b/k"
    let operations: [(String, String, [String])] = [
      ("GET", "/b", ["s3:ListBucket \(bucket)"]), ("HEAD", "/b", ["s3:ListBucket \(bucket)"]),
      ("PUT", "/b", ["s3:CreateBucket \(bucket)"]), ("POST", "/b?delete", []),
      ("GET", "/b?policy", ["s3:GetBucketPolicy \(bucket)"]),
      ("DELETE", "/b?policy", ["s3:DeleteBucketPolicy \(bucket)"]),
      ("DELETE", "/b?cors", ["s3:PutBucketCORS \(bucket)"]),
      ("GET", "/b?acl&list-type=2", ["s3:GetBucketAcl \(bucket)"]),
      ("GET", "/b/k", ["s3:GetObject \(object)"]),
      ("GET", "/b/k?versionId=null", ["s3:GetObjectVersion \(object)"]),
      ("GET", "/b/k?uploads", ["s3:GetObject \(object)"]),
      (
        "GET", "/b/k?acl&uploadId=1",
        ["s3:GetObjectAcl \(object)", "s3:ListMultipartUploadParts \(object)"]
      ),
      ("PUT", "/b/k?partNumber=1&uploadId=1", ["s3:PutObject \(object)"]),
      (
        "PUT", "/b/k?tagging&partNumber=1",
        ["s3:PutObjectTagging \(object)", "s3:PutObject \(object)"]
      ),
      ("DELETE", "/b/k?uploadId=1", ["s3:AbortMultipartUpload \(object)"]),
      ("OPTIONS", "/b/k", []),
    ]
    for (method, target, wanted) in operations {
      #expect(try needs(method, target) == wanted, "\(method) \(target)")
    }
    #expect(try needs("PATCH", "/b/k") == nil)
    #expect(
      try needs("PUT", "/b/k", [("x-amz-copy-source", "/c/d%20e")])
        == ["s3:PutObject \(object)", "s3:GetObject arn:aws:s3:::c/d e"])
    // Twice is as good as once.
    #expect(
      try needs("PUT", "/b/k", [("x-amz-tagging", "a=b"), ("X-Amz-Tagging", "a=c")])
        == ["s3:PutObject \(object)", "s3:PutObjectTagging \(object)"])
    #expect(
      try needs("PUT", "/b", [("x-amz-acl", "public-read")])
        == ["s3:CreateBucket \(bucket)", "s3:PutBucketAcl \(bucket)"])
  }

  @Test("statements may have the same empty name, and no other one")
  func names() throws {
    func read(_ name: String) throws -> PolicyDocument {
      let statement =
        "{\"Sid\":\"\(name)\",\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::bucket\"}"
      return try Self.read("{\"Statement\":[\(statement),\(statement)]}")
    }
    #expect(try read("").statements.count == 2)
    #expect(throws: MalformedPolicy.self) { try read("a") }
  }

  @Test(
    "an action that is never done to what stands beside it is refused, as S3 refuses it",
    arguments: [
      ("s3:GetObject", "bucket", false), ("s3:GetObject", "bucket/*", true),
      ("s3:ListBucket", "bucket/*", false), ("s3:ListBucket", "bucket", true),
      ("s3:ListBucket", "bucket*", true), ("s3:GetObject", "bucket*", true),
      ("s3:*", "bucket", true), ("s3:*", "bucket/key", true), ("*", "bucket", true),
      ("s3:Get*", "bucket", true), ("s3:GetObject*", "bucket", false),
      ("s3:AbortMultipartUpload", "bucket", false), ("s3:GetBucketAcl", "bucket/a", false),
      ("s3:GetBucketObjectLockConfiguration", "bucket", true),
      ("s3:ListBucketMultipartUploads", "bucket", true),
      ("s3:ListMultipartUploadParts", "bucket", false),
      ("s3:ListBucket", "b?cket", true), ("s3:GetObject", "bucket/${aws:username}", true),
    ])
  func fit(action: String, resource: String, fits: Bool) throws {
    func check(_ actions: String, _ resources: String) -> Bool {
      let text =
        "{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\(actions),\(resources)}}"
      do {
        try Self.read(text).checkFit("bucket")
        return true
      } catch {
        #expect((error as? MalformedPolicy)?.reason.hasPrefix("Action does not apply") == true)
        return false
      }
    }
    let arn = "arn:aws:s3:::" + resource
    #expect(check("\"Action\":\"\(action)\"", "\"Resource\":\"\(arn)\"") == fits)
    // Each of several must fit one.
    #expect(check("\"Action\":[\"s3:*\",\"\(action)\"]", "\"Resource\":\"\(arn)\"") == fits)
    #expect(
      check(
        "\"Action\":\"\(action)\"",
        "\"Resource\":[\"\(arn)\",\"arn:aws:s3:::bucket\",\"arn:aws:s3:::bucket/*\"]"))
    #expect(check("\"NotAction\":\"\(action)\"", "\"Resource\":\"\(arn)\""))
    #expect(check("\"Action\":\"\(action)\"", "\"NotResource\":\"\(arn)\""))
  }
}

private enum Broken {
  static func statement(_ members: String) -> String {
    "{\"Version\":\"2012-10-17\",\"Statement\":[{\(members)}]}"
  }
  static let whole =
    #""Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*""#

  static let documents: [String] = {
    var all: [String] = documentsAsTheyAre
    for (from, to) in replacements { all.append(statement(whole.replacing(from, with: to))) }
    for more in additions { all.append(statement(whole + more)) }
    for condition in conditions {
      let more = ",\"Condition\":" + condition
      all.append(statement(whole + more))
    }
    let twice = #"{"Statement":[{WHOLE,"Sid":"a"},{WHOLE,"Sid":"a"}]}"#
    all.append(twice.replacing("WHOLE", with: whole))
    all.append(String(repeating: "[", count: 10_000))
    let deep = String(repeating: "[", count: 5_000)
    all.append("{\"Statement\":" + deep + "}")
    let long = String(repeating: "x", count: 20_480)
    all.append(statement(whole.replacing("bucket/*", with: "bucket/" + long)))
    return all
  }()

  private static let documentsAsTheyAre: [String] = [
    "", "null", "[]", "{}", #"{"Statement":[]}"#, #"{"Version":"2013-01-01","Statement":[]}"#,
    #"{"Version":"2012-10-17","Statement":{},"More":1}"#,
    #"{"Version":"2012-10-17","Statement":[{}]}"#,
  ]
  private static let replacements: [(String, String)] = [
    ("Allow", "allow"), (#""Action""#, #""action""#), ("s3:GetObject", "s3:GetObjects"),
    ("s3:GetObject", "ec2:*"), ("s3:GetObject", ""), (#""s3:GetObject""#, "[]"),
    (#""s3:GetObject""#, "{}"), ("bucket/*", "other/*"),
    ("arn:aws:s3:::bucket/*", "arn:aws:s3:::"), ("arn:aws:s3:::bucket/*", "bucket/*"),
    ("bucket/*", "bucket/${aws:nothing}"), ("bucket/*", "bucket/${aws:username"),
    (#""Principal":"*","#, ""), (#""Principal":"*""#, #""Principal":"alice""#),
    (#""Principal":"*""#, #""Principal":{"AWS":[]}"#),
    (#""Principal":"*""#, #""Principal":{"Service":"x"}"#),
    (#""Principal":"*""#, #""Principal":{"AWS":"arn:aws:iam::123456789012:user/alice"}"#),
    (#""Principal":"*""#, #""Principal":{"AWS":"arn:aws:iam::000000000000:user/a b"}"#),
  ]
  private static let additions: [String] = [
    #","Extra":1"#, #","Sid":1"#, #","NotPrincipal":"*""#, #","NotAction":"s3:*""#,
    #","NotResource":"*""#,
  ]
  private static let conditions: [String] = [
    "[]", #"{"StringIs":{"s3:prefix":"a"}}"#, #"{"StringEquals":{}}"#,
    #"{"StringEquals":{"s3:nothing":"a"}}"#, #"{"StringEquals":{"s3:prefix":[]}}"#,
    #"{"StringEquals":{"s3:prefix":null}}"#, #"{"NumericEquals":{"s3:max-keys":"ten"}}"#,
    #"{"NumericEquals":{"s3:max-keys":"0x10"}}"#, #"{"NumericEquals":{"s3:max-keys":"nan"}}"#,
    #"{"DateEquals":{"aws:CurrentTime":"2026-02-30"}}"#,
    #"{"DateEquals":{"aws:CurrentTime":"yesterday"}}"#,
    #"{"Bool":{"aws:SecureTransport":"yes"}}"#, #"{"Null":{"aws:username":""}}"#,
    #"{"NullIfExists":{"aws:username":"true"}}"#, #"{"IpAddress":{"aws:SourceIp":"1.2.3"}}"#,
    #"{"IpAddress":{"aws:SourceIp":"1.2.3.4/33"}}"#,
    #"{"IpAddress":{"aws:SourceIp":"1.2.3.04"}}"#, #"{"IpAddress":{"aws:SourceIp":"1::2::3"}}"#,
    #"{"ForAnyValue:StringLike":{"s3:prefix":"a"}}"#,
  ]
}
