package import Coding

/// What one seed draws: the cluster, what is done with it, and what is done to it.
package struct Scenario: Sendable {
  package var seed: UInt64
  package var nodeCount = 3
  package var devicesPerNode = 1
  package var scheme = Scheme("2+1")!
  package var coordinatorCount = 1
  package var workload = WorkloadShape()

  package init(seed: UInt64, seconds: Duration? = nil) {
    self.seed = seed
    if let seconds { workload.duration = seconds }
  }

  /// For people.
  package var lines: [String] {
    ["\(nodeCount) nodes, scheme \(scheme), \(coordinatorCount) coordinators"]
  }
}

/// What clients do.
package struct WorkloadShape: Sendable {
  package var clientCount = 2
  /// How long clients begin new operations.
  package var duration: Duration = .seconds(30)
  /// Of all clients together, when nothing slows them down.
  package var operationsPerSecond = 20
  package var bucketCount = 2
  package var keyCount = 40
  package var largestByteCount: UInt64 = 8 << 20
  /// Share of content that repeats other content, in percent.
  package var duplicatePercent = 30

  package init() {}
}
