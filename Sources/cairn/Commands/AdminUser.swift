import Gateway
import Messages
import Ring
import Service

/// `cairn admin user create NAME`
func createUser(_ context: Context) async throws(Failure) {
  // The account itself, in policies and to those who write them.
  if context.arguments.operands[0] == "root" {
    throw .usage("no user is called 'root': that is the account, with a gateway's own access keys")
  }
  try await changeUser(context, .create, "created")
}

/// `cairn admin user delete NAME`: and its access keys.
func deleteUser(_ context: Context) async throws(Failure) {
  try await changeUser(context, .delete, "deleted")
}

func enableUser(_ context: Context) async throws(Failure) {
  try await changeUser(context, .setEnabled(true), "enabled")
}

func disableUser(_ context: Context) async throws(Failure) {
  try await changeUser(context, .setEnabled(false), "disabled")
}

private func changeUser(_ context: Context, _ change: UserChange, _ done: String)
  async throws(Failure)
{
  let name = context.arguments.operands[0]
  try NameKind.user.check(name)
  try await Client.with(context) { client throws(Failure) in
    try await client.change(.changeUser(name: name, change), about: name)
    try await client.tell([("user", .string(name)), ("state", .string(done))], context)
  }
}

extension Client {
  /// What was done, for machines: for people the exit status says enough.
  func tell(_ members: [(String, JSON)], _ context: Context) async throws(Failure) {
    guard context.arguments.has("--json") else { return }
    try await output.line(JSON.object(members).text)
    try await output.flush()
  }
}

/// `cairn admin user list`
func listUsers(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    var after = ""
    while true {
      let answer = try await client.ask(
        ListUsers(level: client.level, after: after, limit: 1000), at: client.level, about: "users")
      for user in answer.users {
        if context.arguments.has("--json") {
          try await client.output.line(
            JSON.object([
              ("user", .string(user.name)), ("enabled", .bool(user.isEnabled)),
              ("created", .string(rfc3339(.milliseconds(Int64(clamping: user.created))))),
              ("accessKeys", .array(user.accessKeys.map { .string($0) })),
              ("policies", .array(user.policies.map { .string($0) })),
            ]).text)
        } else {
          let keys = counted(user.accessKeys.count, "access key")
          let policies =
            user.policies.isEmpty
            ? "no policy: may do nothing" : "policies " + user.policies.joined(separator: ", ")
          try await client.output.line(
            "\(user.name)  \(user.isEnabled ? "" : "disabled, ")\(keys), \(policies)")
        }
      }
      guard !answer.isLast, let last = answer.users.last else { break }
      after = last.name
    }
    try await client.output.flush()
  }
}

/// `cairn admin user show NAME`
func showUser(_ context: Context) async throws(Failure) {
  let name = context.arguments.operands[0]
  try NameKind.user.check(name)
  try await Client.with(context) { client throws(Failure) in
    let user = try await client.ask(
      GetUser(level: client.level, name: name), at: client.level, about: name)
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("user", .string(name)), ("enabled", .bool(user.isEnabled)),
          ("created", .string(rfc3339(.milliseconds(Int64(clamping: user.created))))),
          (
            "accessKeys",
            .array(
              user.accessKeys.map { key in
                .object([
                  ("accessKey", .string(key.name)), ("enabled", .bool(key.isEnabled)),
                  ("created", .string(rfc3339(.milliseconds(Int64(clamping: key.created))))),
                ])
              })
          ),
          (
            "policies",
            .array(
              user.policies.map {
                .object([("name", .string($0.name)), ("document", .string($0.document))])
              })
          ),
        ]).text)
    } else {
      try await client.output.line(
        "user \(name)  \(user.isEnabled ? "enabled" : "disabled")  created \(rfc3339(.milliseconds(Int64(clamping: user.created))))"
      )
      for key in user.accessKeys {
        try await client.output.line(
          "  access key \(key.name)  \(key.isEnabled ? "enabled" : "disabled")  created \(rfc3339(.milliseconds(Int64(clamping: key.created))))"
        )
      }
      for policy in user.policies {
        try await client.output.line(
          "  policy \(policy.name)  \(policy.document.utf8.count) bytes")
      }
      if user.policies.isEmpty { try await client.output.line("  no policy: may do nothing") }
    }
    try await client.output.flush()
  }
}

// MARK: Access keys

/// `cairn admin user key create USER`: the secret is shown here and never again.
func createAccessKey(_ context: Context) async throws(Failure) {
  let user = context.arguments.operands[0]
  try NameKind.user.check(user)
  try await Client.with(context) { client throws(Failure) in
    let fresh = AccessKey.make(context.driver)
    let sealed = client.secrets.seal(
      fresh.secret, of: fresh.name, user: user, nonce: context.driver.randomBytes(12))
    try await client.change(
      .changeAccessKey(name: fresh.name, .create(user: user, sealedSecret: sealed)), about: user)
    try await client.show(fresh, of: user, context)
  }
}

/// `cairn admin user key rotate ACCESS-KEY`: another one for its user, and the old one disabled.
func rotateAccessKey(_ context: Context) async throws(Failure) {
  let old = context.arguments.operands[0]
  try NameKind.accessKey.check(old)
  try await Client.with(context) { client throws(Failure) in
    // To seal the secret its user has to be known, of a key that is disabled too.
    let user = try await client.owner(of: old)
    let fresh = AccessKey.make(context.driver)
    let sealed = client.secrets.seal(
      fresh.secret, of: fresh.name, user: user, nonce: context.driver.randomBytes(12))
    try await client.change(
      .changeAccessKey(name: old, .rotate(to: fresh.name, sealedSecret: sealed)), about: user)
    try await client.show(fresh, of: user, context)
  }
}

extension Client {
  fileprivate func owner(of accessKey: String) async throws(Failure) -> String {
    var after = ""
    while true {
      let answer = try await ask(
        ListUsers(level: .strong, after: after, limit: 1000), about: "users")
      if let user = answer.users.first(where: { $0.accessKeys.contains(accessKey) }) {
        return user.name
      }
      guard !answer.isLast, let last = answer.users.last else {
        throw .failed("no such access key", accessKey)
      }
      after = last.name
    }
  }

  fileprivate func show(_ key: AccessKey, of user: String, _ context: Context)
    async throws(Failure)
  {
    if context.arguments.has("--json") {
      try await output.line(
        JSON.object([
          ("user", .string(user)), ("accessKey", .string(key.name)),
          ("secretKey", .string(key.secret)),
        ]).text)
    } else {
      try await output.line("access key \(key.name)")
      try await output.line("secret \(key.secret)")
    }
    try await output.flush()
  }
}

func enableAccessKey(_ context: Context) async throws(Failure) {
  try await changeAccessKey(context, .setEnabled(true), "enabled")
}

func disableAccessKey(_ context: Context) async throws(Failure) {
  try await changeAccessKey(context, .setEnabled(false), "disabled")
}

func deleteAccessKey(_ context: Context) async throws(Failure) {
  try await changeAccessKey(context, .delete, "deleted")
}

private func changeAccessKey(_ context: Context, _ change: AccessKeyChange, _ done: String)
  async throws(Failure)
{
  let name = context.arguments.operands[0]
  try NameKind.accessKey.check(name)
  try await Client.with(context) { client throws(Failure) in
    try await client.change(.changeAccessKey(name: name, change), about: name)
    try await client.tell([("accessKey", .string(name)), ("state", .string(done))], context)
  }
}

// MARK: Policies

/// USER POLICY and what else there is.
private func policyOperands(_ context: Context) throws(Failure) -> [String] {
  let operands = context.arguments.operands
  try NameKind.user.check(operands[0])
  try NameKind.policy.check(operands[1])
  return operands
}

/// `cairn admin user policy set USER POLICY FILE`
func setUserPolicy(_ context: Context) async throws(Failure) {
  let operands = try policyOperands(context)
  let source = operands[2] == "-" ? "standard input" : operands[2]
  let bytes: [UInt8]
  do throws(RingError) {
    bytes =
      operands[2] == "-"
      ? try await context.driver.readStandardInput(limit: 1 << 20)
      : try await context.driver.readFile(operands[2], limit: 1 << 20)
  } catch {
    throw .failed("cannot read the policy: \(error.reason)", source)
  }
  do throws(MalformedPolicy) {
    _ = try PolicyDocument(bytes, of: .user)
  } catch {
    throw .failed("no policy: \(error.reason)", source)
  }
  let policy = NamedPolicy(name: operands[1], document: String(decoding: bytes, as: UTF8.self))
  try await Client.with(context) { client throws(Failure) in
    try await client.change(
      .changeUser(name: operands[0], .setPolicy(policy)), about: operands[0])
    try await client.tell(
      [("user", .string(operands[0])), ("policy", .string(operands[1]))], context)
  }
}

/// `cairn admin user policy show USER POLICY`: the document as it was given.
func showUserPolicy(_ context: Context) async throws(Failure) {
  let operands = try policyOperands(context)
  try await Client.with(context) { client throws(Failure) in
    let user = try await client.ask(
      GetUser(level: client.level, name: operands[0]), at: client.level, about: operands[0])
    guard let policy = user.policies.first(where: { $0.name == operands[1] }) else {
      throw .failed("no such policy", operands[1])
    }
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("user", .string(operands[0])), ("policy", .string(policy.name)),
          ("document", .string(policy.document)),
        ]).text)
    } else {
      client.output.text(policy.document)
    }
    try await client.output.flush()
  }
}

/// `cairn admin user policy delete USER POLICY`
func deleteUserPolicy(_ context: Context) async throws(Failure) {
  let operands = try policyOperands(context)
  try await Client.with(context) { client throws(Failure) in
    try await client.change(
      .changeUser(name: operands[0], .deletePolicy(operands[1])), about: operands[1])
    try await client.tell(
      [("user", .string(operands[0])), ("policy", .string(operands[1]))], context)
  }
}

extension AccessKey {
  /// One that nobody can guess: 75 bits of a name, 240 of a secret.
  static func make(_ driver: any Driver) -> AccessKey {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)
    let name =
      "CAIRN"
      + String(
        decoding: driver.randomBytes(15).map { letters[Int($0 & 31)] }, as: UTF8.self)
    // No sign in it that a shell, an address or a configuration file would take for its own.
    let secret = Base64.encode(driver.randomBytes(30)).replacing("+", with: "x")
      .replacing("/", with: "y")
    return AccessKey(name: name, secret: secret)
  }
}
