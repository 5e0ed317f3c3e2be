import Service

/// What a signed form may hold ("Creating a POST policy" in S3's documentation).
struct PostPolicy {
  private enum Condition {
    case equals(field: String, value: String)
    case begins(field: String, value: String)
  }
  private let expiration: Double
  private var conditions: [Condition] = []
  private(set) var byteCounts: ClosedRange<UInt64>?

  /// Fields that no condition needs to name.
  private static let free: Set<String> = [
    "policy", "x-amz-signature", "signature", "awsaccesskeyid", "file",
  ]

  init(_ bytes: [UInt8]) throws(S3Error) {
    func invalid(_ why: String) -> S3Error {
      S3Error(.invalidPolicyDocument, "Invalid Policy: \(why)")
    }
    let json: JSON
    do throws(JSONError) {
      json = try JSON(parsing: bytes)
    } catch {
      throw invalid("\(error).")
    }
    guard case .object(let members) = json,
      members.allSatisfy({ ["expiration", "conditions"].contains($0.0) })
    else { throw invalid("Unexpected element.") }
    guard let text = json["expiration"]?.string, text.hasSuffix("Z"),
      let time = PolicyCondition.date(text)
    else { throw invalid("Invalid 'expiration' value.") }
    expiration = time
    guard let list = json["conditions"]?.elements else {
      throw invalid("Policy must include conditions.")
    }
    for condition in list {
      switch condition {
      case .object(let members):
        guard members.count == 1, let value = members[0].1.string else {
          throw invalid("Invalid Simple-Condition: one property with a string is wanted.")
        }
        conditions.append(.equals(field: members[0].0.lowercased(), value: value))
      case .array(let parts):
        guard parts.count == 3, let name = parts[0].string?.lowercased() else {
          throw invalid("Invalid condition: three elements are wanted.")
        }
        if name == "content-length-range" {
          guard let least = parts[1].whole, let most = parts[2].whole, least <= most,
            byteCounts == nil
          else {
            throw invalid("Invalid content-length-range.")
          }
          byteCounts = least...most
          continue
        }
        guard let field = parts[1].string, field.hasPrefix("$"), let value = parts[2].string else {
          throw invalid("Invalid condition on a field.")
        }
        let key = field.dropFirst().lowercased()
        switch name {
        case "eq": conditions.append(.equals(field: key, value: value))
        case "starts-with": conditions.append(.begins(field: key, value: value))
        default: throw invalid("Unknown condition \(name).")
        }
      default: throw invalid("Invalid condition.")
      }
    }
  }

  /// - Parameters:
  ///   - fields: of the form, by name in lower case, `bucket` among them.
  ///   - now: seconds since 1970.
  /// - Throws: AccessDenied when one is not as a condition wants it, or no condition is about it.
  func check(_ fields: [String: String], now: Double) throws(S3Error) {
    func refused(_ why: String) -> S3Error {
      S3Error(.accessDenied, "Invalid according to Policy: \(why)")
    }
    guard now < expiration else { throw refused("Policy expired.") }
    var named: Set<String> = []
    for condition in conditions {
      switch condition {
      case .equals(let field, let value):
        named.insert(field)
        guard let found = fields[field], found.utf8.elementsEqual(value.utf8) else {
          throw refused("Policy Condition failed: [\"eq\", \"$\(field)\", \"\(value)\"]")
        }
      case .begins(let field, let value):
        named.insert(field)
        // A field that is not there is an empty one: what may be anything may be missing.
        guard (fields[field] ?? "").utf8.starts(with: value.utf8) else {
          throw refused("Policy Condition failed: [\"starts-with\", \"$\(field)\", \"\(value)\"]")
        }
      }
    }
    for name in fields.keys.sorted()
    where !named.contains(name) && !Self.free.contains(name) && !name.hasPrefix("x-ignore-")
      && name != "bucket"
    {
      throw refused("Extra input fields: \(name)")
    }
  }
}
