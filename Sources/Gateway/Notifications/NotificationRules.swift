import Messages

/// Which writes of a bucket are told to whom: the rules of a `NotificationConfiguration`.
struct NotificationRules: Equatable, Sendable {
  var rules: [Rule] = []

  struct Rule: Equatable, Sendable {
    var kind: Kind
    var id: String
    var arn: NotificationARN
    /// As the client named them.
    let events: [String]
    /// What they stand for.
    let meant: Set<Event>
    var prefix: String?
    var suffix: String?

    fileprivate init(kind: Kind, id: String, arn: NotificationARN, events: [String]) {
      self.kind = kind
      self.id = id
      self.arn = arn
      self.events = events
      meant = Set(events.flatMap { Event.named($0) })
    }
  }

  /// How S3 calls the three kinds of targets; here they are one.
  enum Kind: String, Sendable, CaseIterable {
    case topic = "Topic"
    case queue = "Queue"
    case cloudFunction = "CloudFunction"
    var configuration: String { rawValue + "Configuration" }
  }

  /// What happened, as S3 names it.
  enum Event: String, Sendable, CaseIterable {
    case put = "ObjectCreated:Put"
    case post = "ObjectCreated:Post"
    case copy = "ObjectCreated:Copy"
    case completed = "ObjectCreated:CompleteMultipartUpload"
    case deleted = "ObjectRemoved:Delete"
    case markerCreated = "ObjectRemoved:DeleteMarkerCreated"

    /// Those that a rule's word stands for; none: no rule may have it.
    static func named(_ text: String) -> [Event] {
      allCases.filter { event in
        text == "s3:" + event.rawValue
          || text == "s3:" + event.rawValue.prefix { $0 != ":" } + ":*"
      }
    }
  }

  static let documentByteLimit = 128 << 10
  /// S3's.
  static let ruleLimit = 100

  // MARK: Documents

  /// - Parameter region: the gateway's; nil: any will do.
  init(document: [UInt8], region: String?) throws(S3Error) {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(document, root: "NotificationConfiguration", elementLimit: 4000)
    } catch {
      throw S3Error(.malformedXML)
    }
    for item in tree.children {
      if item.name == "EventBridgeConfiguration" {
        throw S3Error(.notImplemented).with("Element", item.name)
      }
      guard let kind = Kind.allCases.first(where: { $0.configuration == item.name }) else {
        throw S3Error(.malformedXML)
      }
      rules.append(try Rule(item, kind, region: region))
    }
    guard rules.count <= Self.ruleLimit else {
      throw S3Error(.invalidArgument, "A bucket has at most \(Self.ruleLimit) notifications.")
    }
    try settleNames()
    try checkOverlaps()
  }

  /// A rule without a name gets one that no other has.
  private mutating func settleNames() throws(S3Error) {
    var names: Set<[UInt8]> = []
    for rule in rules where !rule.id.isEmpty {
      guard names.insert(Array(rule.id.utf8)).inserted else {
        throw S3Error(
          .invalidArgument, "Same ID used for multiple configurations. IDs must be unique."
        ).with("ArgumentName", "Id").with("ArgumentValue", rule.id)
      }
    }
    var number = 0
    for index in rules.indices where rules[index].id.isEmpty {
      repeat {
        number += 1
        rules[index].id = "notification-\(number)"
      } while !names.insert(Array(rules[index].id.utf8)).inserted
    }
  }

  private func checkOverlaps() throws(S3Error) {
    for (index, rule) in rules.enumerated() {
      for other in rules[..<index] where rule.overlaps(other) {
        throw S3Error(
          .invalidArgument,
          "Configuration is ambiguously defined. Cannot have overlapping suffixes in two rules if the prefixes are overlapping for the same event type."
        ).with("ArgumentName1", rule.id).with("ArgumentValue1", other.id)
      }
    }
  }

  var document: [UInt8] {
    var xml = XMLText("NotificationConfiguration")
    for rule in rules { xml.group(rule.kind.configuration) { rule.write(&$0) } }
    return xml.finish()
  }

  /// The rules that have a write of this key told.
  func matching(_ event: Event, key: String) -> [Rule] {
    rules.filter { $0.meant.contains(event) && $0.matches(key) }
  }
}

extension NotificationRules.Rule {
  fileprivate init(_ item: XMLTree, _ kind: NotificationRules.Kind, region: String?)
    throws(S3Error)
  {
    var id = ""
    var arn: NotificationARN?
    var events: [String] = []
    var filter: XMLTree?
    for child in item.children {
      switch child.name {
      case "Id":
        guard id.isEmpty, child.children.isEmpty, child.text.utf8.count <= 255 else {
          throw S3Error(.malformedXML)
        }
        id = child.text
      case kind.rawValue:
        guard arn == nil, child.children.isEmpty else { throw S3Error(.malformedXML) }
        arn = try NotificationARN(child.text, region: region)
      case "Event":
        guard child.children.isEmpty, events.count < 32 else { throw S3Error(.malformedXML) }
        guard !NotificationRules.Event.named(child.text).isEmpty else {
          throw S3Error(
            .invalidArgument,
            "The event '\(child.text.prefix(100))' is not supported for notifications."
          ).with("ArgumentName", "Event").with("ArgumentValue", child.text)
        }
        if !events.contains(child.text) { events.append(child.text) }
      case "Filter":
        guard filter == nil else { throw S3Error(.malformedXML) }
        filter = child
      default: throw S3Error(.malformedXML)
      }
    }
    guard let arn, !events.isEmpty else { throw S3Error(.malformedXML) }
    self.init(kind: kind, id: id, arn: arn, events: events)
    if let filter { try read(filter) }
  }

  private mutating func read(_ filter: XMLTree) throws(S3Error) {
    guard filter.children.count <= 1, filter.children.allSatisfy({ $0.name == "S3Key" }) else {
      throw S3Error(.malformedXML)
    }
    for rule in filter.children.first?.children ?? [] {
      guard rule.name == "FilterRule", let name = rule.value("Name")?.lowercased(),
        let value = rule.value("Value")
      else { throw S3Error(.malformedXML) }
      guard value.utf8.count <= 1024 else {
        throw S3Error(
          .invalidArgument,
          "Size of filter rule value cannot exceed 1024 bytes in UTF-8 representation")
      }
      switch name {
      case "prefix" where prefix == nil: prefix = value
      case "suffix" where suffix == nil: suffix = value
      case "prefix", "suffix":
        throw S3Error(
          .invalidArgument, "Cannot specify more than one \(name) rule in a filter.")
      default:
        throw S3Error(.invalidArgument, "filter rule name must be either prefix or suffix")
          .with("ArgumentName", "FilterRule.Name").with("ArgumentValue", name)
      }
    }
  }

  fileprivate func write(_ xml: inout XMLText) {
    xml.element("Id", id)
    xml.element(kind.rawValue, arn.text)
    for event in events { xml.element("Event", event) }
    guard prefix != nil || suffix != nil else { return }
    xml.group("Filter") { xml in
      xml.group("S3Key") { xml in
        for (name, value) in [("prefix", prefix), ("suffix", suffix)] {
          guard let value else { continue }
          xml.group("FilterRule") {
            $0.element("Name", name)
            $0.element("Value", value)
          }
        }
      }
    }
  }

  /// By bytes.
  func matches(_ key: String) -> Bool {
    Self.begins(key, prefix ?? "") && Self.ends(key, suffix ?? "")
  }

  /// Whether one write could be both rules'.
  func overlaps(_ other: Self) -> Bool {
    let (a, b) = (prefix ?? "", other.prefix ?? "")
    let (c, d) = (suffix ?? "", other.suffix ?? "")
    return (Self.begins(a, b) || Self.begins(b, a)) && (Self.ends(c, d) || Self.ends(d, c))
      && !meant.isDisjoint(with: other.meant)
  }

  private static func begins(_ text: String, _ prefix: String) -> Bool {
    text.utf8.starts(with: prefix.utf8)
  }
  private static func ends(_ text: String, _ suffix: String) -> Bool {
    text.utf8.count >= suffix.utf8.count
      && text.utf8.suffix(suffix.utf8.count)
        .elementsEqual(suffix.utf8)
  }
}

/// Whom a rule has told: `arn:cairn:sqs:REGION:000000000000:NAME`, where NAME is a target in the gateway's configuration. `arn:aws:`
/// does as well, and `sns` and `lambda` for `sqs`: some tools look at these words.
struct NotificationARN: Equatable, Sendable {
  /// As the client wrote it.
  var text: String
  /// The target's name.
  var name: String

  /// - Throws: when it is none, or of another region.
  init(_ text: String, region: String?) throws(S3Error) {
    var parts = text.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count == 7, parts[2] == "lambda", parts[5] == "function" { parts.remove(at: 5) }
    guard parts.count == 6, parts[0] == "arn", ["cairn", "aws"].contains(parts[1]),
      ["sqs", "sns", "lambda"].contains(parts[2]), Self.isName(parts[5]),
      parts[4].isEmpty || parts[4] == Requester.account
    else { throw Self.unknown(text) }
    guard parts[3].isEmpty || region.map({ parts[3] == $0 }) ?? true else {
      throw S3Error(
        .invalidArgument,
        "The notification destination service region is not valid for the bucket location constraint"
      ).with("ArgumentName", "ARN").with("ArgumentValue", text)
    }
    self.text = text
    name = String(parts[5])
  }

  static func unknown(_ text: String) -> S3Error {
    S3Error(
      .invalidArgument,
      "Unable to validate the following destination configurations: the gateway has no such target"
    ).with("ArgumentName", String(text.prefix(1024)))
      .with("ArgumentValue", "The destination does not exist or its ARN is not well-formed.")
  }

  /// 1 to 64 letters, digits, hyphens and underscores.
  static func isName(_ text: some StringProtocol) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy {
        switch $0 {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
          UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "-"), UInt8(ascii: "_"):
          true
        default: false
        }
      }
  }
}
