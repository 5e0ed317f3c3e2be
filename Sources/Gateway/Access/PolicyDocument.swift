/// Why a document is no policy; for people, as S3 says it.
package struct MalformedPolicy: Error, Equatable {
  package var reason: String
  init(_ reason: String) { self.reason = reason }
}

/// Who may do what, in the AWS JSON grammar ("IAM JSON policy elements reference").
package struct PolicyDocument: Equatable, Sendable {
  var statements: [Statement]

  struct Statement: Equatable {
    var allows: Bool
    /// Nil in a user's policy, which is about that user.
    var principals: Principals?
    /// In lower case.
    var actions: Choice
    var resources: Choice
    var conditions: [PolicyCondition]
  }

  /// One of these, or none of them.
  struct Choice: Equatable {
    var patterns: [PolicyPattern]
    var isInverted: Bool

    func includes(_ text: [UInt8], _ context: RequestContext) -> Bool {
      patterns.contains { $0.matches(text, context) } != isInverted
    }
  }

  struct Principals: Equatable {
    var list: [PolicyPrincipal]
    var isInverted: Bool
  }

  /// Whose policy it is.
  package enum Owner: Equatable, Sendable {
    case user
    /// It names principals, and resources of this bucket alone.
    case bucket(String)
  }
}

enum PolicyPrincipal: Equatable {
  case everyone
  /// Everyone with an access key. No document can say it; an ACL does.
  case authenticated
  /// The account as a whole, or its root.
  case account
  case user(String)
}

/// Whoever asks.
enum Requester: Equatable, Sendable {
  case anonymous
  /// One of the access keys that the gateway's configuration names.
  case root
  case user(String)

  /// There is one account.
  static let account = "000000000000"
  static let rootARN = "arn:aws:iam::\(account):root"
  static let userARNPrefix = "arn:aws:iam::\(account):user/"

  var arn: String? {
    switch self {
    case .anonymous: nil
    case .root: Self.rootARN
    case .user(let name): Self.userARNPrefix + name
    }
  }
}

/// What is asked for.
struct AccessQuestion {
  var requester: Requester
  /// "s3:GetObject"
  var action: S3Action
  /// "arn:aws:s3:::bucket/key"
  var resource: [UInt8]
  var context: RequestContext
}

enum PolicyVerdict {
  case nothing
  case allow
  /// Whatever else allows it.
  case deny
}

extension PolicyDocument {
  func verdict(_ question: AccessQuestion) -> PolicyVerdict {
    var verdict = PolicyVerdict.nothing
    for statement in statements {
      // What would not change anything need not be looked at.
      if statement.allows && verdict == .allow { continue }
      guard statement.applies(question) else { continue }
      if !statement.allows { return .deny }
      verdict = .allow
    }
    return verdict
  }

  /// Whether it lets in anybody, as far as can be told without a request.
  var isPublic: Bool { statements.contains { $0.isPublic } }
}

extension PolicyDocument.Statement {
  fileprivate func applies(_ question: AccessQuestion) -> Bool {
    actions.includes(question.action.lowercase, question.context)
      && (principals?.include(question.requester, allows: allows) ?? true)
      && resources.includes(question.resource, question.context)
      && conditions.allSatisfy { $0.holds(question.context) }
  }

  /// Conditions on who asks, with values that are said, make it less than public.
  fileprivate var isPublic: Bool {
    guard allows, let principals,
      principals.isInverted || principals.list.contains(.everyone)
    else { return false }
    return !conditions.contains { $0.namesWhoAsks }
  }
}

extension PolicyDocument.Principals {
  fileprivate func include(_ requester: Requester, allows: Bool) -> Bool {
    let isNamed = list.contains { principal in
      switch principal {
      case .everyone: return true
      case .authenticated: return requester != .anonymous
      case .user(let name): return requester == .user(name)
      case .account:
        // A grant to the account is one its root may hand on, by policies of its users; what the account is denied, all of it is.
        if allows || isInverted { return requester == .root }
        return requester != .anonymous
      }
    }
    return isNamed != isInverted
  }
}

extension PolicyCondition {
  fileprivate var namesWhoAsks: Bool {
    guard !isNegated, !isIfExists else { return false }
    switch test {
    case .text(let patterns):
      let keys = [ConditionKeys.userName, ConditionKeys.userID, ConditionKeys.principalARN]
      return keys.contains(key) && patterns.allSatisfy { $0.literal != nil }
    case .address(let ranges):
      return key == ConditionKeys.sourceIP && ranges.allSatisfy(\.isNarrow)
    default: return false
    }
  }
}
