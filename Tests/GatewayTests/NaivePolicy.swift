import Service
import TestSupport

/// A policy as lists of strings, decided by the words of AWS's documentation and with no thought of cost; and printed as a document,
/// in one of many ways that mean the same.
struct NaivePolicy {
  struct Condition {
    var operation: String
    var key: String
    var values: [String]
  }
  struct Statement {
    var effect: String
    /// Nil in a user's policy.
    var principals: [String]?
    var notPrincipal = false
    var actions: [String]
    var notAction = false
    var resources: [String]
    var notResource = false
    var conditions: [Condition]
  }
  struct Question {
    /// "anonymous", "root", or a user's name.
    var who: String
    var action: String
    var resource: String
    /// By key in lower case.
    var context: [String: String]
  }
  var statements: [Statement]
  static let account = "000000000000"

  // MARK: Deciding

  /// "deny", "allow" or "nothing".
  func decide(_ question: Question) -> String {
    let applying = statements.filter { Self.applies($0, question) }
    if applying.contains(where: { $0.effect == "Deny" }) { return "deny" }
    return applying.isEmpty ? "nothing" : "allow"
  }

  private static func applies(_ statement: Statement, _ question: Question) -> Bool {
    if let principals = statement.principals {
      let named = principals.contains { principal in
        if principal == "*" { return true }
        if principal == account || principal == "arn:aws:iam::\(account):root" {
          return statement.effect == "Deny" && !statement.notPrincipal
            ? question.who != "anonymous" : question.who == "root"
        }
        return principal == "arn:aws:iam::\(account):user/\(question.who)"
      }
      if named == statement.notPrincipal { return false }
    }
    let action = statement.actions.contains {
      like(
        Array($0.lowercased().unicodeScalars), Array(question.action.lowercased().unicodeScalars))
    }
    if action == statement.notAction { return false }
    let resource = statement.resources.contains {
      guard let pattern = expand($0, question.context) else { return false }
      return like(pattern, question.resource)
    }
    if resource == statement.notResource { return false }
    return statement.conditions.allSatisfy { holds($0, question.context) }
  }

  /// The pattern with its one variable replaced; nil when the request has none.
  private static func expand(_ pattern: String, _ context: [String: String]) -> String? {
    guard pattern.contains("${aws:username}") else { return pattern }
    guard let name = context["aws:username"] else { return nil }
    return pattern.replacing("${aws:username}", with: name)
  }

  private static func like(_ pattern: String, _ text: String) -> Bool {
    like(Array(pattern.unicodeScalars), Array(text.unicodeScalars))
  }
  private static func like(_ pattern: [Unicode.Scalar], _ text: [Unicode.Scalar]) -> Bool {
    // Row by row: whether the first so many of one match the first so many of the other.
    var row = [true] + [Bool](repeating: false, count: text.count)
    for sign in pattern {
      var next = [Bool](repeating: false, count: text.count + 1)
      next[0] = sign == "*" && row[0]
      for index in text.indices {
        switch sign {
        case "*": next[index + 1] = next[index] || row[index + 1]
        case "?": next[index + 1] = row[index]
        default: next[index + 1] = row[index] && text[index] == sign
        }
      }
      row = next
    }
    return row[text.count]
  }

  private static func holds(_ condition: Condition, _ context: [String: String]) -> Bool {
    var name = condition.operation
    let value = context[condition.key.lowercased()]
    if name == "Null" { return condition.values.contains(value == nil ? "true" : "false") }
    let isIfExists = name.hasSuffix("IfExists")
    if isIfExists { name = String(name.dropLast(8)) }
    let isNegated = name.contains("Not")
    guard let value else { return isIfExists || isNegated }
    name = name.replacing("Not", with: "")
    let met = condition.values.contains { wanted in
      switch name {
      case "StringEquals": wanted.utf8.elementsEqual(value.utf8)
      case "StringEqualsIgnoreCase":
        wanted.lowercased().utf8.elementsEqual(value.lowercased().utf8)
      case "StringLike": like(wanted, value)
      case "Bool": wanted == value
      case "IpAddress": address(wanted, value)
      case "NumericEquals", "DateEquals": seconds(wanted) == seconds(value)
      case "NumericLessThan", "DateLessThan": seconds(value) < seconds(wanted)
      case "NumericLessThanEquals", "DateLessThanEquals": seconds(value) <= seconds(wanted)
      case "NumericGreaterThan", "DateGreaterThan": seconds(value) > seconds(wanted)
      case "NumericGreaterThanEquals", "DateGreaterThanEquals": seconds(value) >= seconds(wanted)
      default: false
      }
    }
    return met != isNegated
  }

  /// Numbers, and the dates that ``dates`` has.
  private static func seconds(_ text: String) -> Double { dates[text] ?? Double(text)! }
  static let dates = [
    "1970-01-01T00:01:00Z": 60.0, "2026-11-30T00:00:00Z": 1_795_996_800,
    "2026-11-30": 1_795_996_800, "2026-12-01T00:00:00Z": 1_796_083_200,
  ]

  /// IPv4 alone.
  private static func address(_ range: String, _ address: String) -> Bool {
    func number(_ text: Substring) -> UInt32 {
      text.split(separator: ".").reduce(0) { $0 << 8 | UInt32($1)! }
    }
    let sides = range.split(separator: "/")
    let bits = sides.count == 2 ? UInt32(sides[1])! : 32
    let mask: UInt32 = bits == 0 ? 0 : ~0 << (32 - bits)
    return number(sides[0]) & mask == number(address[...]) & mask
  }

  // MARK: Printing

  /// One of the documents that say this.
  func print(_ random: inout SeededGenerator) -> String {
    let all = statements.map { Self.print($0, &random) }
    let list =
      all.count == 1 && Bool.random(using: &random)
      ? all[0] : "[" + all.joined(separator: ",") + "]"
    var members = [("Version", "\"2012-10-17\""), ("Statement", list)]
    if Bool.random(using: &random) { members.append(("Id", "\"some id\"")) }
    return Self.object(members, &random)
  }

  private static func print(_ statement: Statement, _ random: inout SeededGenerator) -> String {
    var members = [
      ("Effect", text(statement.effect, &random)),
      (statement.notAction ? "NotAction" : "Action", list(statement.actions, &random)),
      (statement.notResource ? "NotResource" : "Resource", list(statement.resources, &random)),
    ]
    if let principals = statement.principals {
      let value =
        principals == ["*"] && Bool.random(using: &random)
        ? "\"*\"" : object([("AWS", list(principals, &random))], &random)
      members.append((statement.notPrincipal ? "NotPrincipal" : "Principal", value))
    }
    if !statement.conditions.isEmpty || Bool.random(using: &random) {
      var operators: [(String, String)] = []
      for condition in statement.conditions {
        operators.append(
          (
            condition.operation,
            object([(condition.key, list(condition.values, &random))], &random)
          ))
      }
      members.append(("Condition", object(operators, &random)))
    }
    return object(members, &random)
  }

  private static func object(_ members: [(String, String)], _ random: inout SeededGenerator)
    -> String
  {
    var parts: [String] = []
    for (name, value) in members.shuffled(using: &random) {
      parts.append("\(space(&random))\"\(name)\"\(space(&random)):\(space(&random))\(value)")
    }
    return "{" + parts.joined(separator: ",") + space(&random) + "}"
  }
  private static func list(_ values: [String], _ random: inout SeededGenerator) -> String {
    if values.count == 1, Bool.random(using: &random) { return text(values[0], &random) }
    var parts: [String] = []
    for value in values { parts.append(text(value, &random)) }
    return "[" + parts.joined(separator: space(&random) + ",") + "]"
  }
  private static func text(_ value: String, _ random: inout SeededGenerator) -> String {
    var text = "\""
    for scalar in value.unicodeScalars {
      if scalar.value < 0x10000, Int.random(in: 0..<12, using: &random) == 0 {
        let digits = String(scalar.value, radix: 16)
        text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else if scalar == "\"" || scalar == "\\" {
        text += "\\\(scalar)"
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    return text + "\""
  }
  private static func space(_ random: inout SeededGenerator) -> String {
    ["", "", "", " ", "\n  ", "\t"].randomElement(using: &random)!
  }

  // MARK: Making

  init(_ random: inout SeededGenerator, ofBucket: Bool) {
    statements = []
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      statements.append(Self.statement(&random, ofBucket: ofBucket))
    }
  }

  private static func some(_ values: [String], _ random: inout SeededGenerator) -> [String] {
    var found: [String] = []
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      found.append(values.randomElement(using: &random)!)
    }
    return found
  }

  static let actions = [
    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetObjectTagging",
  ]
  static let names = ["alice", "bob", "root", "anonymous"]

  private static func statement(_ random: inout SeededGenerator, ofBucket: Bool) -> Statement {
    var statement = Statement(
      effect: Int.random(in: 0..<3, using: &random) == 0 ? "Deny" : "Allow",
      actions: some(
        actions + [
          "*", "s3:*", "s3:Get*", "S3:getobject", "s3:*Object", "s3:?ist*", "s3:GetObject*",
        ],
        &random),
      resources: [], conditions: [])
    statement.notAction = Int.random(in: 0..<8, using: &random) == 0
    statement.notResource = Int.random(in: 0..<8, using: &random) == 0
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      switch Int.random(in: 0..<6, using: &random) {
      case 0: statement.resources.append("*")
      case 1: statement.resources.append("arn:aws:s3:::bucket")
      case 2: statement.resources.append("arn:aws:s3:::bucket/*")
      case 3: statement.resources.append("arn:aws:s3:::bucket/${aws:username}/*")
      default: statement.resources.append("arn:aws:s3:::bucket/" + word(&random, "ab/*?é日"))
      }
    }
    if ofBucket {
      statement.principals = some(
        ["*", account, "arn:aws:iam::\(account):root"]
          + ["alice", "bob"].map { "arn:aws:iam::\(account):user/\($0)" }, &random)
      statement.notPrincipal = Int.random(in: 0..<8, using: &random) == 0
    }
    if Int.random(in: 0..<2, using: &random) == 0 {
      let made = condition(&random)
      statement.conditions.append(made)
      let other = condition(&random)
      if other.operation != made.operation { statement.conditions.append(other) }
    }
    return statement
  }

  static func word(_ random: inout SeededGenerator, _ letters: String) -> String {
    var text = ""
    for _ in 0..<Int.random(in: 0..<6, using: &random) {
      text.unicodeScalars.append(Array(letters.unicodeScalars).randomElement(using: &random)!)
    }
    return text
  }

  private static func condition(_ random: inout SeededGenerator) -> Condition {
    let ifExists = Int.random(in: 0..<4, using: &random) == 0 ? "IfExists" : ""
    let not = Int.random(in: 0..<3, using: &random) == 0
    let order = ["Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]
      .randomElement(using: &random)!
    switch Int.random(in: 0..<8, using: &random) {
    case 0:
      return Condition(
        operation: (not ? "NotIpAddress" : "IpAddress") + ifExists, key: "aws:SourceIp",
        values: some(["10.0.0.0/8", "10.1.2.3", "192.168.0.0/16", "0.0.0.0/0"], &random))
    case 1:
      return Condition(
        operation: (not ? "NumericNotEquals" : "Numeric" + order) + ifExists, key: "s3:max-keys",
        values: some(["0", "10", "10.5", "-3"], &random))
    case 2:
      return Condition(
        operation: (not ? "DateNotEquals" : "Date" + order) + ifExists, key: "aws:CurrentTime",
        values: some(dates.keys.sorted(), &random))
    case 3:
      return Condition(
        operation: "Null", key: ["aws:username", "s3:prefix"].randomElement(using: &random)!,
        values: [["true", "false"].randomElement(using: &random)!])
    case 4:
      return Condition(
        operation: "Bool" + ifExists, key: "aws:SecureTransport",
        values: [["true", "false"].randomElement(using: &random)!])
    default:
      let kind = [
        not ? "StringNotEquals" : "StringEquals", not ? "StringNotLike" : "StringLike",
        not ? "StringNotEqualsIgnoreCase" : "StringEqualsIgnoreCase",
      ].randomElement(using: &random)!
      var values: [String] = []
      for _ in 0..<Int.random(in: 1...3, using: &random) { values.append(word(&random, "aAb*?é")) }
      return Condition(
        operation: kind + ifExists,
        key: ["s3:prefix", "S3:Prefix", "s3:delimiter"].randomElement(using: &random)!,
        values: values)
    }
  }

  static func question(_ random: inout SeededGenerator) -> Question {
    let who = names.randomElement(using: &random)!
    var context = [
      "aws:sourceip": ["10.1.2.3", "192.168.7.7", "127.0.0.1"].randomElement(using: &random)!,
      "aws:currenttime": dates.keys.sorted().randomElement(using: &random)!,
      "aws:securetransport": ["true", "false"].randomElement(using: &random)!,
    ]
    if who == "alice" || who == "bob" { context["aws:username"] = who }
    if Bool.random(using: &random) { context["s3:prefix"] = word(&random, "aAb*?é") }
    if Bool.random(using: &random) { context["s3:delimiter"] = word(&random, "aAb") }
    if Bool.random(using: &random) {
      context["s3:max-keys"] = ["0", "10", "11", "-3"].randomElement(using: &random)!
    }
    let resource =
      switch Int.random(in: 0..<5, using: &random) {
      case 0: "arn:aws:s3:::bucket"
      case 1: "arn:aws:s3:::other/" + word(&random, "ab/")
      case 2: "arn:aws:s3:::bucket/alice/" + word(&random, "ab")
      default: "arn:aws:s3:::bucket/" + word(&random, "ab/*?é日")
      }
    return Question(
      who: who, action: actions.randomElement(using: &random)!, resource: resource,
      context: context)
  }
}
