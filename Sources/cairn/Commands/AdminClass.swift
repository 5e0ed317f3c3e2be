import Coding
import DataPath
import Messages
import Ring
import Service

/// `cairn admin class list`: storage classes and what they hold.
func listClasses(_ context: Context) async throws(Failure) {
  try await Client.with(context) { client throws(Failure) in
    let answer = try await client.ask(
      ListClasses(level: client.level), at: client.level, about: "classes")
    for entry in answer.classes {
      let policy = entry.storageClass
      if context.arguments.has("--json") {
        try await client.output.line(
          JSON.object(
            [
              ("class", .string(policy.name)), ("codec", .string("\(policy.codec)")),
              ("level", .signed(policy.level)),
              ("groupBytes", .number(UInt64(policy.groupByteCount))),
              ("scheme", policy.scheme.map { .string($0.description) } ?? .null),
              ("default", .bool(entry.id == StorageClass.standard)),
            ] + classMembers(entry)
          ).text)
      } else {
        let scheme = policy.scheme.map { ", \($0)" } ?? ""
        let level = policy.codec == .raw ? "" : " \(policy.level)"
        try await client.output.line(
          pad(policy.name, 12) + pad("\(policy.codec)\(level)", 9)
            + pad("groups of \(ByteSize(policy.groupByteCount))\(scheme)", 28)
            + "\(counted(Int(clamping: entry.objectCount), "object")), \(byteText(entry.logicalBytes))"
            + (entry.id == StorageClass.standard ? " (default)" : ""))
      }
    }
    try await client.output.flush()
  }
}

/// What a class holds, for JSON.
func classMembers(_ entry: ClassUsage) -> [(String, JSON)] {
  [
    ("objects", .number(entry.objectCount)), ("logicalBytes", .number(entry.logicalBytes)),
    ("uniqueBytes", .number(entry.chunkBytes + entry.inlineBytes)),
    ("compressedBytes", .number(entry.groupBytes + entry.inlineBytes)),
    ("storedBytes", .number(entry.blockBytes)), ("containers", .number(entry.containerCount)),
  ]
}

private func pad(_ text: String, _ width: Int) -> String {
  text + String(repeating: " ", count: max(1, width - text.count))
}

/// `cairn admin class define NAME`: makes a class, or changes what is said of the one of that name.
func defineClass(_ context: Context) async throws(Failure) {
  let name = context.arguments.operands[0]
  try NameKind.storageClass.check(name)
  let wishes = try ClassWishes(context.arguments)
  try await Client.with(context) { client throws(Failure) in
    let known = try await client.ask(ListClasses(level: .strong), about: "classes").classes.first {
      $0.storageClass.name == name
    }
    let wanted = try wishes.policy(named: name, instead: known?.storageClass)
    // With a larger m the log gets more copies first: a new link and a checkpoint, some ten seconds.
    let end = context.driver.now + .seconds(120)
    while true {
      let answer = try await client.ask(DefineClass(storageClass: wanted), about: name)
      if answer.isInEffect { break }
      guard context.driver.now < end, await context.driver.sleep(.seconds(1)) else {
        throw .failed(
          "the metadata log has \(answer.logCopies) copies and too few for this scheme: ask again",
          name)
      }
    }
    if context.arguments.has("--json") {
      try await client.output.line(JSON.object([("class", .string(name))]).text)
      try await client.output.flush()
    }
  }
}

/// `cairn admin class set BUCKET CLASS`: another class for a bucket without objects.
func setClass(_ context: Context) async throws(Failure) {
  let bucket = try Location.bucketName(context.arguments.operands[0])
  let storageClass = context.arguments.operands[1]
  try NameKind.storageClass.check(storageClass)
  try await Client.with(context) { client throws(Failure) in
    do throws(DataPathError) {
      _ = try await client.coordinator.query(
        SetBucketClass(bucket: bucket, storageClass: storageClass))
    } catch {
      switch error.refusalCode {
      case .bucketNotEmpty:
        throw .failed(
          "bucket is not empty; make one with 'cairn mb --class \(storageClass)' and 'cairn mv' the objects there",
          bucket)
      case .noSuchClass: throw failure(error, storageClass)
      default: throw failure(error, bucket)
      }
    }
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([("bucket", .string(bucket)), ("class", .string(storageClass))]).text)
      try await client.output.flush()
    }
  }
}

/// What the options of `define` say; nil where they say nothing.
private struct ClassWishes {
  private var codec: Codec?
  private var level: Int?
  private var groupByteCount: Int?
  /// The inner one is nil for the cluster's.
  private var scheme: Scheme??

  /// - Throws: a ``Failure/usage(_:)`` for what can be no class's.
  init(_ arguments: Arguments) throws(Failure) {
    if let text = arguments["--codec"] {
      codec = Codec(named: text)
      if codec == nil { throw .usage("--codec takes raw, lz4, zstd or xz: \(text)") }
    }
    if let text = arguments["--level"] {
      level = Int(text)
      if level == nil { throw .usage("--level takes a number: \(text)") }
    }
    if let text = arguments["--group"] {
      guard let size = ByteSize(text), StorageClass.groupByteCounts.contains(size.int) else {
        throw .usage("--group takes a size from 4KiB to 1MiB, as in 512KiB: \(text)")
      }
      groupByteCount = size.int
    }
    if let text = arguments["--scheme"] {
      scheme = .some(Scheme(text))
      if text != "default" && Scheme(text) == nil {
        throw .usage("--scheme takes k+m, as in 6+3, or default: \(text)")
      }
    }
  }

  /// What is not said stays as it is with `known`, but that another codec has a level of its own.
  fileprivate func policy(named name: String, instead known: StorageClass?) throws(Failure)
    -> StorageClass
  {
    guard let codec = codec ?? known?.codec else {
      throw .usage("a new class needs --codec raw, lz4, zstd or xz")
    }
    let standard = StorageClass.builtIn.first { $0.codec == codec }
    var policy = StorageClass(
      name: name, codec: codec, level: standard?.level ?? 0,
      groupByteCount: groupByteCount ?? known?.groupByteCount ?? standard?.groupByteCount
        ?? 64 << 10, scheme: scheme ?? known?.scheme)
    if let known, known.codec == codec { policy.level = known.level }
    if let level { policy.level = level }
    if let rule = policy.brokenRule { throw .usage("\(rule): \(name)") }
    return policy
  }
}

extension Codec {
  fileprivate init?(named name: String) {
    for codec in [Codec.raw, .lz4, .zstd, .xz] where "\(codec)" == name {
      self = codec
      return
    }
    return nil
  }
}
