/// Kernel constants that neither Ring nor Swift's Glibc names.
enum LinuxFlags {
  static let temporaryFile: Int32 = 0o20000000
  /// fallocate's mode bits.
  static let keepSize: Int32 = 1
  static let punchHole: Int32 = 2
}
