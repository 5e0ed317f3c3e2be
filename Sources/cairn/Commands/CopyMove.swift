import Messages

/// `cp` and `mv` inside the cluster: no byte moves. A target that is empty or ends in a slash gets the source's last name.
func copy(_ context: Context) async throws(Failure) { try await transfer(context, move: false) }

func move(_ context: Context) async throws(Failure) { try await transfer(context, move: true) }

private func transfer(_ context: Context, move: Bool) async throws(Failure) {
  let operands = context.arguments.operands
  let source = try Location.object(operands[0])
  var target = try Location(operands[1])
  if target.key.isEmpty || target.key.hasSuffix("/") {
    target.key += source.key.split(separator: "/").last.map(String.init) ?? source.key
  }
  try Location.checkKey(target.key, shown: operands[1])
  let from = ObjectName(bucket: source.bucket, key: source.key)
  let to = ObjectName(bucket: target.bucket, key: target.key)
  if from == to { throw .failed("source and target are the same object", operands[0]) }
  try await Client.with(context) { client throws(Failure) in
    try await client.change(
      .copyObject(
        source: from, target: to, attributes: nil, move: move, precondition: .none, modified: 0),
      about: "\(operands[0]) to \(operands[1])")
  }
}
