import Messages
import Service

/// Reads policies, strictly: what is not understood is refused, not read over.
///
/// - Source: AWS, "Grammar of the IAM JSON policy language", and what S3 says to documents that break it.
extension PolicyDocument {
  package init(_ bytes: [UInt8], of owner: Owner) throws(MalformedPolicy) {
    guard bytes.count <= UserRules.policyByteLimit else {
      throw MalformedPolicy(
        "Policy exceeds the maximum allowed document size of \(UserRules.policyByteLimit) bytes.")
    }
    let json: JSON
    do throws(JSONError) {
      json = try JSON(parsing: bytes)
    } catch {
      throw MalformedPolicy("Policies must be valid JSON: \(error)")
    }
    let members = try Self.members(json, "the policy", ["Version", "Id", "Statement"])
    var hasVariables = false
    if let version = members["Version"] {
      switch version.string {
      case "2012-10-17": hasVariables = true
      case "2008-10-17": break
      default: throw MalformedPolicy("The policy must contain a valid version string.")
      }
    }
    if let id = members["Id"], id.string == nil {
      throw MalformedPolicy("The policy's Id is no string.")
    }
    guard let list = members["Statement"] else {
      throw MalformedPolicy("Missing required field Statement")
    }
    let all = list.elements ?? [list]
    guard !all.isEmpty else {
      throw MalformedPolicy("Could not parse the policy: Statement is empty!")
    }
    var statements: [Statement] = []
    var names: Set<String> = []
    for json in all {
      let reader = StatementReader(owner: owner, hasVariables: hasVariables)
      let (statement, name) = try reader.read(json)
      // Many clients give each statement an empty one, and S3 takes that for none.
      if let name, !name.isEmpty, !names.insert(name).inserted {
        throw MalformedPolicy("Statement IDs (SID) in a single policy must be unique.")
      }
      statements.append(statement)
    }
    self.statements = statements
  }

  /// The members of an object that has no others than these.
  fileprivate static func members(_ json: JSON, _ what: String, _ allowed: [String])
    throws(MalformedPolicy) -> [String: JSON]
  {
    guard case .object(let members) = json else { throw MalformedPolicy("\(what) is no object.") }
    var found: [String: JSON] = [:]
    for (name, value) in members {
      guard allowed.contains(where: { $0.utf8.elementsEqual(name.utf8) }) else {
        throw MalformedPolicy("Unknown field \(name)")
      }
      found[name] = value
    }
    return found
  }
}

private struct StatementReader {
  let owner: PolicyDocument.Owner
  let hasVariables: Bool

  private static let members = [
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
    "Condition",
  ]

  func read(_ json: JSON) throws(MalformedPolicy) -> (
    statement: PolicyDocument.Statement, name: String?
  ) {
    let members = try PolicyDocument.members(json, "A statement", Self.members)
    var name: String?
    if let json = members["Sid"] {
      guard let text = json.string else { throw MalformedPolicy("A statement's Sid is no string.") }
      name = text
    }
    let allows: Bool
    switch members["Effect"]?.string {
    case "Allow": allows = true
    case "Deny": allows = false
    default: throw MalformedPolicy("Invalid effect: Effect must be Allow or Deny.")
    }
    let (actions, actionsInverted) = try one(members, "Action")
    let (resources, resourcesInverted) = try one(members, "Resource")
    let statement = PolicyDocument.Statement(
      allows: allows, principals: try principals(members),
      actions: PolicyDocument.Choice(
        patterns: try each(actions, "Action", action), isInverted: actionsInverted),
      resources: PolicyDocument.Choice(
        patterns: try each(resources, "Resource", resource), isInverted: resourcesInverted),
      conditions: try members["Condition"].map { (json) throws(MalformedPolicy) in
        try conditions(json)
      } ?? [])
    return (statement, name)
  }

  /// An element or its opposite, of which there must be one.
  private func one(_ members: [String: JSON], _ name: String) throws(MalformedPolicy) -> (
    value: JSON, isInverted: Bool
  ) {
    switch (members[name], members["Not" + name]) {
    case (let value?, nil): return (value, false)
    case (nil, let value?): return (value, true)
    case (nil, nil): throw MalformedPolicy("Missing required field \(name)")
    case (_?, _?): throw MalformedPolicy("A statement has \(name) and Not\(name).")
    }
  }

  /// A string, or several.
  private func each<Value>(
    _ json: JSON, _ what: String, _ read: (String) throws(MalformedPolicy) -> Value
  ) throws(MalformedPolicy) -> [Value] {
    let all = json.elements ?? [json]
    guard !all.isEmpty else { throw MalformedPolicy("\(what) is empty.") }
    var found: [Value] = []
    for json in all {
      guard let text = json.string else { throw MalformedPolicy("\(what) is no string.") }
      found.append(try read(text))
    }
    return found
  }

  private func action(_ text: String) throws(MalformedPolicy) -> PolicyPattern {
    let refusal = MalformedPolicy("Policy has invalid action")
    let pattern = try PolicyPattern(text.lowercased(), hasWildcards: true, hasVariables: false)
    if pattern.parts == [.any] { return pattern }
    guard text.lowercased().hasPrefix("s3:") else { throw refusal }
    guard S3Action.all.contains(where: { pattern.matches($0.lowercase, RequestContext()) }) else {
      throw refusal
    }
    return pattern
  }

  private func resource(_ text: String) throws(MalformedPolicy) -> PolicyPattern {
    let refusal = MalformedPolicy("Policy has invalid resource")
    let pattern = try PolicyPattern(text, hasWildcards: true, hasVariables: hasVariables)
    if pattern.parts == [.any] { return pattern }
    guard text.utf8.starts(with: S3Resource.prefix.utf8),
      text.utf8.count > S3Resource.prefix.utf8.count
    else { throw refusal }
    if case .bucket(let bucket) = owner {
      // Of another bucket it could not say anything.
      let name = text.dropFirst(S3Resource.prefix.count).prefix { $0 != "/" }
      let own = try PolicyPattern(String(name), hasWildcards: true, hasVariables: false)
      guard own.matches(Array(bucket.utf8), RequestContext()) else { throw refusal }
    }
    return pattern
  }

  // MARK: Principals

  private func principals(_ members: [String: JSON]) throws(MalformedPolicy)
    -> PolicyDocument.Principals?
  {
    guard case .bucket = owner else {
      guard members["Principal"] == nil, members["NotPrincipal"] == nil else {
        throw MalformedPolicy("Policy document should not specify a principal.")
      }
      return nil
    }
    let (json, isInverted) = try one(members, "Principal")
    let list: [PolicyPrincipal]
    if let text = json.string {
      guard text == "*" else { throw MalformedPolicy("Invalid principal in policy") }
      list = [.everyone]
    } else {
      let kinds = try PolicyDocument.members(json, "Principal", ["AWS"])
      guard let names = kinds["AWS"] else { throw MalformedPolicy("Invalid principal in policy") }
      list = try each(names, "Principal", principal)
    }
    return PolicyDocument.Principals(list: list, isInverted: isInverted)
  }

  private func principal(_ text: String) throws(MalformedPolicy) -> PolicyPrincipal {
    if text == "*" { return .everyone }
    if text == Requester.account || text == Requester.rootARN { return .account }
    guard text.hasPrefix(Requester.userARNPrefix) else {
      throw MalformedPolicy("Invalid principal in policy")
    }
    let name = String(text.dropFirst(Requester.userARNPrefix.count))
    guard UserRules.brokenRule(name: name) == nil else {
      throw MalformedPolicy("Invalid principal in policy")
    }
    return .user(name)
  }

  // MARK: Conditions

  private func conditions(_ json: JSON) throws(MalformedPolicy) -> [PolicyCondition] {
    guard case .object(let operators) = json else {
      throw MalformedPolicy("Condition is no object.")
    }
    var found: [PolicyCondition] = []
    for (name, json) in operators {
      guard let kind = ConditionOperator(name) else {
        throw MalformedPolicy("Invalid Condition type : \(name)")
      }
      guard case .object(let keys) = json, !keys.isEmpty else {
        throw MalformedPolicy("\(name) has no condition keys.")
      }
      for (key, values) in keys {
        let lower = key.lowercased()
        guard ConditionKeys.isKnown(lower) else {
          throw MalformedPolicy("Policy has an invalid condition key: \(key)")
        }
        let all = values.elements ?? [values]
        guard !all.isEmpty else { throw MalformedPolicy("The condition on \(key) has no value.") }
        var texts: [String] = []
        for value in all { texts.append(try Self.text(value, key)) }
        found.append(
          PolicyCondition(
            key: lower, test: try kind.test(texts, hasVariables: hasVariables),
            isIfExists: kind.isIfExists, isNegated: kind.isNegated))
      }
    }
    return found
  }

  /// Numbers and truth values may stand without quotes.
  private static func text(_ json: JSON, _ key: String) throws(MalformedPolicy) -> String {
    switch json {
    case .string(let text): return text
    case .number(let number): return String(number)
    case .double(let number):
      let text = String(number)
      guard PolicyCondition.number(text) != nil else { break }
      return text
    case .bool(let bool): return bool ? "true" : "false"
    default: break
    }
    throw MalformedPolicy("The condition on \(key) has an invalid value.")
  }
}

/// "StringNotEqualsIfExists", taken apart.
private struct ConditionOperator {
  private enum Kind {
    case text(hasWildcards: Bool)
    case textInAnyCase
    case number(PolicyCondition.Order)
    case date(PolicyCondition.Order)
    case bool
    case address
    case null
  }
  private let kind: Kind
  let isNegated: Bool
  let isIfExists: Bool

  init?(_ name: String) {
    var base = name
    isIfExists = base.hasSuffix("IfExists")
    if isIfExists { base.removeLast("IfExists".count) }
    var isNegated = false
    switch base {
    case "StringEquals": kind = .text(hasWildcards: false)
    case "StringLike": kind = .text(hasWildcards: true)
    case "StringEqualsIgnoreCase": kind = .textInAnyCase
    case "Bool": kind = .bool
    case "IpAddress": kind = .address
    case "StringNotEquals":
      kind = .text(hasWildcards: false)
      isNegated = true
    case "StringNotLike":
      kind = .text(hasWildcards: true)
      isNegated = true
    case "StringNotEqualsIgnoreCase":
      kind = .textInAnyCase
      isNegated = true
    case "NotIpAddress":
      kind = .address
      isNegated = true
    case "NumericNotEquals":
      kind = .number(.equals)
      isNegated = true
    case "DateNotEquals":
      kind = .date(.equals)
      isNegated = true
    case "Null":
      if isIfExists { return nil }
      kind = .null
    default:
      guard
        let order = PolicyCondition.Order.allCases.first(where: {
          base == "Numeric" + $0.rawValue || base == "Date" + $0.rawValue
        })
      else { return nil }
      kind = base.hasPrefix("Date") ? .date(order) : .number(order)
    }
    self.isNegated = isNegated
  }

  func test(_ texts: [String], hasVariables: Bool) throws(MalformedPolicy) -> PolicyCondition.Test {
    switch kind {
    case .text(let hasWildcards):
      return .text(
        try values(texts) { (text) throws(MalformedPolicy) -> PolicyPattern? in
          try PolicyPattern(text, hasWildcards: hasWildcards, hasVariables: hasVariables)
        })
    case .textInAnyCase:
      guard !hasVariables || !texts.contains(where: { $0.contains("${") }) else {
        throw MalformedPolicy("A policy variable cannot stand with StringEqualsIgnoreCase here.")
      }
      return .textInAnyCase(texts.map { $0.lowercased() })
    case .number(let order): return .number(order, try values(texts, PolicyCondition.number))
    case .date(let order): return .date(order, try values(texts, PolicyCondition.date))
    case .bool: return .bool(try values(texts, PolicyCondition.bool))
    case .null: return .null(try values(texts, PolicyCondition.bool))
    case .address: return .address(try values(texts, AddressRange.init))
    }
  }

  private func values<Value>(
    _ texts: [String], _ read: (String) throws(MalformedPolicy) -> Value?
  ) throws(MalformedPolicy) -> [Value] {
    var found: [Value] = []
    for text in texts {
      guard let value = try read(text) else {
        throw MalformedPolicy("A condition has an invalid value: \(text.prefix(100))")
      }
      found.append(value)
    }
    return found
  }
}

extension PolicyDocument {
  /// The users that it names; whether they are there it cannot tell by itself.
  var namedUsers: [String] {
    var names: Set<String> = []
    for case .user(let name) in statements.flatMap({ $0.principals?.list ?? [] }) {
      names.insert(name)
    }
    return names.sorted()
  }
}

extension PolicyDocument {
  /// Refuses a bucket's policy with a statement that names an action and no resource that it is ever done to, as `s3:GetObject` and the
  /// bucket alone: whoever wrote it meant something else. Asked when one is set; one that is kept stays what it was.
  ///
  /// - Throws: ``MalformedPolicy``, as S3 says it.
  func checkFit(_ bucket: String) throws(MalformedPolicy) {
    for statement in statements where !statement.actions.isInverted {
      let isAny = statement.resources.isInverted
      let ofObjects = isAny || statement.resources.patterns.contains { $0.mayMeanObject }
      let ofBucket =
        isAny
        || statement.resources.patterns.contains {
          $0.mayMean(S3Resource.bucket(bucket))
        }
      for pattern in statement.actions.patterns {
        let fits = S3Action.all.contains { action in
          (action.isOfObjects ? ofObjects : ofBucket)
            && pattern.matches(action.lowercase, RequestContext())
        }
        guard fits else {
          throw MalformedPolicy("Action does not apply to any resource(s) in statement")
        }
      }
    }
  }
}

extension PolicyPattern {
  private var hasVariables: Bool {
    parts.contains { if case .variable = $0 { true } else { false } }
  }
  /// Whether it could match the name of an object: when in doubt, it could.
  fileprivate var mayMeanObject: Bool {
    if hasVariables || parts.contains(.any) || parts.contains(.one) { return true }
    return literal?.dropFirst(S3Resource.prefix.utf8.count).contains(UInt8(ascii: "/")) ?? true
  }
  fileprivate func mayMean(_ resource: [UInt8]) -> Bool {
    hasVariables || matches(resource, RequestContext())
  }
}
