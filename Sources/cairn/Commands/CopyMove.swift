import DataPath
import Messages
import Service

/// `cp` and `mv` inside the cluster: no byte moves. A target that is empty or ends in a slash gets the source's last name.
func copy(_ context: Context) async throws(Failure) { try await transfer(context, move: false) }

func move(_ context: Context) async throws(Failure) { try await transfer(context, move: true) }

private func transfer(_ context: Context, move: Bool) async throws(Failure) {
  let operands = context.arguments.operands
  let source = try Location.object(operands[0])
  let target = try Location(operands[1]).completed(by: source)
  try Location.checkKey(target.key, shown: operands[1])
  if source == target { throw .failed("source and target are the same object", operands[0]) }
  try await Client.with(context) { client throws(Failure) in
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(
        .copyObject(
          source: ObjectName(bucket: source.bucket, key: source.key), sourceIdentity: 0,
          target: ObjectName(bucket: target.bucket, key: target.key), attributes: nil, move: move,
          precondition: .none, modified: 0))
    } catch {
      throw failure(error, await client.blamed(for: error, source, target))
    }
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("source", .string(source.text)), ("target", .string(target.text)),
        ]).text)
      try await client.output.flush()
    }
  }
}

extension Client {
  /// Which of the two the refusal was about.
  fileprivate func blamed(for error: DataPathError, _ source: Location, _ target: Location) async
    -> String
  {
    switch error.refusalCode {
    case .noSuchKey: return source.text
    case .noSuchBucket:
      let probe = ListObjects(
        level: .strong, bucket: source.bucket, prefix: "", after: "", delimiter: "", limit: 1)
      do throws(DataPathError) {
        _ = try await coordinator.query(probe)
        return target.text
      } catch {
        return source.text
      }
    default: return "\(source.text) to \(target.text)"
    }
  }
}
