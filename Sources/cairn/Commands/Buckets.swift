import DataPath
import Messages

func makeBucket(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  if let rule = BucketName.brokenRule(name) { throw .failed(rule, name) }
  if context.arguments["--class"] == "" { throw .usage("--class takes a class's name") }
  try await Client.with(context) { client throws(Failure) in
    let storageClass = context.arguments["--class"] ?? ""
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(
        .createBucket(name: name, storageClass: storageClass))
    } catch {
      throw failure(error, error.refusalCode == .noSuchClass ? storageClass : name)
    }
  }
}

func removeBucket(_ context: Context) async throws(Failure) {
  let name = try Location.bucketName(context.arguments.operands[0])
  try await Client.with(context) { client throws(Failure) in
    try await client.change(.removeBucket(name: name), about: name)
  }
}
