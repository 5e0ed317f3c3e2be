import DataPath
import Messages

func makeBucket(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  if let rule = BucketName.brokenRule(name) { throw .failed(rule, name) }
  if context.arguments["--class"] == "" { throw .usage("--class takes a class's name") }
  if context.arguments["--key-domain"] == "" {
    throw .usage("--key-domain takes a key domain's name")
  }
  try await Client.with(context) { client throws(Failure) in
    let storageClass = context.arguments["--class"] ?? ""
    let keyDomain = context.arguments["--key-domain"] ?? ""
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
    try await client.change(.removeBucket(name: name), about: name)
  }
}
