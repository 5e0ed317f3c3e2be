import CKernel

/// Whose usage is asked for.
package enum UsageScope: Sendable {
  /// The calling loop's own thread.
  case thread
  /// Every thread of the process, the kernel's workers for its rings included.
  case process
}

/// What a thread or process has used since its start. All zero in simulation, where work takes no time.
package struct ResourceUsage: Sendable, Equatable {
  /// User and system together, to the nanosecond; the kernel tells the two apart only roughly.
  package var processor = Duration.zero
  package var user = Duration.zero
  package var system = Duration.zero
  package var contextSwitches: UInt64 = 0
  package var majorFaults: UInt64 = 0
  package var minorFaults: UInt64 = 0

  package init() {}

  /// What came after `earlier`.
  package func since(_ earlier: ResourceUsage) -> ResourceUsage {
    var usage = self
    usage.processor -= earlier.processor
    usage.user -= earlier.user
    usage.system -= earlier.system
    usage.contextSwitches &-= earlier.contextSwitches
    usage.majorFaults &-= earlier.majorFaults
    usage.minorFaults &-= earlier.minorFaults
    return usage
  }
}

extension ResourceUsage {
  /// As the kernel counts it now.
  init(_ scope: UsageScope) {
    var found = cairn_usage()
    precondition(
      cairn_get_usage(scope == .thread ? 1 : 0, &found) == 0, "the kernel knows no usage")
    processor = .nanoseconds(found.processor_nanoseconds)
    user = .microseconds(found.user_microseconds)
    system = .microseconds(found.system_microseconds)
    contextSwitches = UInt64(found.context_switches)
    majorFaults = UInt64(found.major_faults)
    minorFaults = UInt64(found.minor_faults)
  }
}
