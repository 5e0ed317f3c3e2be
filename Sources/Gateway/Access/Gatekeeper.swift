package import Messages
import Ring
import Service

/// Whoever signed a request, and what their policies say.
struct Identity: Sendable {
  var requester: Requester
  var secret: String
  var policies: [PolicyDocument]

  static let anonymous = Identity(requester: .anonymous, secret: "", policies: [])
}

/// What a bucket says of who may do what with it, read.
struct BucketRules: Sendable {
  var settings = BucketAccess()
  /// Nil when there is none.
  var policy: PolicyDocument?
  /// A policy is there that cannot be read: then nobody may but root.
  var isUnreadable = false
  /// What its ACL comes to.
  var acl: PolicyDocument?

  init() {}

  init(_ settings: BucketAccess, bucket: String) {
    self.settings = settings
    if let text = settings.policy {
      do throws(MalformedPolicy) {
        policy = try PolicyDocument(Array(text.utf8), of: .bucket(bucket))
      } catch {
        isUnreadable = true
      }
    }
    if !settings.isOwnerEnforced { acl = settings.acl.document(bucket) }
  }
}

/// Decides who may do what. Users and buckets' rules are the backend's, and believed for ``lifetime``. Loop-confined.
final class Gatekeeper: @unchecked Sendable {
  // Loop-confined.
  private let backend: any ObjectBackend
  private let log: Log
  /// Root's, by name.
  private let secrets: [String: String]
  private let identities: AccessCache<Identity>
  private let rules: AccessCache<BucketRules>

  /// After so long whoever was locked out is.
  static let lifetime = Duration.seconds(5)

  init(_ keys: [AccessKey], _ backend: any ObjectBackend, _ driver: any Driver, _ log: Log) {
    self.backend = backend
    self.log = log
    secrets = Dictionary(keys.map { ($0.name, $0.secret) }) { first, _ in first }
    identities = AccessCache(driver, lifetime: Self.lifetime)
    rules = AccessCache(driver, lifetime: Self.lifetime)
  }

  /// Nil when there is no such access key, or it is switched off.
  func identity(_ accessKey: String) async throws(BackendError) -> Identity? {
    if let secret = secrets[accessKey] {
      return Identity(requester: .root, secret: secret, policies: [])
    }
    guard UserRules.isAccessKey(accessKey) else { return nil }
    return try await identities.value(accessKey) { () async throws(BackendError) in
      guard let found = try await backend.user(withKey: accessKey) else { return nil }
      return (read(found), found.policies.reduce(256) { $0 + $1.document.utf8.count })
    }
  }

  private func read(_ found: KnownUser) -> Identity {
    var policies: [PolicyDocument] = []
    for named in found.policies {
      do throws(MalformedPolicy) {
        policies.append(try PolicyDocument(Array(named.document.utf8), of: .user))
      } catch {
        // Nobody knows what it would deny.
        log.warning(
          "a user's policy cannot be read, so the user may do nothing",
          ["user": found.name, "policy": named.name, "reason": error.reason])
        return Identity(requester: .user(found.name), secret: found.secret, policies: [])
      }
    }
    return Identity(requester: .user(found.name), secret: found.secret, policies: policies)
  }

  /// Of a bucket that is not there: what one says that says nothing.
  func rules(of bucket: String) async throws(BackendError) -> BucketRules {
    guard BucketName.brokenRule(bucket) == nil else { return BucketRules() }
    return try await rules.value(bucket) { () async throws(BackendError) in
      do throws(BackendError) {
        let settings = try await backend.access(of: bucket)
        let rules = BucketRules(settings, bucket: bucket)
        if rules.isUnreadable {
          log.warning(
            "a bucket's policy cannot be read, so nobody but root may use it", ["bucket": bucket])
        }
        return (rules, 256 + (settings.policy?.utf8.count ?? 0))
      } catch {
        if error == .bucketNotFound { return nil }
        throw error
      }
    } ?? BucketRules()
  }

  /// After a change through this gateway.
  func forgetRules(of bucket: String) { rules.forget(bucket) }

  func isUser(_ name: String) async throws(BackendError) -> Bool {
    try await backend.hasUser(name)
  }

  /// Explicit denial wins, then anything that allows; else it is not allowed.
  ///
  /// - Parameter rules: of the bucket that the resource is in.
  static func allows(_ identity: Identity, _ rules: BucketRules, _ question: AccessQuestion) -> Bool
  {
    var isAllowed = identity.requester == .root
    // A policy that locks everybody out can always be taken away again.
    if isAllowed && policyActions.contains(question.action.name) { return true }
    for policy in identity.policies {
      switch policy.verdict(question) {
      case .deny: return false
      case .allow: isAllowed = true
      case .nothing: break
      }
    }
    if rules.isUnreadable { return identity.requester == .root }
    let block = rules.settings.publicAccessBlock
    let isAnonymous = identity.requester == .anonymous
    if let policy = rules.policy {
      switch policy.verdict(question) {
      case .deny: return false
      case .allow:
        let isRestricted = isAnonymous && block?.restrictsBucket == true && policy.isPublic
        if !isRestricted { isAllowed = true }
      case .nothing: break
      }
    }
    if !isAllowed, let acl = rules.acl, block?.ignoresACLs != true {
      isAllowed = acl.verdict(question) == .allow
    }
    return isAllowed
  }

  private static let policyActions = [
    "s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
  ]
}

/// A user as the backend knows it.
package struct KnownUser: Sendable {
  package var name: String
  package var secret: String
  package var policies: [NamedPolicy]
}
