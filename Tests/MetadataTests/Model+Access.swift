import Messages
import TestSupport
import Testing

@testable import Metadata

/// Users, access keys and what buckets grant, as plain dictionaries.
extension Model {
  struct User {
    var isEnabled = true
    var keys: [String] = []
    var policies: [String: String] = [:]
  }
  struct AccessKey {
    var user: String
    var isEnabled = true
    var secret: [UInt8]
  }

  mutating func change(user name: String, _ change: UserChange) -> CommandOutcome {
    guard UserRules.brokenRule(name: name) == nil else { return refused(.invalidName) }
    if change == .create {
      guard users[name] == nil else { return refused(.userExists) }
      users[name] = User()
      return .done
    }
    guard var user = users[name] else { return refused(.noSuchUser) }
    switch change {
    case .create: break
    case .delete:
      for key in user.keys { accessKeys[key] = nil }
      users[name] = nil
      return .done
    case .setEnabled(let isEnabled): user.isEnabled = isEnabled
    case .setPolicy(let policy):
      guard UserRules.brokenRule(name: policy.name) == nil else { return refused(.invalidName) }
      user.policies[policy.name] = policy.document
      guard user.policies.count <= 10, user.policies.values.map(\.utf8.count).reduce(0, +) <= 20_480
      else { return refused(.malformed) }
    case .deletePolicy(let policy):
      guard user.policies.removeValue(forKey: policy) != nil else { return refused(.noSuchPolicy) }
    }
    users[name] = user
    return .done
  }

  mutating func change(accessKey name: String, _ change: AccessKeyChange) -> CommandOutcome {
    switch change {
    case .create(let user, let secret):
      guard users[user] != nil else { return refused(.noSuchUser) }
      return add(name, to: user, secret, limit: 8)
    case .rotate(let fresh, let secret):
      guard let old = accessKeys[name] else { return refused(.noSuchAccessKey) }
      let outcome = add(fresh, to: old.user, secret, limit: 16)
      if outcome == .done { accessKeys[name]!.isEnabled = false }
      return outcome
    case .setEnabled(let isEnabled):
      guard accessKeys[name] != nil else { return refused(.noSuchAccessKey) }
      accessKeys[name]!.isEnabled = isEnabled
    case .delete:
      guard let old = accessKeys.removeValue(forKey: name) else {
        return refused(.noSuchAccessKey)
      }
      users[old.user]!.keys.removeAll { $0 == name }
    }
    return .done
  }

  private mutating func add(_ name: String, to user: String, _ secret: [UInt8], limit: Int)
    -> CommandOutcome
  {
    guard UserRules.isAccessKey(name) else { return refused(.invalidName) }
    guard accessKeys[name] == nil, users[user]!.keys.count < limit else {
      return refused(.malformed)
    }
    accessKeys[name] = AccessKey(user: user, secret: secret)
    users[user]!.keys.append(name)
    return .done
  }

  mutating func change(accessOf bucket: String, _ change: BucketAccessChange) -> CommandOutcome {
    guard buckets[Array(bucket.utf8)] != nil else { return refused(.noSuchBucket) }
    buckets[Array(bucket.utf8)]!.access.apply(change)
    return .done
  }

  /// Whether the machine says the same of all of it.
  func compareAccess(_ machine: StateMachine) throws {
    let listed = try machine.users(ListUsers(level: .strong, after: "", limit: 1000))
    #expect(listed.users.map(\.name) == users.keys.sorted())
    for (name, user) in users {
      let shown = try machine.user(GetUser(level: .strong, name: name))
      #expect(shown.isEnabled == user.isEnabled)
      #expect(shown.accessKeys.map(\.name) == user.keys)
      #expect(shown.accessKeys.map(\.isEnabled) == user.keys.map { accessKeys[$0]!.isEnabled })
      #expect(
        Dictionary(uniqueKeysWithValues: shown.policies.map { ($0.name, $0.document) })
          == user.policies)
    }
    for (name, key) in accessKeys {
      let found = try? machine.accessKey(FindAccessKey(level: .strong, name: name))
      #expect((found != nil) == (key.isEnabled && users[key.user]!.isEnabled))
      if let found { #expect(found.user == key.user && found.sealedSecret == key.secret) }
    }
    for (bucket, content) in buckets {
      #expect(
        try machine.bucketAccess(String(decoding: bucket, as: UTF8.self)) == content.access)
    }
  }
}

extension Workload {
  mutating func accessCommand() -> ClientCommand {
    let user = chance(3) ? "not a name" : "user\(number(0..<3))"
    let key = chance(3) ? "short" : "KEYKEYKEYKEYKEYKEY" + String(number(0..<12))
    switch number(0..<14) {
    case 0, 1: return .changeUser(name: user, .create)
    case 2: return .changeUser(name: user, chance(50) ? .delete : .setEnabled(chance(50)))
    case 3, 4:
      return .changeUser(
        name: user,
        .setPolicy(
          NamedPolicy(
            name: "p\(number(0..<12))",
            document: String(repeating: "x", count: chance(10) ? 15_000 : number(0..<100)))))
    case 5: return .changeUser(name: user, .deletePolicy("p\(number(0..<12))"))
    case 6, 7:
      return .changeAccessKey(
        name: key, .create(user: user, sealedSecret: [UInt8(number(0..<250))]))
    case 8:
      return .changeAccessKey(
        name: key,
        .rotate(to: "KEYKEYKEYKEYKEYKEY" + String(number(0..<12)), sealedSecret: [1, 2]))
    case 9: return .changeAccessKey(name: key, .setEnabled(chance(50)))
    case 10: return .changeAccessKey(name: key, .delete)
    default:
      let changes: [BucketAccessChange] = [
        .policy("{}"), .policy(nil), .acl(.publicRead), .acl(.private), .ownerEnforced(true),
        .ownerEnforced(false), .publicAccessBlock(nil),
        .publicAccessBlock(
          PublicAccessBlock(
            blocksACLs: true, ignoresACLs: false, blocksPolicy: chance(50), restrictsBucket: true)),
      ]
      return .changeBucketAccess(bucket: "bucket-\(number(0..<3))", pick(changes)!)
    }
  }
}

/// With their access keys.
func deleteUsers(_ machine: StateMachine) throws {
  let session = try machine.apply(batch([.openSession(client: "")], after: machine.appliedPosition))
  guard case .number(let id) = session[0] else { return }
  let users = try machine.users(ListUsers(level: .strong, after: "", limit: 1000)).users
  for (index, user) in users.enumerated() {
    let outcome = try machine.apply(
      batch(
        [
          .client(
            session: id, sequence: UInt64(index) + 1, lowestUnanswered: 1,
            command: .changeUser(name: user.name, .delete))
        ], after: machine.appliedPosition))
    #expect(outcome == [.done])
  }
}
