/// A daemon's numbers, written in Prometheus' text format. Names are checked when a metric is made;
/// counting costs an addition.
///
/// Asking twice for the same name and labels gives the same metric; the same name with another type is
/// our own mistake.
package final class MetricsRegistry: @unchecked Sendable {
  // Loop-confined.
  package typealias Labels = KeyValuePairs<String, String>

  private enum Kind: String { case counter, gauge, histogram }
  private enum Sample {
    case counter(Counter)
    case gauge(Gauge)
    case reading(() -> Double)
    case histogram(Histogram)
  }
  private struct Family {
    var kind: Kind
    var help: String
    /// By the text of their labels.
    var samples: [String: Sample] = [:]
  }
  private var families: [String: Family] = [:]

  package init() {}

  /// - Parameter name: ends in `_total`, by custom.
  package func counter(_ name: String, _ help: String, _ labels: Labels = [:]) -> Counter {
    let key = prepare(name, help, labels, .counter)
    if case .counter(let known) = families[name]!.samples[key] { return known }
    let made = Counter()
    families[name]!.samples[key] = .counter(made)
    return made
  }

  package func gauge(_ name: String, _ help: String, _ labels: Labels = [:]) -> Gauge {
    let key = prepare(name, help, labels, .gauge)
    if case .gauge(let known) = families[name]!.samples[key] { return known }
    let made = Gauge()
    families[name]!.samples[key] = .gauge(made)
    return made
  }

  /// A gauge that is asked when the metrics are written.
  package func gauge(
    _ name: String, _ help: String, _ labels: Labels = [:], reading: @escaping () -> Double
  ) {
    let key = prepare(name, help, labels, .gauge)
    families[name]!.samples[key] = .reading(reading)
  }

  /// A counter kept elsewhere, asked when the metrics are written.
  package func counter(
    _ name: String, _ help: String, _ labels: Labels = [:], reading: @escaping () -> Double
  ) {
    let key = prepare(name, help, labels, .counter)
    families[name]!.samples[key] = .reading(reading)
  }

  /// - Parameter bounds: rising upper ends of the buckets, both ends of a bucket in the metric's unit;
  ///   one more bucket takes what is above.
  package func histogram(
    _ name: String, _ help: String, _ labels: Labels = [:], bounds: [Double] = Histogram.latencies
  ) -> Histogram {
    let key = prepare(name, help, labels, .histogram)
    if case .histogram(let known) = families[name]!.samples[key] { return known }
    let made = Histogram(bounds: bounds)
    families[name]!.samples[key] = .histogram(made)
    return made
  }

  private func prepare(_ name: String, _ help: String, _ labels: Labels, _ kind: Kind) -> String {
    precondition(Self.isName(name), "no name of a metric: \(name)")
    if let known = families[name] {
      precondition(known.kind == kind, "\(name) is a \(known.kind)")
    } else {
      families[name] = Family(kind: kind, help: help)
    }
    return labels.map { label in
      precondition(Self.isName(label.key), "no name of a label: \(label.key)")
      return "\(label.key)=\"\(Self.escape(label.value, quotes: true))\""
    }.joined(separator: ",")
  }

  private static func isName(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(48...57).contains(first) else { return false }
    return name.utf8.allSatisfy {
      (97...122).contains($0) || (65...90).contains($0) || (48...57).contains($0) || $0 == 95
    }
  }

  private static func escape(_ text: String, quotes: Bool) -> String {
    var result = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\"" where quotes: result += "\\\""
      default: result.unicodeScalars.append(character)
      }
    }
    return result
  }

  /// All metrics, sorted by name and labels.
  package func text() -> String {
    var out = ""
    for name in families.keys.sorted() {
      guard let family = families[name] else { continue }
      out += "# HELP \(name) \(Self.escape(family.help, quotes: false))\n"
      out += "# TYPE \(name) \(family.kind.rawValue)\n"
      for labels in family.samples.keys.sorted() {
        guard let sample = family.samples[labels] else { continue }
        func line(_ suffix: String, _ value: String, _ extra: String = "") {
          let all = [labels, extra].filter { !$0.isEmpty }.joined(separator: ",")
          out += "\(name)\(suffix)\(all.isEmpty ? "" : "{\(all)}") \(value)\n"
        }
        switch sample {
        case .counter(let counter): line("", "\(counter.value)")
        case .gauge(let gauge): line("", Self.number(gauge.value))
        case .reading(let reading): line("", Self.number(reading()))
        case .histogram(let histogram):
          var sum: UInt64 = 0
          for (index, count) in histogram.counts.enumerated() {
            sum += count
            let bound =
              index < histogram.bounds.count ? Self.number(histogram.bounds[index]) : "+Inf"
            line("_bucket", "\(sum)", "le=\"\(bound)\"")
          }
          line("_sum", Self.number(histogram.sum))
          line("_count", "\(sum)")
        }
      }
    }
    return out
  }

  private static func number(_ value: Double) -> String {
    if value.isNaN { return "NaN" }
    if value.isInfinite { return value > 0 ? "+Inf" : "-Inf" }
    if value == value.rounded(), value.magnitude < 1e15 { return "\(Int64(value))" }
    return "\(value)"
  }
}

/// Only rises.
package final class Counter: @unchecked Sendable {
  // Loop-confined.
  package private(set) var value: UInt64 = 0
  package func add(_ amount: UInt64 = 1) { value &+= amount }
  /// - Parameter amount: not negative.
  package func add(_ amount: Int) { value &+= UInt64(amount) }
}

/// Rises and falls.
package final class Gauge: @unchecked Sendable {
  // Loop-confined.
  package var value: Double = 0
  package func add(_ amount: Double) { value += amount }
}

/// Counts values by size.
package final class Histogram: @unchecked Sendable {
  // Loop-confined.
  package let bounds: [Double]
  /// One more than `bounds`.
  package private(set) var counts: [UInt64]
  package private(set) var sum = 0.0

  /// Seconds: 50 µs to 50 s in steps of 1, 2, 5.
  package static let latencies: [Double] = [
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5,
    10, 20, 50,
  ]

  init(bounds: [Double]) {
    precondition(!bounds.isEmpty && zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 })
    self.bounds = bounds
    counts = Array(repeating: 0, count: bounds.count + 1)
  }

  package func observe(_ value: Double) {
    var low = 0
    var high = bounds.count
    while low < high {
      let middle = (low + high) / 2
      if value <= bounds[middle] { high = middle } else { low = middle + 1 }
    }
    counts[low] += 1
    sum += value
  }

  /// In seconds.
  package func observe(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    observe(Double(seconds) + Double(attoseconds) / 1e18)
  }
}
