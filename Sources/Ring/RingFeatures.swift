/// What newer kernels offer beyond what the loop cannot do without. Each is tried at start, and there is a way without it.
package struct RingFeatures: OptionSet, Sendable, CustomStringConvertible {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The kernel finishes operations only when the loop's thread asks it to (6.1); interrupts nobody.
  package static let deferredWork = RingFeatures(rawValue: 1 << 0)
  /// Memory whose pages it knows (5.1, within the limit of locked memory).
  package static let registeredBuffers = RingFeatures(rawValue: 1 << 1)
  /// Open files that it need not look up (5.19).
  package static let registeredFiles = RingFeatures(rawValue: 1 << 2)
  /// Memory that the kernel picks from when something has come, so that nobody waits with memory in hand (5.19).
  package static let providedBuffers = RingFeatures(rawValue: 1 << 3)
  /// One operation that accepts connection after connection (5.19).
  package static let multishotAccept = RingFeatures(rawValue: 1 << 4)
  /// Sending from where the bytes lie (6.1).
  package static let zeroCopySend = RingFeatures(rawValue: 1 << 5)

  package static let all: RingFeatures = [
    .deferredWork, .registeredBuffers, .registeredFiles, .providedBuffers, .multishotAccept,
    .zeroCopySend,
  ]

  private static let names: [(RingFeatures, String)] = [
    (.deferredWork, "deferred work"), (.registeredBuffers, "registered buffers"),
    (.registeredFiles, "registered files"), (.providedBuffers, "provided buffers"),
    (.multishotAccept, "multishot accept"), (.zeroCopySend, "zero-copy send"),
  ]

  package var description: String {
    func list(_ wanted: Bool) -> String {
      Self.names.filter { contains($0.0) == wanted }.map(\.1).joined(separator: ", ")
    }
    let used = isEmpty ? "io_uring, plain" : "io_uring with \(list(true))"
    return self == .all ? used : used + "; not in use: \(list(false))"
  }
}
