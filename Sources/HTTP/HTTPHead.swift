/// Header fields in order; names are compared without case.
package struct HTTPFields: Sendable, Equatable {
  package var lines: [Line]

  package struct Line: Sendable, Equatable {
    package var name: String
    package var value: String
    package init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }

    /// Whether that is its name, but for the case of ASCII letters; names have no others (RFC 9110, 5.6.2).
    package func isNamed(_ wanted: String) -> Bool {
      name.utf8.count == wanted.utf8.count
        && name.utf8.elementsEqual(wanted.utf8) { lowerCase($0) == lowerCase($1) }
    }
  }

  package init(_ lines: [Line] = []) { self.lines = lines }

  /// All values of that name, in order.
  package func values(_ name: String) -> [String] {
    var found: [String] = []
    for line in lines where line.isNamed(name) { found.append(line.value) }
    return found
  }
  /// Nil when there is none, or more than one.
  package subscript(name: String) -> String? {
    var found: String?
    for line in lines where line.isNamed(name) {
      if found != nil { return nil }
      found = line.value
    }
    return found
  }
  package func has(_ name: String) -> Bool { lines.contains { $0.isNamed(name) } }
  package mutating func add(_ name: String, _ value: String) { lines.append(Line(name, value)) }
  /// All of that name.
  package mutating func remove(_ name: String) {
    lines.removeAll { $0.isNamed(name) }
  }

  /// Whether a list such as `Connection: keep-alive, close` names `token`.
  package func list(_ name: String, has token: String) -> Bool {
    values(name).contains { value in
      value.split(separator: ",").contains {
        $0.trimmed.lowercased() == token
      }
    }
  }
}

private func lowerCase(_ byte: UInt8) -> UInt8 {
  (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
}

extension Substring {
  /// Without spaces and tabs at its ends.
  var trimmed: Substring {
    var rest = self
    while rest.first == " " || rest.first == "\t" { rest.removeFirst() }
    while rest.last == " " || rest.last == "\t" { rest.removeLast() }
    return rest
  }
}

/// The first line and the fields of a request.
package struct HTTPRequestHead: Sendable, Equatable {
  package var method: String
  /// As it stood, percent signs and all.
  package var target: String
  /// Of HTTP/1: 0 or 1.
  package var minorVersion: UInt8
  package var fields: HTTPFields

  package init(method: String, target: String, minorVersion: UInt8 = 1, fields: HTTPFields) {
    self.method = method
    self.target = target
    self.minorVersion = minorVersion
    self.fields = fields
  }

  /// What the parser reads back as this.
  package var encoded: [UInt8] {
    encode("\(method) \(target) HTTP/1.\(minorVersion)", fields)
  }
}

/// The first line and the fields of an answer.
package struct HTTPResponseHead: Sendable, Equatable {
  /// 100 ... 999.
  package var status: Int
  package var reason: String
  package var minorVersion: UInt8
  package var fields: HTTPFields

  package init(status: Int, reason: String, minorVersion: UInt8 = 1, fields: HTTPFields) {
    self.status = status
    self.reason = reason
    self.minorVersion = minorVersion
    self.fields = fields
  }

  package var encoded: [UInt8] {
    encode("HTTP/1.\(minorVersion) \(status) \(reason)", fields)
  }
}

private func encode(_ first: String, _ fields: HTTPFields) -> [UInt8] {
  var bytes: [UInt8] = []
  bytes.reserveCapacity(512)
  bytes += first.utf8
  bytes += [carriageReturn, newline]
  for line in fields.lines {
    bytes += plain(line.name).utf8
    bytes += [UInt8(ascii: ":"), space]
    bytes += plain(line.value).utf8
    bytes += [carriageReturn, newline]
  }
  bytes += [carriageReturn, newline]
  return bytes
}

/// With spaces for control characters: what is kept somewhere and told in a field must not begin another one, or a body.
private func plain(_ text: String) -> String {
  guard text.utf8.contains(where: { $0 < 32 && $0 != 9 || $0 == 127 }) else { return text }
  return String(
    decoding: text.utf8.map { $0 < 32 && $0 != 9 || $0 == 127 ? UInt8(ascii: " ") : $0 },
    as: UTF8.self)
}

/// How the bytes of a body end (RFC 9112, 6).
package enum HTTPBodyFraming: Sendable, Equatable {
  case length(UInt64)
  case chunked
  /// An answer's only.
  case untilClosed

  /// - Throws: for what two readers could understand in two ways, which lets requests be smuggled.
  package init(request: HTTPRequestHead) throws(HTTPError) {
    self = try Self.declared(request.fields, minorVersion: request.minorVersion) ?? .length(0)
  }

  /// - Parameter isHead: the request was HEAD.
  package init(response: HTTPResponseHead, isHead: Bool = false) throws(HTTPError) {
    let declared = try Self.declared(response.fields, minorVersion: response.minorVersion)
    let hasNone =
      isHead || response.status < 200 || response.status == 204 || response.status == 304
    self = hasNone ? .length(0) : declared ?? .untilClosed
  }

  private static func declared(_ fields: HTTPFields, minorVersion: UInt8) throws(HTTPError)
    -> HTTPBodyFraming?
  {
    let lengths = fields.values("Content-Length")
    let codings = fields.values("Transfer-Encoding")
    if !codings.isEmpty {
      guard minorVersion == 1, lengths.isEmpty, codings.count == 1,
        // Letters of ASCII alone: others become these in lower case.
        codings[0].utf8.map({ $0 | 0x20 }) == Array("chunked".utf8)
      else { throw .malformed("a body whose end is not clear") }
      return .chunked
    }
    guard let first = lengths.first else { return nil }
    guard lengths.count == 1, !first.isEmpty, first.utf8.count <= 18,
      first.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
      let length = UInt64(first)
    else { throw .malformed("a body whose length is not clear") }
    return .length(length)
  }
}

/// Why there is no answer, or none that can be used.
package enum HTTPError: Error, Equatable, CustomStringConvertible {
  /// The request surely never left.
  case unreachable(String)
  /// The request left, and no whole answer came: whether it was carried out is unknown.
  case lost(String)
  /// The peer broke the protocol or a limit. Whether the request was carried out is unknown.
  case malformed(String)
  case cancelled

  package var description: String {
    switch self {
    case .unreachable(let reason), .lost(let reason), .malformed(let reason): reason
    case .cancelled: "cancelled"
    }
  }
}
