import DataPath
import Messages
import Service

/// `cp` and `mv` inside the cluster: no byte moves, unless the target's bucket has another storage class. A target that is empty
/// or ends in a slash gets the source's last name. With `-r`, ``TreeTransfer``.
func copy(_ context: Context) async throws(Failure) { try await transfer(context, move: false) }

func move(_ context: Context) async throws(Failure) { try await transfer(context, move: true) }

private func transfer(_ context: Context, move: Bool) async throws(Failure) {
  let operands = context.arguments.operands
  if context.arguments.has("--recursive") { return try await transferTree(context, move: move) }
  let source = try Location.object(operands[0])
  let target = try Location(operands[1]).completed(by: source)
  try Location.checkKey(target.key, shown: operands[1])
  let version = try context.version()
  if move && version != .unnamed { throw .usage("only the current version can be renamed") }
  if source == target && version == .unnamed {
    throw .failed("source and target are the same object", operands[0])
  }
  try await Client.with(context) { client throws(Failure) in
    let writer = ObjectWriter(client.access)
    do throws(Failure) {
      try await client.transfer(source, version, to: target, move: move, writer)
      try await client.finish(writer, target.text)
    } catch {
      await writer.abandon()
      throw error
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
  /// Copies or moves one object.
  ///
  /// - Parameter writer: for what has to be stored anew.
  func transfer(
    _ source: Location, _ version: VersionName, to target: Location, move: Bool,
    _ writer: ObjectWriter
  ) async throws(Failure) {
    let from = ObjectName(bucket: source.bucket, key: source.key)
    var identity: UInt64 = 0
    if version != .unnamed {
      identity = try await ask(
        FindVersion(level: .strong, name: from, version: version), about: source.text
      ).entry.identity
    }
    do throws(DataPathError) {
      _ = try await coordinator.execute(
        .copyObject(
          source: from, sourceIdentity: identity,
          target: ObjectName(bucket: target.bucket, key: target.key), attributes: nil, move: move,
          precondition: .none, modified: 0))
    } catch {
      guard error.refusalCode == .otherClass else {
        throw failure(error, await blamed(for: error, source, target))
      }
      try await rewrite(source, version, as: target, move: move, writer)
    }
  }

  /// After the last object.
  func finish(_ writer: ObjectWriter, _ shown: String) async throws(Failure) {
    do throws(DataPathError) {
      try await writer.finish()
    } catch {
      throw failure(error, shown)
    }
  }

  /// Stores an object's bytes anew in another bucket's class. Of a move the source goes when the copy is there, unless it was
  /// replaced meanwhile.
  private func rewrite(
    _ source: Location, _ version: VersionName, as target: Location, move: Bool,
    _ writer: ObjectWriter
  ) async throws(Failure) {
    let from = ObjectName(bucket: source.bucket, key: source.key)
    let record = try await ask(
      StatObject(level: .strong, name: from, version: version), about: source.text
    ).record
    let bytes = ObjectSource(access, from, identity: record.identity, range: 0..<record.byteCount)
    do throws(DataPathError) {
      _ = try await writer.put(
        ObjectName(bucket: target.bucket, key: target.key), attributes: record.attributes,
        source: bytes, unlessIdentical: false)
    } catch {
      throw failure(error, "\(source.text) to \(target.text)")
    }
    if move {
      try await change(
        .deleteObject(name: from, precondition: .identity(record.identity)), about: source.text)
    }
  }

  /// Which of the two the refusal was about.
  private func blamed(for error: DataPathError, _ source: Location, _ target: Location) async
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
