import Cluster
import Coding
import Messages
import Ring
import TestSupport
import Testing
import Wire

@testable import Metadata

/// One session on one machine; each command is a batch.
final class Desk {
  let store = MemoryStore()
  let machine: StateMachine
  var session: UInt64 = 0
  var sequence: UInt64 = 0
  static let devices = [10, 20, 30].map { DeviceID($0) }

  init() throws {
    machine = try StateMachine(store: store)
    for command in Workload.opening { #expect(try log(command) == .done) }
    session = try number(log(.openSession(client: "desk")))
  }
  @discardableResult func log(_ command: Command) throws -> CommandOutcome {
    try machine.apply(batch([command], after: machine.appliedPosition))[0]
  }
  @discardableResult func ask(_ command: ClientCommand) throws -> CommandOutcome {
    sequence += 1
    return try log(
      .client(
        session: session, sequence: sequence, lowestUnanswered: sequence, command: command))
  }
  func number(_ outcome: CommandOutcome) -> UInt64 {
    if case .number(let number) = outcome { return number }
    Issue.record("not a number: \(outcome)")
    return 0
  }
  func code(_ outcome: CommandOutcome) -> RefusalCode? {
    if case .refused(let code, _) = outcome { RefusalCode(rawValue: code) } else { nil }
  }
  func openUpload() throws -> UInt64 { number(try ask(.openUpload)) }
  func grant(_ upload: UInt64, devices: [DeviceID] = Desk.devices) throws -> Grant {
    let outcome = try ask(
      .requestGrant(
        upload: upload, avoid: [],
        placement: ClientCommand.Placement(scheme: Workload.scheme, devices: devices)))
    guard case .grant(let bytes) = outcome else {
      Issue.record("no grant: \(outcome)")
      throw ValueError.truncated
    }
    return try Grant(decoding: bytes)
  }
  /// One stripe with one chunk of each content.
  func stripe(_ number: UInt64, ordinal: UInt64, _ contents: [Int]) -> StripeRecord {
    let chunks = contents.map {
      StripeRecord.Chunk(
        fingerprint: Workload.fingerprint($0), byteCount: Workload.byteCount($0))
    }
    let stored = 48 + chunks.reduce(0) { $0 + $1.byteCount }
    return StripeRecord(
      stripe: number, layout: .smallest(for: Int(stored), scheme: Workload.scheme),
      firstOrdinal: ordinal,
      groups: [.init(offset: 0, storedByteCount: stored, codec: .raw, chunks: chunks)])
  }
  func register(_ upload: UInt64, _ grant: Grant, _ stripes: [StripeRecord]) throws
    -> CommandOutcome
  {
    try ask(
      .registerStripes(
        upload: upload, grant: grant.id, container: grant.container, stripes: stripes))
  }
  func run(_ grant: Grant, _ ordinal: UInt64, _ contents: [Int]) -> Run {
    Run(
      container: grant.container, firstOrdinal: ordinal, count: UInt32(contents.count), skip: 0,
      byteCount: contents.reduce(0) { $0 + UInt64(Workload.byteCount($1)) })
  }
  func commit(
    _ key: String, _ content: ObjectContent, _ byteCount: UInt64, upload: UInt64 = 0,
    precondition: Precondition = .none, attributes: ObjectAttributes = ObjectAttributes(),
    unlessIdentical: Bool = false
  ) throws -> CommandOutcome {
    try ask(
      .commitObject(
        upload: upload, name: ObjectName(bucket: "bucket", key: key), content: content,
        byteCount: byteCount, contentHash: Fingerprint(of: Array(key.utf8)),
        attributes: attributes, precondition: precondition, unlessIdentical: unlessIdentical,
        modified: 9))
  }
  func list(prefix: String = "", after: String = "", delimiter: String = "", limit: UInt32 = 1000)
    throws -> ListObjects.Answer
  {
    try machine.list(
      ListObjects(
        level: .strong, bucket: "bucket", prefix: prefix, after: after, delimiter: delimiter,
        limit: limit))
  }
}
