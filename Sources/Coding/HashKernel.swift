internal import CDigest
internal import Synchronization

/// What hashes several pieces at once. All give the same digests.
///
/// Which is fastest depends on the processor, and nothing here reads a clock: until ``settle(now:)`` has been handed one,
/// the processor's features decide (``byFeatures``).
package enum HashKernel: Int, CaseIterable, Sendable, CustomStringConvertible {
  /// OpenSSL, one after the other. Runs everywhere.
  case openSSL
  /// Two interleaved through the SHA extensions.
  case two
  /// Three, with AVX.
  case three
  /// Three, with the registers of AVX-512.
  case threeAVX512
  /// Sixteen, one to a 32-bit lane of AVX-512; the last few through the SHA extensions.
  case sixteen
  /// Sixteen, without SHA extensions.
  case sixteenAlone

  package var description: String {
    switch self {
    case .openSSL: "openssl"
    case .two: "two"
    case .three: "three"
    case .threeAVX512: "three-avx512"
    case .sixteen: "sixteen"
    case .sixteenAlone: "sixteen-alone"
    }
  }

  /// How many pieces of unlike size to hand over at once, so that lanes seldom run empty, and no more than the
  /// second-level cache holds of 64 KiB each where fewer will do.
  package var batchCount: Int {
    switch self {
    case .openSSL: 1
    case .two: 4
    case .three, .threeAVX512: 6
    case .sixteen, .sixteenAlone: 32
    }
  }

  /// Those that this processor can run, `openSSL` first.
  package static let available: [HashKernel] = allCases.filter { kernel in
    kernel.c.map { cairn_sha256_is_available($0) } ?? true
  }

  /// The first of those that were fastest on the processors we measured (docs/decisions/0010-kernels.md).
  package static let byFeatures: HashKernel =
    [.threeAVX512, .three, .two, .sixteenAlone].first { available.contains($0) } ?? .openSSL

  /// The one in use. A process that has much to hash settles it once.
  package static var current: HashKernel {
    HashKernel(rawValue: settled.load(ordering: .relaxed)) ?? byFeatures
  }

  private static let settled = Atomic<Int>(-1)

  /// Measures each available kernel and keeps the fastest for this process; later calls only read what was found.
  ///
  /// Takes about a millisecond. The best of several rounds counts, so that being interrupted does not; a kernel must beat
  /// what the features say by a twentieth to replace it. Under a clock that stands still, as in simulation, nothing
  /// does.
  ///
  /// - Parameter now: monotonic time.
  @discardableResult
  package static func settle(now: () -> Duration) -> HashKernel {
    if let known = HashKernel(rawValue: settled.load(ordering: .relaxed)) { return known }
    let fastest = fastest(of: available, now: now)
    settled.store(fastest.rawValue, ordering: .relaxed)
    return fastest
  }

  /// Pieces of one round: as many as fill the widest kernel thrice.
  private static let roundCount = 48
  private static let roundByteCount = 2048

  static func fastest(of kernels: [HashKernel], now: () -> Duration) -> HashKernel {
    let memory = [UInt8](repeating: 0x5A, count: roundByteCount)
    return memory.withUnsafeBytes { bytes in
      let pieces = [UnsafeRawBufferPointer](repeating: bytes, count: roundCount)
      var best = [HashKernel: Duration]()
      for round in 0..<4 {
        for kernel in kernels {
          let start = now()
          let digests = Fingerprint.of(pieces, by: kernel)
          let taken = now() - start
          precondition(digests.count == roundCount)
          // The first round warms the code up.
          if round > 0 { best[kernel] = min(best[kernel] ?? taken, taken) }
        }
      }
      var winner = byFeatures
      for kernel in kernels {
        guard let time = best[kernel], let bar = best[winner] else { continue }
        if time < bar * 0.95 { winner = kernel }
      }
      return winner
    }
  }

  var c: cairn_sha256_kernel? {
    switch self {
    case .openSSL: nil
    case .two: CAIRN_SHA256_TWO
    case .three: CAIRN_SHA256_THREE
    case .threeAVX512: CAIRN_SHA256_THREE_AVX512
    case .sixteen: CAIRN_SHA256_SIXTEEN
    case .sixteenAlone: CAIRN_SHA256_SIXTEEN_ALONE
    }
  }
}
