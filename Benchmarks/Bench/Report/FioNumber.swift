/// A number with so many places behind the point, rounded.
enum FixedPoint {
  static func text(_ value: Double, places: Int) -> String {
    let scale = (0..<places).reduce(1.0) { power, _ in power * 10 }
    guard value.isFinite, abs(value) < 9e18 / scale else {
      return value.isFinite ? "\(value)" : "0"
    }
    let scaled = UInt64((abs(value) * scale).rounded())
    let sign = value < 0 && scaled > 0 ? "-" : ""
    let unit = UInt64(scale)
    if places == 0 { return sign + "\(scaled)" }
    let fraction = String(scaled % unit)
    return sign + "\(scaled / unit)." + String(repeating: "0", count: places - fraction.count)
      + fraction
  }
}

/// Numbers as fio's human report has them: "23.1k", "90.4MiB", "1223MB".
enum FioNumber {
  /// - Parameter width: characters at most, the unit not counted.
  static func text(_ value: Double, base: Double = 1000, units: [String], width: Int = 4) -> String
  {
    var value = max(0, value)
    var unit = 0
    let limit = (0..<width).reduce(1.0) { power, _ in power * 10 }
    while value.rounded() >= limit && unit < units.count - 1 {
      value /= base
      unit += 1
    }
    if unit == 0 { return FixedPoint.text(value, places: 0) + units[0] }
    let digits = FixedPoint.text(value.rounded(.down), places: 0).count
    return FixedPoint.text(value, places: max(0, width - digits - 1)) + units[unit]
  }

  static func count(_ value: Double, width: Int = 4) -> String {
    text(value, units: ["", "k", "M", "G", "T"], width: width)
  }

  static func binaryBytes(_ value: Double) -> String {
    text(value, base: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
  }

  static func decimalBytes(_ value: Double) -> String {
    text(value, units: ["B", "kB", "MB", "GB", "TB", "PB"])
  }

  static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
