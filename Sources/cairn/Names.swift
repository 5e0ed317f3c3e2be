import Coordinator
import Messages

/// What a word of the command line is to name.
enum NameKind: CaseIterable {
  case bucket, storageClass, keyDomain, user, policy, accessKey, masterKey

  /// The first rule that `name` breaks, for people; nil when it may be one.
  func brokenRule(_ name: String) -> String? {
    switch self {
    case .bucket: BucketName.brokenRule(name)
    case .storageClass:
      StorageClass(name: name, codec: .raw, level: 0, groupByteCount: 64 << 10).brokenRule
    case .keyDomain: KeyDomainRules.brokenRule(name: name)
    case .user: UserRules.brokenRule(name: name).map { "no name for a user: \($0)" }
    case .policy: UserRules.brokenRule(name: name).map { "no name for a policy: \($0)" }
    case .accessKey:
      UserRules.isAccessKey(name) ? nil : "an access key has 16 to 128 letters and digits"
    case .masterKey:
      KeyFile.isName(name)
        ? nil : "a master key's name has 1 to 64 letters, digits, '.', '-' and '_'"
    }
  }

  /// Checks a name before anything is contacted.
  ///
  /// - Parameter shown: the word that holds it; nil: the name alone.
  /// - Throws: a ``Failure/usage(_:)`` when it breaks a rule.
  func check(_ name: String, shown: String? = nil) throws(Failure) {
    if let rule = brokenRule(name) { throw .usage("\(rule): \(shown ?? name)") }
  }
}
