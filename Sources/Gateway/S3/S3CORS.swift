import HTTP
import Messages

/// Which pages of other origins may ask for what is in a bucket: the rules of a `CORSConfiguration`.
struct S3CORS: Equatable, Sendable {
  var rules: [Rule] = []

  struct Rule: Equatable, Sendable {
    var id: String?
    var origins: [String] = []
    var methods: [String] = []
    var headers: [String] = []
    var exposed: [String] = []
    /// Seconds.
    var maxAge: UInt32?
  }

  static let ruleLimit = 100
  static let documentByteLimit = 64 << 10
  static let methods = ["GET", "PUT", "POST", "DELETE", "HEAD"]

  init(document: [UInt8]) throws(S3Error) {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(document, root: "CORSConfiguration", elementLimit: 4000)
    } catch {
      throw S3Error(.malformedXML)
    }
    guard (1...Self.ruleLimit).contains(tree.children.count) else {
      throw S3Error(.malformedXML)
    }
    for item in tree.children {
      guard item.name == "CORSRule" else { throw S3Error(.malformedXML) }
      rules.append(try Rule(item))
    }
  }

  var document: [UInt8] {
    var xml = XMLText("CORSConfiguration")
    for rule in rules {
      xml.group("CORSRule") { xml in
        if let id = rule.id { xml.element("ID", id) }
        for origin in rule.origins { xml.element("AllowedOrigin", origin) }
        for method in rule.methods { xml.element("AllowedMethod", method) }
        for header in rule.headers { xml.element("AllowedHeader", header) }
        for header in rule.exposed { xml.element("ExposeHeader", header) }
        if let maxAge = rule.maxAge { xml.element("MaxAgeSeconds", maxAge) }
      }
    }
    return xml.finish()
  }

  /// The first rule that lets a page of this origin do this.
  ///
  /// - Parameter headers: those that it wants to send, of a preflight.
  func rule(origin: String, method: String, headers: [String] = []) -> Rule? {
    rules.first { rule in
      rule.origins.contains { Self.matches($0, origin) } && rule.methods.contains(method)
        && headers.allSatisfy { header in
          rule.headers.contains { Self.matches($0.lowercased(), header.lowercased()) }
        }
    }
  }

  /// Whether a text is as a pattern has it, whose one `*` may stand for anything.
  static func matches(_ pattern: String, _ text: String) -> Bool {
    let sides = pattern.split(separator: "*", maxSplits: 1, omittingEmptySubsequences: false)
    guard sides.count == 2 else { return pattern == text }
    return text.utf8.count >= pattern.utf8.count - 1 && text.hasPrefix(sides[0])
      && text.hasSuffix(sides[1])
  }
}

extension S3CORS.Rule {
  fileprivate init(_ item: XMLTree) throws(S3Error) {
    for child in item.children {
      guard child.children.isEmpty, child.text.utf8.count <= 2048,
        child.text.utf8.allSatisfy({ $0 >= 32 && $0 != 127 })
      else { throw S3Error(.malformedXML) }
      let text = child.text
      switch child.name {
      case "ID":
        guard id == nil, text.utf8.count <= 255 else { throw S3Error(.malformedXML) }
        id = text
      case "AllowedOrigin":
        guard text.utf8.count(where: { $0 == UInt8(ascii: "*") }) <= 1 else {
          throw S3Error(
            .invalidRequest, "AllowedOrigin \"\(text)\" can not have more than one wildcard.")
        }
        origins.append(text)
      case "AllowedMethod":
        guard S3CORS.methods.contains(text) else {
          throw S3Error(
            .invalidRequest,
            "Found unsupported HTTP method in CORS config. Unsupported method is \(text)")
        }
        methods.append(text)
      case "AllowedHeader":
        guard text.utf8.count(where: { $0 == UInt8(ascii: "*") }) <= 1 else {
          throw S3Error(
            .invalidRequest, "AllowedHeader \"\(text)\" can not have more than one wildcard.")
        }
        headers.append(text)
      case "ExposeHeader":
        guard !text.utf8.contains(UInt8(ascii: "*")) else {
          throw S3Error(
            .invalidRequest,
            "ExposeHeader \"\(text)\" contains wildcard. We currently do not support wildcard for ExposeHeader."
          )
        }
        exposed.append(text)
      case "MaxAgeSeconds":
        guard maxAge == nil, let seconds = UInt32(text), seconds <= UInt32(Int32.max) else {
          throw S3Error(.malformedXML)
        }
        maxAge = seconds
      default: throw S3Error(.malformedXML)
      }
    }
    guard !origins.isEmpty, !methods.isEmpty else { throw S3Error(.malformedXML) }
  }

  /// What a browser is told of a request of that origin.
  func fields(origin: String) -> [HTTPFields.Line] {
    let isForAll = origins.contains("*")
    var lines: [HTTPFields.Line] = [
      .init("Access-Control-Allow-Origin", isForAll ? "*" : origin),
      .init("Access-Control-Allow-Methods", methods.joined(separator: ", ")),
      .init(
        "Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"),
    ]
    if !isForAll { lines.append(.init("Access-Control-Allow-Credentials", "true")) }
    if !exposed.isEmpty {
      lines.append(.init("Access-Control-Expose-Headers", exposed.joined(separator: ", ")))
    }
    if let maxAge { lines.append(.init("Access-Control-Max-Age", String(maxAge))) }
    return lines
  }
}
