/// Kernel constants that Swift's Glibc does not import.
package enum LinuxFlags {
  #if arch(arm64)
    package static let direct: Int32 = 0o200000
  #else
    package static let direct: Int32 = 0o40000
  #endif
  static let temporaryFile: Int32 = 0o20000000
  /// fallocate's mode bits.
  static let keepSize: Int32 = 1
  static let punchHole: Int32 = 2
}
