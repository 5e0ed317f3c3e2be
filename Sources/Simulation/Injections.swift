package import Ring

/// How often each injection point is met, per million passes, and how often it was.
package struct Injections: Sendable {
  private var rates = [Int](repeating: 0, count: InjectionPoint.allCases.count)
  private var hits = [Int](repeating: 0, count: InjectionPoint.allCases.count)
  /// Whether any rate is above 0.
  private(set) var isOn = false

  package init() {}

  /// Of a million passes of `point`, in how many it is met; 0 at the start.
  package subscript(point: InjectionPoint) -> Int {
    get { rates[Int(point.rawValue)] }
    set {
      precondition((0...1_000_000).contains(newValue))
      rates[Int(point.rawValue)] = newValue
      isOn = rates.contains { $0 > 0 }
    }
  }

  /// Sets every rate to 0; the counts stay.
  package mutating func stop() {
    for point in InjectionPoint.allCases { self[point] = 0 }
  }

  mutating func count(_ point: InjectionPoint) { hits[Int(point.rawValue)] += 1 }

  /// How often `point` was met in all processes.
  package func hits(of point: InjectionPoint) -> Int { hits[Int(point.rawValue)] }

  /// What was met at least once, in the order of the points.
  package var met: [(point: InjectionPoint, count: Int)] {
    InjectionPoint.allCases.compactMap { hits(of: $0) > 0 ? ($0, hits(of: $0)) : nil }
  }
}
