internal import Coding
package import Ring

/// `cairn bench code`: the kernels in one thread, each over the same made-up bytes in every run, so that
/// Benchmarks/compare/loops.c can do the same work through the libraries themselves.
///
/// - `Work.swift`: what can be measured, by name
/// - `Material.swift`: the bytes
package enum CodeBench {
  package struct Request: Sendable {
    /// Names or what they begin with ("rs/6+3"); empty for all.
    package var only: [String]
    /// Bytes of a unit (a piece hashed, a block coded); nil for those each row has by itself.
    package var unitByteCount: Int?
    /// For each row, at least.
    package var runtime: Duration

    package init(only: [String], unitByteCount: Int?, runtime: Duration) {
      self.only = only
      self.unitByteCount = unitByteCount
      self.runtime = runtime
    }
  }

  /// The middle of several samples, and the quarter and three quarters of the way.
  package struct Spread: Sendable {
    package var median: Double
    package var low: Double
    package var high: Double

    init(_ samples: [Double]) {
      let sorted = samples.sorted()
      func at(_ part: Double) -> Double {
        sorted[Int((Double(sorted.count - 1) * part).rounded())]
      }
      median = at(0.5)
      low = at(0.25)
      high = at(0.75)
    }
  }

  package struct Row: Sendable {
    package var name: String
    package var unitByteCount: Int
    package var sampleCount: Int
    /// 10^9 bytes of input for each second that passed.
    package var gigabytesPerSecond: Spread
    package var processorSecondsPerGigabyte: Spread
    /// Output for each byte of input, where that is the point; otherwise nil.
    package var outputShare: Double?
    /// What the name leaves open.
    package var note: String?
    /// Says what came out. Two runs that did the same work have the same.
    package var check: UInt64
  }

  /// The names that `only` may hold.
  package static var names: [String] { Subject.all.map(\.name) }

  package static func matches(_ name: String, _ pattern: String) -> Bool {
    name == pattern || name.hasPrefix(pattern + "/")
  }

  /// Measures row by row. Between rows the loop goes on, so that a signal can end it.
  package static func run(
    _ request: Request, driver: any Driver,
    show: (Row) async throws -> Void
  ) async rethrows {
    HashKernel.settle { driver.now }
    for subject in Subject.all {
      guard request.only.isEmpty || request.only.contains(where: { matches(subject.name, $0) })
      else { continue }
      for unit in request.unitByteCount.map({ [$0] }) ?? subject.units {
        await driver.sleep(.zero)
        if Task.isCancelled { return }
        try await show(measure(subject, unit: unit, runtime: request.runtime, driver: driver))
      }
    }
  }

  /// A sample is long against the clock's own cost and short against a turn of the scheduler.
  private static let sampleTime = Duration.milliseconds(4)

  private static func measure(
    _ subject: Subject, unit: Int, runtime: Duration, driver: any Driver
  ) -> Row {
    let work = subject.make(unit)
    func timed(_ count: Int) -> (passed: Double, worked: Double) {
      let start = driver.now
      let begin = driver.usage(of: .thread).processor
      for _ in 0..<count { work.run() }
      let worked = driver.usage(of: .thread).processor - begin
      return ((driver.now - start) / .seconds(1), worked / .seconds(1))
    }
    // The first run warms caches and pages up, the second says how many make a sample.
    _ = timed(1)
    let once = timed(1).worked
    let count = max(1, Int((sampleTime / .seconds(1)) / max(once, 1e-9)))
    let gigabytes = Double(work.byteCount) * Double(count) / 1e9
    var rates: [Double] = []
    var costs: [Double] = []
    let end = driver.now + runtime
    repeat {
      let sample = timed(count)
      rates.append(gigabytes / max(sample.passed, 1e-9))
      costs.append(sample.worked / gigabytes)
    } while driver.now < end || rates.count < 3
    return Row(
      name: subject.name, unitByteCount: unit, sampleCount: rates.count,
      gigabytesPerSecond: Spread(rates), processorSecondsPerGigabyte: Spread(costs),
      outputShare: work.outputByteCount.map { Double($0()) / Double(work.byteCount) },
      note: work.note, check: work.check())
  }
}
