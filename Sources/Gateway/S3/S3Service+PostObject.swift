import Coding
import DataPath
import HTTP
import Messages
import Ring
import Service

/// Uploads from a browser's form, signed by a policy in it.
extension S3Service {
  static func isForm(_ request: S3Request) -> Bool {
    request.fields["Content-Type"]?.lowercased().hasPrefix("multipart/form-data") == true
  }

  func postObject(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    guard call.identity.requester == .anonymous else {
      throw S3Error(.invalidArgument, "A form is signed by fields in it, not by the request.")
    }
    let form = try PostForm(
      call.exchange.body, contentType: try call.request.header("Content-Type") ?? "",
      pool: driver.buffers)
    try await form.readFields()
    var fields = form.fields
    fields["bucket"] = bucket
    guard let template = fields["key"], !template.isEmpty else {
      throw S3Error(
        .invalidArgument,
        "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the fields."
      ).with("ArgumentName", "key")
    }
    let file = form.fileName.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last ?? ""
    let key = template.replacing("${filename}", with: file)
    guard key.utf8.count <= 1024 else { throw S3Error(.keyTooLong) }

    let (identity, policy) = try await formSigner(fields)
    try policy?.check(fields, now: Double(driver.wallClock.components.seconds))
    var put = call
    put.identity = identity
    put.request = try Self.request(call.request, key: key, fields)
    put.context = try context(
      put.request,
      Authenticated(payload: .unsigned, accessKey: "", identity: identity), call.exchange)
    if identity.requester != .anonymous { put.context["s3:authtype"] = "POST" }
    try await authorize(&put)
    try await store(put, form, policy)
  }

  /// Whose signature the form bears, and the policy that it is under. A form without one is anonymous.
  private func formSigner(_ fields: [String: String]) async throws(S3Error) -> (
    Identity, PostPolicy?
  ) {
    guard let text = fields["policy"] else { return (.anonymous, nil) }
    if fields["awsaccesskeyid"] != nil || fields["signature"] != nil {
      throw SignedClaim.versionTwo
    }
    func field(_ name: String) throws(S3Error) -> String {
      guard let value = fields[name], !value.isEmpty else {
        throw S3Error(
          .invalidArgument, "Bucket POST must contain a field named '\(name)'."
        )
        .with("ArgumentName", name)
      }
      return value
    }
    guard try field("x-amz-algorithm") == SignatureV4.algorithm,
      let scope = SignatureV4.Scope(try field("x-amz-credential")),
      let date = CivilTime(basic: try field("x-amz-date")), date.basic.hasPrefix(scope.day),
      scope.region == configuration.region
    else { throw S3Error(.authorizationQueryParametersError) }
    let found = try await ask { () async throws(BackendError) in
      try await self.gatekeeper.identity(scope.accessKey)
    }
    guard let identity = found else {
      throw S3Error(.invalidAccessKeyId).with("AWSAccessKeyId", scope.accessKey)
    }
    let key = SignatureV4.signingKey(secret: identity.secret, scope: scope)
    guard let claimed = hexBytes(try field("x-amz-signature")),
      HMACSHA256.isValid(claimed, for: Array(text.utf8), key: key)
    else { throw S3Error(.signatureDoesNotMatch).with("StringToSign", text) }
    guard let bytes = Base64.decode(text) else {
      throw S3Error(.invalidPolicyDocument, "Invalid Policy: Invalid base64.")
    }
    return (identity, try PostPolicy(bytes))
  }

  /// The request that would store the same: fields of the form are its headers.
  private static func request(_ given: S3Request, key: String, _ fields: [String: String])
    throws(S3Error) -> S3Request
  {
    var request = given
    request.method = "PUT"
    request.key = key
    request.query = []
    var headers = HTTPFields()
    for line in given.fields.lines
    where ["user-agent", "referer"].contains(line.name.lowercased()) { headers.lines.append(line) }
    for name in fields.keys.sorted() {
      guard let value = fields[name] else { continue }
      let header = name == "acl" ? "x-amz-acl" : name
      let isKept =
        [
          "content-type", "cache-control", "content-disposition", "content-encoding",
          "content-language", "expires", "content-md5",
        ].contains(name)
        || header.hasPrefix("x-amz-") && !signing.contains(name)
      guard isKept else { continue }
      guard value.utf8.allSatisfy({ $0 >= 32 && $0 != 127 || $0 == 9 }) else {
        throw S3Error(.invalidArgument, "The field \(name) holds a control character.")
          .with("ArgumentName", name)
      }
      headers.add(header, value)
    }
    request.fields = headers
    return request
  }

  private static let signing: Set<String> = [
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature",
    // Of the file as a form carries it they would say nothing.
    "x-amz-content-sha256", "x-amz-decoded-content-length", "x-amz-trailer", "x-amz-copy-source",
  ]

  private func store(_ put: Call, _ form: PostForm, _ policy: PostPolicy?) async throws(S3Error) {
    guard let name = put.request.name else { throw S3Error(.invalidURI) }
    let facts = try ObjectFacts(put.request, now: driver.wallClock.wholeMilliseconds)
    var claims = try BodyClaims(put.request)
    claims.byteLimit = min(Self.putByteLimit, policy?.byteCounts?.upperBound ?? .max)
    let least = policy?.byteCounts?.lowerBound ?? 0
    let encryption = try await encryptionFields(put)
    let listeners = try await listeners(put)
    let made: MadeVersion
    let source = BodySource(
      pull: form, length: nil, claims, .unsigned, pool: driver.buffers, lanes: digestLanes)
    do throws(BackendError) {
      made = try await backend.put(name, source: source, precondition: .none) {
        () async throws(DataPathError) -> ObjectAttributes in
        guard source.readByteCount >= least else { throw .source("too small") }
        try await source.check()
        return facts.with(source).attributes
      }
    } catch {
      if source.failure == nil, source.readByteCount < least, case .source = error {
        throw S3Error(.entityTooSmall).with("ProposedSize", String(source.readByteCount))
          .with("MinSizeAllowed", String(least))
      }
      throw source.failure ?? S3Error(backend: error)
    }
    await tell(
      NotificationEvent(
        event: .post, name: name, version: made.name, byteCount: source.readByteCount,
        etag: facts.with(source).etag), listeners, put)
    await answer(put, name, facts.with(source), form.fields, encryption)
  }

  private func answer(
    _ put: Call, _ name: ObjectName, _ facts: ObjectFacts, _ fields: [String: String],
    _ encryption: [HTTPFields.Line]
  ) async {
    let host = put.exchange.head.fields["Host"] ?? ""
    let path = URLCoding.encode(name.key.utf8, keepingSlash: true)
    let location =
      "\(put.exchange.isSecure ? "https" : "http")://\(host)/\(name.bucket)/\(path)"
    if let target = fields["success_action_redirect"] ?? fields["redirect"],
      target.hasPrefix("http://") || target.hasPrefix("https://"),
      target.utf8.allSatisfy({ $0 > 32 && $0 < 127 })
    {
      let items = [("bucket", name.bucket), ("key", name.key), ("etag", facts.quotedETag)]
        .map { "\($0)=\(URLCoding.encode($1.utf8))" }.joined(separator: "&")
      return await put.answer(
        303, [.init("Location", target + (target.contains("?") ? "&" : "?") + items)])
    }
    let lines = facts.storedFields + [.init("Location", location)] + encryption
    switch fields["success_action_status"] {
    case "200": await put.answer(200, lines)
    case "201":
      var xml = XMLText("PostResponse", namespace: nil)
      xml.element("Location", location)
      xml.element("Bucket", name.bucket)
      xml.element("Key", name.key)
      xml.element("ETag", facts.quotedETag)
      await put.answer(xml: xml.finish(), status: 201, lines)
    default: await put.answer(204, lines)
    }
  }
}
