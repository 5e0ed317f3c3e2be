import Messages
import Service

@testable import Gateway

/// A policy that is taken says the same when its JSON is written anew, and its patterns match what they were made of.
enum PolicyFuzz {
  static func complaint(_ bytes: [UInt8]) -> String? {
    for owner in [PolicyDocument.Owner.user, .bucket("bucket")] {
      guard let policy = try? PolicyDocument(bytes, of: owner) else { continue }
      guard let json = try? JSON(parsing: bytes),
        let again = try? PolicyDocument(Array(json.text.utf8), of: owner), again == policy
      else { return "a policy is another when it is written again" }
      _ = policy.isPublic
      _ = policy.namedUsers
      for (index, context) in contexts.enumerated() {
        for requester in [Requester.anonymous, .root, .user("alice")] {
          let question = AccessQuestion(
            requester: requester, action: .named(index == 0 ? "GetObject" : "ListBucket"),
            resource: Array("arn:aws:s3:::bucket/a\u{E9}/b".utf8), context: context)
          let verdict = policy.verdict(question)
          guard verdict == careful(policy, question) else {
            return "a policy decides \(verdict)"
          }
        }
        for statement in policy.statements {
          for pattern in statement.actions.patterns + statement.resources.patterns {
            if let complaint = check(pattern, context) { return complaint }
          }
        }
      }
    }
    if let form = try? PostPolicy(bytes) {
      try? form.check(["bucket": "bucket", "key": "a/b", "acl": "private"], now: 1_796_000_000)
    }
    return nil
  }

  private static let contexts: [RequestContext] = {
    var full = RequestContext()
    for (key, value) in [
      ("aws:sourceip", "10.1.2.3"), ("aws:username", "alice"), ("s3:prefix", "a*b/?"),
      ("aws:securetransport", "true"), ("aws:currenttime", "2026-11-30T12:00:00Z"),
      ("aws:epochtime", "1796040000"), ("s3:max-keys", "10"), ("aws:useragent", "\u{E9}"),
    ] { full[key] = value }
    return [RequestContext(), full]
  }()

  /// Every statement is looked at, and denial wins.
  private static func careful(_ policy: PolicyDocument, _ question: AccessQuestion)
    -> PolicyVerdict
  {
    let verdicts = policy.statements.map {
      PolicyDocument(statements: [$0]).verdict(question)
    }
    if verdicts.contains(.deny) { return .deny }
    return verdicts.contains(.allow) ? .allow : .nothing
  }

  private static func check(_ pattern: PolicyPattern, _ context: RequestContext) -> String? {
    for filling in ["", "x", "\u{E9}\u{65E5}"] {
      var text: [UInt8] = []
      var isWhole = true
      for part in pattern.parts {
        switch part {
        case .bytes(let bytes): text += bytes
        case .any: text += filling.utf8
        case .one: text += "\u{65E5}".utf8
        case .variable(let key, let instead):
          guard let value = context[key].map({ Array($0.utf8) }) ?? instead else {
            isWhole = false
            break
          }
          text += value
        }
      }
      guard pattern.matches(text, context) == isWhole || pattern.parts == [.any] else {
        return "a pattern does not match what was made of it"
      }
    }
    return nil
  }
}
