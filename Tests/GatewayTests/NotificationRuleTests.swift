import TestSupport
import Testing

@testable import Gateway

@Suite("Whom a bucket has told of writes") struct NotificationRuleTests {
  private static func rule(
    _ events: [String], prefix: String? = nil, suffix: String? = nil, id: String = "",
    kind: String = "Queue", arn: String = "arn:cairn:sqs:us-east-1:000000000000:hook"
  ) -> String {
    var text = "<\(kind)Configuration>"
    if !id.isEmpty { text += "<Id>\(id)</Id>" }
    text += "<\(kind)>\(arn)</\(kind)>"
    for event in events { text += "<Event>\(event)</Event>" }
    if prefix != nil || suffix != nil {
      text += "<Filter><S3Key>"
      for (name, value) in [("prefix", prefix), ("suffix", suffix)] {
        if let value {
          text += "<FilterRule><Name>\(name)</Name><Value>\(value)</Value></FilterRule>"
        }
      }
      text += "</S3Key></Filter>"
    }
    return text + "</\(kind)Configuration>"
  }

  private static func read(_ rules: String...) throws(S3Error) -> NotificationRules {
    let text =
      "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
      + rules.joined() + "</NotificationConfiguration>"
    return try NotificationRules(document: Array(text.utf8), region: "us-east-1")
  }

  private static let all = "s3:ObjectCreated:*"

  @Test("what is written is read as it was")
  func documents() throws {
    let rules = try Self.read(
      Self.rule(
        [Self.all, "s3:ObjectRemoved:Delete"], prefix: "a&lt;/", suffix: ".jpg", id: "one"),
      Self.rule([Self.all], prefix: "b", kind: "Topic", arn: "arn:aws:sns:us-east-1::hook"),
      Self.rule(
        ["s3:ObjectRemoved:*"], prefix: "z", suffix: "", id: "notification-1",
        kind: "CloudFunction",
        arn: "arn:aws:lambda::000000000000:function:other_2"))
    #expect(rules.rules.map(\.id) == ["one", "notification-2", "notification-1"])
    #expect(rules.rules.map(\.arn.name) == ["hook", "hook", "other_2"])
    #expect(rules.rules[0].prefix == "a</" && rules.rules[2].suffix == "")
    #expect(try NotificationRules(document: rules.document, region: nil) == rules)
    #expect(try Self.read().rules.isEmpty)
  }

  @Test("what S3 refuses is refused as S3 does")
  func refusals() {
    let filter = "<Filter><S3Key><FilterRule><Name>%</Name><Value>x</Value></FilterRule>"
    let cases: [(String, S3Error.Code)] = [
      (Self.rule([]), .malformedXML), (Self.rule(["s3:ObjectRestore:*"]), .invalidArgument),
      (Self.rule(["s3:LifecycleExpiration:*"]), .invalidArgument),
      (Self.rule(["ObjectCreated:Put"]), .invalidArgument),
      (Self.rule(["s3:ObjectCreated:Put*"]), .invalidArgument),
      (Self.rule(["s3:*"]), .invalidArgument), (Self.rule([""]), .invalidArgument),
      (Self.rule([Self.all], id: String(repeating: "i", count: 256)), .malformedXML),
      (Self.rule([Self.all], prefix: String(repeating: "p", count: 1025)), .invalidArgument),
      (Self.rule([Self.all], kind: "Lambda"), .malformedXML),
      ("<EventBridgeConfiguration/>", .notImplemented),
      (
        Self.rule([Self.all]).replacing(
          "</Queue>", with: "</Queue>" + filter.replacing("%", with: "infix") + "</S3Key></Filter>"),
        .invalidArgument
      ),
      (
        Self.rule([Self.all], prefix: "a").replacing(
          "</S3Key>",
          with: "<FilterRule><Name>Prefix</Name><Value>b</Value></FilterRule></S3Key>"),
        .invalidArgument
      ),
      (Self.rule([Self.all]) + "<Else/>", .malformedXML),
      (
        Self.rule([Self.all], id: "x") + Self.rule(["s3:ObjectRemoved:*"], id: "x"),
        .invalidArgument
      ),
      (
        (0..<101).map { Self.rule([Self.all], prefix: "\($0)/") }.joined(), .invalidArgument
      ),
    ]
    for (text, code) in cases {
      #expect("\(text.prefix(300))") { try Self.read(text) } throws: {
        ($0 as? S3Error)?.code == code
      }
    }
    for arn in [
      "", "arn", "hook", "arn:aws:s3:::hook", "arn:minio:sqs:us-east-1:000000000000:hook",
      "arn:cairn:sqs:us-east-1:000000000000:", "arn:cairn:sqs:us-east-1:000000000000:a b",
      "arn:cairn:sqs:us-east-1:123456789012:hook", "arn:cairn:sqs:eu-west-1:000000000000:hook",
      "arn:cairn:sqs:us-east-1:000000000000:hook:hook",
      "arn:cairn:sqs:us-east-1:000000000000:" + String(repeating: "h", count: 65),
    ] {
      #expect("\(arn)") { try Self.read(Self.rule([Self.all], arn: arn)) } throws: {
        ($0 as? S3Error)?.code == .invalidArgument
      }
    }
  }

  @Test(
    "two rules overlap when some write of some key would be both rules', and no others do",
    arguments: Seed.several)
  func overlaps(seed: Seed) throws {
    var random = seed.generator
    let letters = ["a", "b"]
    var keys = [""]
    for _ in 0..<6 { keys += keys.flatMap { key in letters.map { key + $0 } } }
    keys = Array(Set(keys)).sorted()
    func word() -> String? {
      Bool.random(using: &random)
        ? (0..<Int.random(in: 0...3, using: &random)).map { _ in
          letters.randomElement(using: &random)!
        }.joined() : nil
    }
    let words =
      NotificationRules.Event.allCases.map { "s3:" + $0.rawValue } + [
        "s3:ObjectCreated:*", "s3:ObjectRemoved:*",
      ]
    var counts = [0, 0]
    for _ in 0..<60 {
      let texts = (0..<2).map { _ in
        Self.rule(
          Array(words.shuffled(using: &random).prefix(Int.random(in: 1...3, using: &random))),
          prefix: word(), suffix: word())
      }
      let single = try texts.map { try Self.read($0) }
      let isAmbiguous = NotificationRules.Event.allCases.contains { event in
        keys.contains { key in
          single.allSatisfy { !$0.matching(event, key: key).isEmpty }
        }
      }
      counts[isAmbiguous ? 1 : 0] += 1
      if isAmbiguous {
        #expect("\(texts)") { try Self.read(texts[0], texts[1]) } throws: {
          ($0 as? S3Error)?.code == .invalidArgument
        }
      } else {
        #expect(try Self.read(texts[0], texts[1]).rules.count == 2)
      }
    }
    #expect(counts.allSatisfy { $0 > 3 }, "\(counts)")
  }

  @Test("a rule is for keys that begin and end so, by bytes")
  func keys() throws {
    let rules = try Self.read(
      Self.rule(["s3:ObjectCreated:*"], prefix: "é/", suffix: ".jpg", id: "x"))
    for (event, key, isTold) in [
      (.put, "é/a.jpg", true), (.put, "e\u{301}/a.jpg", false), (.put, "é/a.JPG", false),
      (.completed, "é/.jpg", true), (.deleted, "é/a.jpg", false), (.copy, "x/a.jpg", false),
    ] as [(NotificationRules.Event, String, Bool)] {
      #expect(rules.matching(event, key: key).isEmpty != isTold, "\(event) \(key)")
    }
    // One filter may be met by one stretch of the key: the prefix and the suffix share it.
    let both = try Self.read(Self.rule(["s3:ObjectCreated:*"], prefix: "aba", suffix: "ba"))
    #expect(both.matching(.put, key: "aba").count == 1)
  }
}
