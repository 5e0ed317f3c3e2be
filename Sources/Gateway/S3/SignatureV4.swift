import Coding
import HTTP
import Service

/// Signature Version 4, as AWS documents it ("Authenticating Requests: Using the Authorization Header" and "… Query
/// Parameters"): the texts that are signed, and the keys.
enum SignatureV4 {
  static let algorithm = "AWS4-HMAC-SHA256"
  static let emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  /// What a signature is good for: "KEY/20261120/us-east-1/s3/aws4_request".
  struct Scope: Equatable {
    var accessKey: String
    var day: String
    var region: String
    var text: String { "\(day)/\(region)/s3/aws4_request" }

    /// Nil when it is none. An access key may hold slashes.
    init?(_ credential: String) {
      let parts = credential.utf8.split(
        separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
      guard parts.count >= 5, parts[parts.count - 1].elementsEqual("aws4_request".utf8),
        parts[parts.count - 2].elementsEqual("s3".utf8)
      else { return nil }
      let day = parts[parts.count - 4]
      accessKey = String(credential[..<credential.utf8.index(before: day.startIndex)])
      self.day = String(Substring(day))
      region = String(Substring(parts[parts.count - 3]))
      guard !accessKey.isEmpty, day.count == 8, !region.isEmpty else { return nil }
    }
  }

  static func signingKey(secret: String, scope: Scope) -> [UInt8] {
    var key = Array("AWS4\(secret)".utf8)
    for part in [scope.day, scope.region, "s3", "aws4_request"] {
      key = HMACSHA256.authenticate(Array(part.utf8), key: key)
    }
    return key
  }

  static func sign(_ text: String, key: [UInt8]) -> String {
    hexText(HMACSHA256.authenticate(Array(text.utf8), key: key))
  }

  static func stringToSign(canonical: [UInt8], date: String, scope: Scope) -> String {
    "\(algorithm)\n\(date)\n\(scope.text)\n\(Fingerprint(of: canonical).hex)"
  }

  /// - Parameters:
  ///   - signedHeaders: lower case, in order.
  ///   - leavingOut: a query item that is not signed: the signature itself.
  /// - Returns: UTF-8.
  static func canonicalRequest(
    _ request: S3Request, signedHeaders: [String], payload: String, leavingOut: String? = nil
  ) -> [UInt8] {
    let newline = UInt8(ascii: "\n")
    var text = Array(request.method.utf8)
    text.append(newline)
    text += URLCoding.encode(request.pathBytes, keepingSlash: true).utf8
    text.append(newline)
    text += canonicalQuery(request.query, leavingOut: leavingOut).utf8
    text.append(newline)
    for name in signedHeaders {
      text += name.utf8
      text.append(UInt8(ascii: ":"))
      for (index, value) in request.fields.values(name).enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        append(folded: value, to: &text)
      }
      text.append(newline)
    }
    text.append(newline)
    text += signedHeaders.joined(separator: ";").utf8
    text.append(newline)
    text += payload.utf8
    return text
  }

  private static func canonicalQuery(_ items: [S3Request.QueryItem], leavingOut: String?)
    -> String
  {
    items.filter { item in leavingOut.map { !item.name.elementsEqual($0.utf8) } ?? true }
      .map { (name: URLCoding.encode($0.name), value: URLCoding.encode($0.value)) }
      .sorted { left, right in
        left.name == right.name
          ? left.value.utf8.lexicographicallyPrecedes(right.value.utf8)
          : left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
      }
      .map { "\($0.name)=\($0.value)" }.joined(separator: "&")
  }

  /// Without spaces at its ends, each run of spaces within it as one.
  private static func append(folded value: String, to text: inout [UInt8]) {
    let start = text.count
    var isAfterSpace = true
    for byte in value.utf8 {
      let isSpace = byte == UInt8(ascii: " ")
      if !(isSpace && isAfterSpace) { text.append(byte) }
      isAfterSpace = isSpace
    }
    if isAfterSpace && text.count > start { text.removeLast() }
  }
}

/// What a request that bears a signature says of itself.
struct SignedClaim {
  var scope: SignatureV4.Scope
  /// "20261120T130000Z"
  var date: String
  var signedHeaders: [String]
  var signature: String
  /// In the address rather than a header: how long it is good for.
  var lifetime: Duration?
  /// What stands for the body in the signed text.
  var payload: String

  /// Nil when the request bears no signature at all.
  init?(_ request: S3Request) throws(S3Error) {
    let authorization = try request.header("Authorization")
    let isPresigned = request.has("X-Amz-Algorithm") || request.has("X-Amz-Signature")
    if let authorization {
      if isPresigned {
        throw S3Error(
          .invalidArgument,
          "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified"
        )
      }
      try self.init(header: authorization, request)
    } else if isPresigned {
      try self.init(query: request)
    } else {
      // Signature Version 2, which AWS itself no longer takes for new buckets.
      if request.has("AWSAccessKeyId") || request.has("Signature") { throw Self.versionTwo }
      return nil
    }
  }

  static let versionTwo = S3Error(
    .invalidRequest,
    "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")

  private init(header: String, _ request: S3Request) throws(S3Error) {
    if header.hasPrefix("AWS ") { throw Self.versionTwo }
    guard header.hasPrefix(SignatureV4.algorithm + " ") else { throw Self.versionTwo }
    var found: [String: String] = [:]
    // By bytes: to find where characters end takes longer than all else here.
    let parts = header.utf8.dropFirst(SignatureV4.algorithm.utf8.count + 1)
      .split(separator: UInt8(ascii: ","))
    for part in parts {
      let sides = part.split(
        separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
      let name = Self.withoutSpaces(sides[0])
      guard sides.count == 2, found.updateValue(String(Substring(sides[1])), forKey: name) == nil
      else { throw S3Error(.authorizationHeaderMalformed) }
    }
    guard let credential = found["Credential"], let headers = found["SignedHeaders"],
      let signature = found["Signature"], let scope = SignatureV4.Scope(credential)
    else { throw S3Error(.authorizationHeaderMalformed) }
    self.scope = scope
    self.signature = Self.withoutSpaces(signature.utf8)
    signedHeaders = Self.names(headers)
    if let date = try request.header("x-amz-date") {
      self.date = date
    } else if let text = try request.header("Date"), let time = CivilTime(http: text) {
      date = time.basic
    } else {
      throw S3Error(
        .accessDenied, "AWS authentication requires a valid Date or x-amz-date header")
    }
    guard let payload = try request.header("x-amz-content-sha256") else {
      throw S3Error(
        .missingSecurityHeader, "Missing required header for this request: x-amz-content-sha256")
    }
    self.payload = payload
    try check(request)
  }

  private static func withoutSpaces(_ text: some Sequence<UInt8>) -> String {
    String(decoding: text.filter { $0 != UInt8(ascii: " ") }, as: UTF8.self)
  }

  private static func names(_ list: String) -> [String] {
    list.utf8.split(separator: UInt8(ascii: ";")).map { Substring($0).lowercased() }
  }

  private init(query request: S3Request) throws(S3Error) {
    func item(_ name: String) throws(S3Error) -> String {
      guard let value = try request.value(name), !value.isEmpty else {
        throw S3Error(
          .authorizationQueryParametersError,
          "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
        )
      }
      return value
    }
    guard try item("X-Amz-Algorithm") == SignatureV4.algorithm else {
      throw S3Error(
        .authorizationQueryParametersError, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
    }
    guard let scope = SignatureV4.Scope(try item("X-Amz-Credential")) else {
      throw S3Error(.authorizationQueryParametersError, "Error parsing the X-Amz-Credential")
    }
    guard let seconds = Int(try item("X-Amz-Expires")), (0...604_800).contains(seconds) else {
      throw S3Error(
        .authorizationQueryParametersError,
        "X-Amz-Expires must be a number of seconds, at most a week (604800)")
    }
    self.scope = scope
    date = try item("X-Amz-Date")
    signature = try item("X-Amz-Signature")
    signedHeaders = Self.names(try item("X-Amz-SignedHeaders"))
    lifetime = .seconds(seconds)
    payload = try request.header("x-amz-content-sha256") ?? Payload.unsignedText
    try check(request)
  }

  private func check(_ request: S3Request) throws(S3Error) {
    let malformed =
      lifetime == nil
      ? S3Error(.authorizationHeaderMalformed) : S3Error(.authorizationQueryParametersError)
    guard CivilTime(basic: date) != nil, date.hasPrefix(scope.day) else { throw malformed }
    guard signedHeaders.contains("host") else { throw malformed }
    // Else somebody in between could add one.
    for line in request.fields.lines {
      guard let first = line.name.utf8.first, first | 0x20 == UInt8(ascii: "x") else { continue }
      let name = line.name.lowercased()
      guard
        !name.hasPrefix("x-amz-") || signedHeaders.contains(name)
          || (lifetime != nil && name == "x-amz-content-sha256")
      else {
        throw S3Error(
          .accessDenied, "There were headers present in the request which were not signed"
        ).with("HeadersNotSigned", name)
      }
    }
  }

  /// Whether `secret` made this signature.
  ///
  /// - Returns: the key, for what else is signed with it.
  func verify(_ request: S3Request, secret: String) throws(S3Error) -> [UInt8] {
    let canonical = SignatureV4.canonicalRequest(
      request, signedHeaders: signedHeaders, payload: payload,
      leavingOut: lifetime == nil ? nil : "X-Amz-Signature")
    let text = SignatureV4.stringToSign(canonical: canonical, date: date, scope: scope)
    let key = SignatureV4.signingKey(secret: secret, scope: scope)
    guard let claimed = hexBytes(signature),
      HMACSHA256.isValid(claimed, for: Array(text.utf8), key: key)
    else {
      throw S3Error(.signatureDoesNotMatch)
        .with("AWSAccessKeyId", scope.accessKey).with("StringToSign", text)
        .with("SignatureProvided", signature)
        .with("CanonicalRequest", String(decoding: canonical, as: UTF8.self))
    }
    return key
  }

  /// - Parameter now: since 1970.
  func checkTime(_ now: Duration) throws(S3Error) {
    guard let time = CivilTime(basic: date)?.sinceEpoch else { throw S3Error(.accessDenied) }
    if let lifetime {
      if now > time + lifetime {
        throw S3Error(.accessDenied, "Request has expired")
          .with("X-Amz-Expires", String(lifetime.components.seconds))
          .with("Expires", CivilTime(time + lifetime).rfc3339)
          .with("ServerTime", CivilTime(now).rfc3339)
      }
      guard time - now <= Self.skewLimit else {
        throw S3Error(.accessDenied, "Request is not valid yet")
      }
    } else if now - time > Self.skewLimit || time - now > Self.skewLimit {
      throw S3Error(.requestTimeTooSkewed).with("RequestTime", date)
        .with("ServerTime", CivilTime(now).rfc3339)
        .with("MaxAllowedSkewMilliseconds", "900000")
    }
  }

  private static let skewLimit = Duration.seconds(900)
}
