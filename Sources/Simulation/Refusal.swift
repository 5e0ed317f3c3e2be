/// A refusal inside the simulated kernel.
struct Refusal: Error {
  /// Positive.
  let errno: Int32
  init(_ errno: Int32) { self.errno = errno }
}
