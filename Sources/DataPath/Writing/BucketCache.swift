import Messages
import Ring

/// Which class buckets have, as the coordinator said a moment ago. A bucket may be made anew with another class meanwhile: its
/// commits are then refused, and ``forget(_:)`` has it asked again. Loop-confined.
final class BucketCache: @unchecked Sendable {
  // Loop-confined.
  private let access: ClusterAccess
  private let tasks: OwnedTasks
  private var known: [String: (answer: GetBucket.Answer, until: Duration)] = [:]
  private var asking: [String: SharedWork<GetBucket.Answer>] = [:]

  private static let lifetime = Duration.seconds(10)
  private static let limit = 1000

  init(_ access: ClusterAccess, _ tasks: OwnedTasks) {
    self.access = access
    self.tasks = tasks
  }

  func bucket(_ name: String) async throws(DataPathError) -> GetBucket.Answer {
    let now = access.driver.now
    if let known = known[name], now < known.until { return known.answer }
    let work = asking[name] ?? SharedWork(tasks, "ask bucket")
    asking[name] = work
    defer { if !work.isUnderWay { asking[name] = nil } }
    return try await work.run { [self] () async throws(DataPathError) in
      let answer = try await access.coordinator.query(GetBucket(level: .strong, name: name))
      if known.count >= Self.limit { known = [:] }
      known[name] = (answer, access.driver.now + Self.lifetime)
      return answer
    }
  }

  func forget(_ name: String) { known[name] = nil }
}
