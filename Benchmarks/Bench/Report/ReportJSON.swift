/// JSON as fio prints it: two spaces a level, a space on both sides of the colon, six places behind the point.
package indirect enum ReportJSON: Sendable {
  case object([(String, ReportJSON)])
  case array([ReportJSON])
  case string(String)
  case integer(UInt64)
  case double(Double)

  static func whole(_ value: Double) -> ReportJSON {
    .integer(value > 0 && value < 1.8e19 ? UInt64(value) : 0)
  }

  package var text: String {
    var out = ""
    write(to: &out, level: 0)
    return out
  }

  private func write(to out: inout String, level: Int) {
    let inner = String(repeating: "  ", count: level + 1)
    let outer = String(repeating: "  ", count: level)
    switch self {
    case .object(let members):
      out += "{\n"
      for (index, member) in members.enumerated() {
        out += inner + Self.quoted(member.0) + " : "
        member.1.write(to: &out, level: level + 1)
        out += index < members.count - 1 ? ",\n" : "\n"
      }
      out += outer + "}"
    case .array(let elements):
      out += "[\n"
      for (index, element) in elements.enumerated() {
        out += inner
        element.write(to: &out, level: level + 1)
        out += index < elements.count - 1 ? ",\n" : "\n"
      }
      out += outer + "]"
    case .string(let text): out += Self.quoted(text)
    case .integer(let value): out += String(value)
    case .double(let value): out += FixedPoint.text(value, places: 6)
    }
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\t": out += "\\t"
      case "\r": out += "\\r"
      default:
        if scalar.value < 0x20 {
          let digits = String(scalar.value, radix: 16)
          out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          out.unicodeScalars.append(scalar)
        }
      }
    }
    return out + "\""
  }
}
