import DataPath
import Messages

func makeBucket(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  if context.arguments["--class"] == "" { throw .usage("--class takes a class's name") }
  if context.arguments["--key-domain"] == "" {
    throw .usage("--key-domain takes a key domain's name")
  }
  if let name = context.arguments["--class"] { try NameKind.storageClass.check(name) }
  if let name = context.arguments["--key-domain"] { try NameKind.keyDomain.check(name) }
  let isEncrypted = context.arguments.has("--encrypt")
  guard
    isEncrypted
      || context.arguments["--passphrase-file"] == nil
        && !context.arguments.has("--ask-passphrase")
  else { throw .usage("a passphrase goes with --encrypt") }
  let keyDomain =
    isEncrypted ? try clientDomain(context, of: name) : context.arguments["--key-domain"] ?? ""
  try await Client.with(context) { client throws(Failure) in
    let storageClass = context.arguments["--class"] ?? ""
    if isEncrypted { try await client.makeDomain(keyDomain) }
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(
        .createBucket(name: name, storageClass: storageClass, keyDomain: keyDomain))
    } catch {
      switch error.refusalCode {
      case .noSuchClass: throw failure(error, storageClass)
      case .noSuchKeyDomain: throw failure(error, keyDomain)
      default: throw failure(error, name)
      }
    }
  }
}

func removeBucket(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  try await Client.with(context) { client throws(Failure) in
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(.removeBucket(name: name))
    } catch {
      guard error.refusalCode == .bucketNotEmpty else { throw failure(error, name) }
      throw .failed(try await client.whyNotEmpty(name), name)
    }
  }
}

extension Client {
  /// What keeps a bucket: `ls` shows nothing where only older versions do.
  fileprivate func whyNotEmpty(_ bucket: String) async throws(Failure) -> String {
    let objects = try await ask(
      ListObjects(
        level: .strong, bucket: bucket, prefix: "", after: "", delimiter: "", limit: 1),
      about: bucket)
    guard objects.entries.isEmpty else { return "bucket is not empty" }
    return
      "bucket is not empty: older versions or delete markers are left, 'cairn ls -r --versions' shows them and 'cairn rm --version' removes them"
  }
}
