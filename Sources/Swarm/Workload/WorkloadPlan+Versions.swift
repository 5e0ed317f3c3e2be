package import Messages
internal import Simulation

/// What is done in buckets with versions, drawn beforehand.
extension PlannedOperation {
  /// Some steps on one key of a bucket with versions, one after the other.
  package struct Versions: Sendable {
    package enum Step: Sendable {
      case put(Content, tag: String)
      /// Leaves a marker.
      case delete
      /// Of a version that somebody was told of.
      case remove(Int)
      case read(Int)
      /// An older version becomes the newest, too.
      case restore(Int, tag: String)
      case look
      case list(limit: UInt32)
      /// Only where it may change.
      case setVersioning(isEnabled: Bool)
    }
    package var name: ObjectName
    package var steps: [Step]
  }
}

extension WorkloadPlan {
  package static let versionedBuckets = [
    VersionHistory.enabledBucket, VersionHistory.changingBucket,
  ]

  func versions(_ client: Int, _ index: Int, _ random: inout SimulationRandom)
    -> PlannedOperation.Versions
  {
    let name = ObjectName(
      bucket: Self.versionedBuckets[random.below(2)], key: "v\(random.below(5))")
    let steps = (0..<3 + random.below(8)).map { step -> PlannedOperation.Versions.Step in
      let tag = "version \(client)/\(index)/\(step)"
      switch random.below(20) {
      case 0..<6: return .put(content(&random).0, tag: tag)
      case 6, 7: return .delete
      case 8..<11: return .remove(random.below(64))
      case 11..<13: return .read(random.below(64))
      case 13, 14: return .restore(random.below(64), tag: tag)
      case 15..<17: return .look
      case 17, 18: return .list(limit: [1, 2, 5, 1000][random.below(4)])
      default: return .setVersioning(isEnabled: random.chance(1, in: 2))
      }
    }
    return PlannedOperation.Versions(name: name, steps: steps)
  }
}
