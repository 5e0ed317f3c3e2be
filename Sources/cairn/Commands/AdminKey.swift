import Coding
import Coordinator
import DataPath
import Messages
import Ring
import Service

/// `cairn admin key domain create NAME`.
func createKeyDomain(_ context: Context) async throws(Failure) {
  let name = context.arguments.operands[0]
  try NameKind.keyDomain.check(name)
  try await Client.with(context) { client throws(Failure) in
    _ = try await client.askAboutKeys(CreateKeyDomain(name: name), about: name)
    if context.arguments.has("--json") {
      try await client.output.line(JSON.object([("domain", .string(name))]).text)
      try await client.output.flush()
    }
  }
}

/// `cairn admin key domain list`.
func listKeyDomains(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(
      ListKeyDomains(level: client.level), at: client.level, about: "key domains")
    for domain in answer.domains {
      let dataKeyCount = domain.keys.reduce(0) { $0 + $1.dataKeyCount }
      let masterKeys = domain.keys.map(\.masterKey).reduce(into: [String]()) {
        if !$0.contains($1) { $0.append($1) }
      }
      if context.arguments.has("--json") {
        try await client.output.line(
          JSON.object([
            ("domain", .string(domain.name)), ("number", .number(UInt64(domain.id.raw))),
            ("created", .string(rfc3339(.milliseconds(Int64(clamping: domain.created))))),
            ("dataKeys", .number(dataKeyCount)),
            (
              "keys",
              .array(
                domain.keys.map { key in
                  .object([
                    ("version", .number(UInt64(key.version))),
                    ("masterKey", .string(key.masterKey)), ("dataKeys", .number(key.dataKeyCount)),
                  ])
                })
            ),
          ]).text)
      } else {
        let opener =
          masterKeys == [PassphraseWrap.name]
          ? "a passphrase" : "master key \(masterKeys.joined(separator: ", "))"
        let isRotating = domain.keys.count > 1 ? ", rotation not finished" : ""
        try await client.output.line(
          "\(domain.name): key \(domain.keys[domain.keys.count - 1].version), "
            + "\(counted(Int(clamping: dataKeyCount), "data key")), \(opener)\(isRotating)")
      }
    }
    try await client.output.flush()
  }
}

/// `cairn admin key domain rotate NAME`.
func rotateKeyDomain(_ context: Context) async throws(Failure) {
  let name = context.arguments.operands[0]
  try NameKind.keyDomain.check(name)
  try await rotate(context, domain: name)
}

/// `cairn admin key domain passphrase NAME`.
func changePassphrase(_ context: Context) async throws(Failure) {
  let name = context.arguments.operands[0]
  try NameKind.keyDomain.check(name)
  let file = context.arguments["--new-passphrase-file"]
  guard (file != nil) != context.arguments.has("--ask-new-passphrase") else {
    throw .usage("--new-passphrase-file FILE is wanted, or --ask-new-passphrase")
  }
  let new =
    if let file {
      try await passphrase(in: file, on: context.driver)
    } else {
      try askedPassphrase("new passphrase", twice: true)
    }
  try await Client.with(context) { client throws(Failure) in
    guard client.access.keys.passphrase != nil else {
      throw .usage("the passphrase so far is wanted: --passphrase-file or --ask-passphrase")
    }
    let id = try await client.clientDomain(named: name)
    do throws(DataPathError) {
      try await client.access.keys.changePassphrase(of: id, to: new)
    } catch {
      throw failure(error, "")
    }
    if context.arguments.has("--json") {
      try await client.output.line(JSON.object([("domain", .string(name))]).text)
      try await client.output.flush()
    }
  }
}

/// `cairn admin key rotate`.
func rotateMasterKey(_ context: Context) async throws(Failure) {
  try await rotate(context, domain: nil)
}

extension Client {
  /// That keys cannot be had is a sentence of its own: it says which key domain is closed, and why.
  fileprivate func askAboutKeys<Request: Call>(_ request: Request, about subject: String)
    async throws(Failure) -> Request.Answer
  {
    do throws(DataPathError) {
      return try await coordinator.query(request)
    } catch {
      throw failure(error, error.refusalCode == .keyUnavailable ? "" : subject)
    }
  }
}

private func rotate(_ context: Context, domain: String?) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.askAboutKeys(RotateKeys(domain: domain), about: domain ?? "")
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("masterKey", .string(answer.masterKey)), ("rewrapped", .number(answer.rewrappedCount)),
        ]).text)
    } else {
      let what = domain == nil ? "domain key" : "data key"
      try await client.output.line(
        "\(counted(Int(clamping: answer.rewrappedCount), what)) wrapped anew, under master key '\(answer.masterKey)'"
      )
    }
    try await client.output.flush()
  }
}

/// `cairn admin key domain set BUCKET (NAME | --none)`.
func setKeyDomain(_ context: Context) async throws(Failure) {
  let operands = context.arguments.operands
  let bucket = try Location.bucketName(operands[0])
  guard (operands.count == 2) != context.arguments.has("--none") else {
    throw .usage("a key domain's name is wanted, or --none")
  }
  let name = operands.count == 2 ? operands[1] : ""
  if operands.count == 2 { try NameKind.keyDomain.check(name) }
  try await Client.with(context) { client throws(Failure) in
    do throws(DataPathError) {
      _ = try await client.coordinator.query(SetBucketKeyDomain(bucket: bucket, keyDomain: name))
    } catch {
      switch error.refusalCode {
      case .bucketNotEmpty:
        let option = name.isEmpty ? "" : " --key-domain \(name)"
        throw .failed(
          "bucket is not empty, and what is stored keeps its keys; make one with 'cairn mb\(option)' and 'cairn mv' the objects there",
          bucket)
      case .noSuchKeyDomain: throw failure(error, name)
      default: throw failure(error, bucket)
      }
    }
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("bucket", .string(bucket)), ("keyDomain", name.isEmpty ? .null : .string(name)),
        ]).text)
      try await client.output.flush()
    }
  }
}

/// `cairn admin key new FILE [NAME]`: no cluster is asked.
///
/// The line is added to the file that is there, through links, so that whose it is and who may read it stay as they are.
func newMasterKey(_ context: Context) async throws(Failure) {
  let operands = context.arguments.operands
  let path = operands[0]
  let driver = context.driver
  let name = operands.count == 2 ? operands[1] : masterKeyName(driver)
  try NameKind.masterKey.check(name)
  do throws(KeyProviderError) {
    try await KeyFile.add(
      name, driver.randomBytes(AES256GCM.keyByteCount), to: path, on: driver)
  } catch {
    throw .failed("no key is added: \(error)")
  }
}

/// Today's date, and something that makes it no other key's name.
func masterKeyName(_ driver: any Driver) -> String {
  rfc3339(driver.wallClock).prefix(10) + "-" + hexText(driver.randomBytes(2))
}
