import Messages
import Service
import Wire

/// A bucket's rules as the document that S3 has for them.
enum S3Lifecycle {
  static let documentByteLimit = 1 << 20

  /// - Parameter classes: what the cluster calls S3's.
  static func read(_ document: [UInt8], classes: [ObjectTier: String] = [:]) throws(S3Error)
    -> Lifecycle
  {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(
        document, root: "LifecycleConfiguration", elementLimit: 20 * Lifecycle.ruleLimit)
    } catch {
      throw S3Error(.malformedXML)
    }
    guard (1...Lifecycle.ruleLimit).contains(tree.children.count) else {
      throw S3Error(.malformedXML)
    }
    var rules: [Lifecycle.Rule] = []
    var ids: Set<[UInt8]> = []
    for (index, item) in tree.children.enumerated() {
      guard item.name == "Rule" else { throw S3Error(.malformedXML) }
      var rule = try rule(item, classes)
      if rule.id.isEmpty { rule.id = "rule-\(index + 1)" }
      guard ids.insert(Array(rule.id.utf8)).inserted else {
        throw S3Error(
          .invalidArgument, "Rule ID must be unique. Found same ID for more than one rule")
      }
      rules.append(rule)
    }
    return Lifecycle(rules: rules)
  }

  private static func rule(_ item: XMLTree, _ classes: [ObjectTier: String]) throws(S3Error)
    -> Lifecycle.Rule
  {
    var rule = Lifecycle.Rule()
    var seen: Set<String> = []
    for child in item.children {
      guard seen.insert(child.name).inserted || child.name.hasSuffix("Transition") else {
        throw S3Error(.malformedXML)
      }
      switch child.name {
      case "ID":
        guard child.text.utf8.count <= 255 else {
          throw S3Error(.invalidArgument, "ID length should not exceed allowed limit of 255")
        }
        rule.id = child.text
      case "Status":
        guard ["Enabled", "Disabled"].contains(child.text) else { throw S3Error(.malformedXML) }
        rule.isEnabled = child.text == "Enabled"
      case "Prefix":
        rule.prefix = try prefix(child)
        rule.hasOuterPrefix = true
      case "Filter": try filter(child, &rule)
      case "Expiration": rule.expiration = try expiration(child)
      case "NoncurrentVersionExpiration":
        for part in child.children {
          switch part.name {
          case "NoncurrentDays": rule.noncurrentDays = try days(part)
          case "NewerNoncurrentVersions":
            rule.newerNoncurrentVersions = try newerVersions(part, of: child)
          default: throw S3Error(.malformedXML)
          }
        }
        guard rule.noncurrentDays != nil else { throw S3Error(.malformedXML) }
      case "AbortIncompleteMultipartUpload":
        guard child.children.count == 1, child.children[0].name == "DaysAfterInitiation" else {
          throw S3Error(.malformedXML)
        }
        rule.abortDays = try days(child.children[0])
      case "Transition", "NoncurrentVersionTransition":
        rule.transitions.append(try S3Transitions.read(child, classes))
      default: throw S3Error(.malformedXML)
      }
    }
    guard seen.contains("Status"), !(seen.contains("Prefix") && seen.contains("Filter")),
      seen.contains("Prefix") || seen.contains("Filter")
    else { throw S3Error(.malformedXML) }
    guard
      rule.expiration != nil || rule.noncurrentDays != nil || rule.abortDays != nil
        || !rule.transitions.isEmpty
    else {
      throw S3Error(
        .invalidRequest, "At least one action needs to be specified in a rule")
    }
    try S3Transitions.check(rule)
    let isNarrow = !rule.tags.isEmpty || rule.largerThan != nil || rule.smallerThan != nil
    if isNarrow, rule.abortDays != nil {
      throw S3Error(
        .invalidRequest,
        "AbortIncompleteMultipartUpload cannot be specified with Tags or object sizes.")
    }
    if isNarrow, rule.expiration == .loneMarkers {
      throw S3Error(
        .invalidRequest, "ExpiredObjectDeleteMarker cannot be specified with Tags or object sizes.")
    }
    if let low = rule.largerThan, let high = rule.smallerThan, low >= high {
      throw S3Error(
        .invalidRequest,
        "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.")
    }
    return rule
  }

  static func newerVersions(_ item: XMLTree, of action: XMLTree) throws(S3Error) -> UInt32 {
    guard let count = UInt32(item.text), (1...100).contains(count) else {
      throw S3Error(
        .invalidArgument,
        "'NewerNoncurrentVersions' for \(action.name) action must be a positive integer up to 100")
    }
    return count
  }

  private static func prefix(_ item: XMLTree) throws(S3Error) -> String {
    guard item.children.isEmpty, item.text.utf8.count <= 1024 else {
      throw S3Error(.invalidRequest, "The maximum size of a prefix is 1024.")
    }
    return item.text
  }

  private static func filter(_ item: XMLTree, _ rule: inout Lifecycle.Rule) throws(S3Error) {
    var parts = item.children
    guard parts.count <= 1 else { throw S3Error(.malformedXML) }
    if let only = parts.first, only.name == "And" {
      parts = only.children
      guard parts.count >= 2 else { throw S3Error(.malformedXML) }
    }
    var tags = S3Tags()
    var seen: Set<String> = []
    for part in parts {
      guard part.name == "Tag" || seen.insert(part.name).inserted else {
        throw S3Error(.malformedXML)
      }
      switch part.name {
      case "Prefix": rule.prefix = try prefix(part)
      case "Tag":
        guard let key = part.value("Key"), let value = part.value("Value") else {
          throw S3Error(.malformedXML)
        }
        let pair = S3Tags.Pair(key: key, value: value)
        try S3Tags.check(pair)
        guard !tags.pairs.contains(where: { $0.key == key }), tags.pairs.count < S3Tags.objectLimit
        else { throw S3Error(.invalidRequest, "Duplicate Tag Keys are not allowed.") }
        tags.pairs.append(pair)
      case "ObjectSizeGreaterThan": rule.largerThan = try size(part)
      case "ObjectSizeLessThan": rule.smallerThan = try size(part)
      default: throw S3Error(.malformedXML)
      }
    }
    rule.tags = tags.attributes
  }

  private static func size(_ item: XMLTree) throws(S3Error) -> UInt64 {
    guard let size = UInt64(item.text), size < 1 << 62 else { throw S3Error(.malformedXML) }
    return size
  }

  static func days(_ item: XMLTree, least: UInt32 = 1) throws(S3Error) -> UInt32 {
    guard let days = UInt32(item.text), days >= least, days <= UInt32(Int32.max) else {
      throw S3Error(
        .invalidArgument,
        "'\(item.name)' must be a \(least == 0 ? "nonnegative" : "positive") integer")
    }
    return days
  }

  private static func expiration(_ item: XMLTree) throws(S3Error) -> Lifecycle.Rule.Expiration? {
    guard item.children.count == 1 else { throw S3Error(.malformedXML) }
    let part = item.children[0]
    switch part.name {
    case "Days": return .days(try days(part))
    case "Date": return .date(try date(part))
    case "ExpiredObjectDeleteMarker":
      guard ["true", "false"].contains(part.text) else { throw S3Error(.malformedXML) }
      guard part.text == "true" else {
        throw S3Error(.invalidRequest, "At least one action needs to be specified in a rule")
      }
      return .loneMarkers
    default: throw S3Error(.malformedXML)
    }
  }

  /// Milliseconds since 1970.
  static func date(_ item: XMLTree) throws(S3Error) -> UInt64 {
    guard let time = CivilTime(rfc3339: item.text) else { throw S3Error(.malformedXML) }
    let milliseconds = UInt64(clamping: time.sinceEpoch.wholeMilliseconds)
    guard milliseconds.isMultiple(of: Lifecycle.day) else {
      throw S3Error(.invalidArgument, "'Date' must be at midnight GMT")
    }
    return milliseconds
  }

  static func write(_ lifecycle: Lifecycle) -> [UInt8] {
    var xml = XMLText("LifecycleConfiguration")
    for rule in lifecycle.rules { xml.group("Rule") { write(rule, &$0) } }
    return xml.finish()
  }

  private static func write(_ rule: Lifecycle.Rule, _ xml: inout XMLText) {
    xml.element("ID", rule.id)
    if rule.hasOuterPrefix {
      xml.element("Prefix", rule.prefix)
    } else {
      xml.group("Filter") { xml in
        let tags = S3Tags(ObjectAttributes(user: rule.tags)).pairs
        let count =
          (rule.prefix.isEmpty ? 0 : 1) + tags.count + (rule.largerThan == nil ? 0 : 1)
          + (rule.smallerThan == nil ? 0 : 1)
        if count > 1 { xml.begin("And") }
        if !rule.prefix.isEmpty || count == 0 { xml.element("Prefix", rule.prefix) }
        for tag in tags {
          xml.group("Tag") {
            $0.element("Key", tag.key)
            $0.element("Value", tag.value)
          }
        }
        if let size = rule.largerThan { xml.element("ObjectSizeGreaterThan", size) }
        if let size = rule.smallerThan { xml.element("ObjectSizeLessThan", size) }
        if count > 1 { xml.end() }
      }
    }
    xml.element("Status", rule.isEnabled ? "Enabled" : "Disabled")
    switch rule.expiration {
    case nil: break
    case .days(let days): xml.group("Expiration") { $0.element("Days", days) }
    case .date(let date):
      xml.group("Expiration") { $0.element("Date", S3Service.time(date)) }
    case .loneMarkers:
      xml.group("Expiration") { $0.element("ExpiredObjectDeleteMarker", true) }
    }
    S3Transitions.write(rule.transitions, &xml)
    if let days = rule.noncurrentDays {
      xml.group("NoncurrentVersionExpiration") {
        $0.element("NoncurrentDays", days)
        if let count = rule.newerNoncurrentVersions {
          $0.element("NewerNoncurrentVersions", count)
        }
      }
    }
    if let days = rule.abortDays {
      xml.group("AbortIncompleteMultipartUpload") { $0.element("DaysAfterInitiation", days) }
    }
  }
}

extension S3Service {
  func getLifecycle(_ call: Call) async throws(S3Error) {
    let bytes = try await setting(.lifecycle, call, or: .noSuchLifecycleConfiguration)
    guard let lifecycle = try? Lifecycle(decoding: bytes) else { throw S3Error(.internalError) }
    await call.answer(
      xml: S3Lifecycle.write(lifecycle), [S3Transitions.smallField(lifecycle)])
  }

  func putLifecycle(_ call: Call) async throws(S3Error) {
    let body = try await wholeBody(call, limit: S3Lifecycle.documentByteLimit)
    var lifecycle = try S3Lifecycle.read(body, classes: configuration.storageClasses)
    lifecycle.archivesSmall = try S3Transitions.archivesSmall(call.request)
    if lifecycle.rules.contains(where: { !$0.transitions.isEmpty }) {
      let known = try await ask { () async throws(BackendError) in
        try await self.backend.storageClasses()
      }
      for transition in lifecycle.rules.flatMap(\.transitions)
      where !known.contains(transition.storageClass) {
        throw S3Error(
          .invalidStorageClass,
          "The gateway takes \(transition.tier.name) for the class '\(transition.storageClass)', which is not there"
        )
      }
    }
    try await set(.lifecycle, call, lifecycle.encoded)
    await call.answer(200, [S3Transitions.smallField(lifecycle)])
  }
}
