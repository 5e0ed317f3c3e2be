import HTTP
import Messages

/// What the documents of rules say of moves to other storage classes.
enum S3Transitions {
  private static let smallHeader = "x-amz-transition-default-minimum-object-size"

  /// - Parameters:
  ///   - action: `Transition` or `NoncurrentVersionTransition`.
  ///   - classes: what the cluster calls S3's.
  static func read(_ action: XMLTree, _ classes: [ObjectTier: String]) throws(S3Error) -> Transition
  {
    var when: Transition.When?
    var days: UInt32?
    var newer: UInt32?
    var tier: ObjectTier?
    var seen: Set<String> = []
    let isNoncurrent = action.name == "NoncurrentVersionTransition"
    for part in action.children {
      guard seen.insert(part.name).inserted else { throw S3Error(.malformedXML) }
      switch part.name {
      case "Days" where !isNoncurrent: when = .days(try S3Lifecycle.days(part, least: 0))
      case "Date" where !isNoncurrent: when = .date(try S3Lifecycle.date(part))
      case "NoncurrentDays" where isNoncurrent: days = try S3Lifecycle.days(part, least: 0)
      case "NewerNoncurrentVersions" where isNoncurrent:
        newer = try S3Lifecycle.newerVersions(part, of: action)
      case "StorageClass":
        guard let found = ObjectTier(name: part.text) else { throw S3Error(.malformedXML) }
        tier = found
      default: throw S3Error(.malformedXML)
      }
    }
    if let days { when = .noncurrent(days: days, newerVersions: newer) }
    guard let when, let tier, !(seen.contains("Days") && seen.contains("Date")) else {
      throw S3Error(.malformedXML)
    }
    guard let storageClass = classes[tier] else {
      throw S3Error(
        .invalidStorageClass, "The gateway's configuration has no class for \(tier.name)")
    }
    return Transition(when, to: tier, storageClass: storageClass)
  }

  /// What one rule may not say, as S3 has it: a tier twice, days and dates side by side, a tier before one that comes
  /// before it, an expiration that is no later than a transition.
  static func check(_ rule: Lifecycle.Rule) throws(S3Error) {
    let about = "for prefix '\(rule.prefix)'"
    for (isNoncurrent, action, unit) in [
      (false, "Transition", "Days"), (true, "NoncurrentVersionTransition", "NoncurrentDays"),
    ] {
      let all = rule.transitions.filter { $0.isNoncurrent == isNoncurrent }
        .sorted { $0.tier < $1.tier }
      guard Set(all.map(\.tier)).count == all.count else {
        throw S3Error(
          .invalidRequest,
          "'StorageClass' must be different for '\(action)' actions in same 'Rule' \(about)")
      }
      let times = all.map(\.time)
      let end: (isDate: Bool, value: UInt64)? =
        if isNoncurrent {
          rule.noncurrentDays.map { (false, UInt64($0)) }
        } else {
          switch rule.expiration {
          case .days(let days): (false, UInt64(days))
          case .date(let date): (true, date)
          case .loneMarkers, nil: nil
          }
        }
      guard Set(times.map(\.isDate) + (end.map { [$0.isDate] } ?? [])).count <= 1 else {
        throw S3Error(
          .invalidRequest,
          "Found mixed 'Date' and 'Days' based Expiration and Transition actions in lifecycle rule \(about)"
        )
      }
      for (earlier, later) in zip(all, all.dropFirst())
      where earlier.time.value >= later.time.value {
        throw S3Error(
          .invalidArgument,
          "'\(unit)' in the \(action) action for StorageClass '\(later.tier.name)' \(about) must be greater than '\(unit)' in the \(action) action for StorageClass '\(earlier.tier.name)'"
        )
      }
      if let end, let last = times.map(\.value).max(), end.value <= last {
        let word = isNoncurrent ? "NoncurrentVersionExpiration" : "Expiration"
        throw S3Error(
          .invalidArgument,
          "'\(end.isDate ? "Date" : unit)' in the \(word) action \(about) must be \(end.isDate ? "later" : "greater") than '\(end.isDate ? "Date" : unit)' in the \(action) action"
        )
      }
    }
  }

  static func write(_ transitions: [Transition], _ xml: inout XMLText) {
    for one in transitions {
      xml.group(one.isNoncurrent ? "NoncurrentVersionTransition" : "Transition") {
        switch one.when {
        case .days(let days): $0.element("Days", days)
        case .date(let date): $0.element("Date", S3Service.time(date))
        case .noncurrent(let days, let newer):
          $0.element("NoncurrentDays", days)
          if let newer { $0.element("NewerNoncurrentVersions", newer) }
        }
        $0.element("StorageClass", one.tier.name)
      }
    }
  }

  /// Whether small versions go to archives too.
  static func archivesSmall(_ request: S3Request) throws(S3Error) -> Bool {
    switch try request.header(smallHeader) {
    case nil, "all_storage_classes_128K": return false
    case "varies_by_storage_class": return true
    default:
      throw S3Error(
        .invalidArgument,
        "The TransitionDefaultMinimumObjectSize is all_storage_classes_128K or varies_by_storage_class."
      )
    }
  }

  static func smallField(_ lifecycle: Lifecycle) -> HTTPFields.Line {
    .init(
      smallHeader,
      lifecycle.archivesSmall ? "varies_by_storage_class" : "all_storage_classes_128K")
  }
}

extension Transition {
  fileprivate var time: (isDate: Bool, value: UInt64) {
    switch when {
    case .days(let days), .noncurrent(let days, _): (false, UInt64(days))
    case .date(let date): (true, date)
    }
  }
}
