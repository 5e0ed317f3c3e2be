import Messages
import Ring
import Service

/// Has writes told to whom buckets' rules name. The rules are the backend's, and believed for a while. Loop-confined.
final class Notifier: @unchecked Sendable {
  // Loop-confined.
  private let targets: [String: NotificationTarget]
  private let backend: any ObjectBackend
  private let driver: any Driver
  private let log: Log
  private let rules: AccessCache<NotificationRules>
  private var lastSequencer: UInt64 = 0
  /// Targets that buckets name and that are not here.
  private var missing: Set<String> = []

  init(
    _ targets: [NotificationTarget], _ backend: any ObjectBackend, _ driver: any Driver, _ log: Log
  ) {
    self.targets = Dictionary(targets.map { ($0.configuration.name, $0) }) { first, _ in first }
    self.backend = backend
    self.driver = driver
    self.log = log
    rules = AccessCache(driver, lifetime: Gatekeeper.lifetime)
  }

  func target(_ name: String) -> NotificationTarget? { targets[name] }

  func forget(_ bucket: String) { rules.forget(bucket) }

  /// The rules of a bucket; nil: it has none, or there is nobody that this gateway could tell.
  func rules(of bucket: String) async throws(BackendError) -> NotificationRules? {
    guard !targets.isEmpty, BucketName.brokenRule(bucket) == nil else { return nil }
    return try await rules.value(bucket) { () async throws(BackendError) in
      do throws(BackendError) {
        guard let setting = try await backend.settings(bucket, [.notifications]).first else {
          return nil
        }
        do throws(S3Error) {
          return (
            try NotificationRules(document: setting.bytes, region: nil), 256 + setting.bytes.count
          )
        } catch {
          // It was read before it was kept; a newer gateway may know more.
          log.warning("a bucket's notifications cannot be read", ["bucket": bucket])
          return nil
        }
      } catch {
        guard error == .bucketNotFound else { throw error }
        return nil
      }
    }
  }

  /// Returns when each target that a rule names has it, or cannot take it.
  func tell(
    _ event: NotificationEvent, _ rules: NotificationRules, _ origin: NotificationEvent.Origin
  ) async {
    let matching = rules.matching(event.event, key: event.name.key)
    guard !matching.isEmpty else { return }
    let time = driver.wallClock
    lastSequencer = max(lastSequencer + 1, UInt64(time.wholeMilliseconds) << 20)
    let sequencer = lastSequencer
    let lane = Self.lane(of: event.name)
    for rule in matching {
      guard let target = targets[rule.arn.name] else {
        if missing.count < 1000, missing.insert(rule.arn.name).inserted {
          log.error(
            "a bucket's notifications go to a target that this gateway has not",
            ["bucket": event.name.bucket, "target": rule.arn.name])
        }
        continue
      }
      await target.send(
        event.body(origin, rule: rule.id, time: time, sequencer: sequencer), lane: lane)
    }
  }

  /// FNV-1a, of bucket and key.
  private static func lane(of name: ObjectName) -> UInt32 {
    var hash: UInt32 = 2_166_136_261
    for byte in name.bucket.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    hash = (hash ^ UInt32(UInt8(ascii: "/"))) &* 16_777_619
    for byte in name.key.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
    return hash
  }

  func stop() async {
    for (_, target) in targets.sorted(by: { $0.key < $1.key }) { await target.stop() }
  }
}
