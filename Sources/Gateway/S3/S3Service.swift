import DataPath
package import HTTP
import Messages
import Ring
import Service

/// From a request to its operation and back. Loop-confined.
package final class S3Service: HTTPHandler, @unchecked Sendable {
  // Loop-confined.
  let configuration: GatewayConfiguration
  let backend: any ObjectBackend
  let driver: any Driver
  let digestLanes = DigestLanes()
  let gatekeeper: Gatekeeper
  /// Asked for before anybody knows who asks, so not from the backend each time.
  let corsRules: AccessCache<S3CORS>
  /// Of buckets, to be told with each answer.
  let keyDomains: AccessCache<String>
  let notifier: Notifier
  private let log: Log

  init(
    _ configuration: GatewayConfiguration, backend: any ObjectBackend, driver: any Driver, log: Log,
    targets: [NotificationTarget]
  ) {
    self.configuration = configuration
    self.backend = backend
    self.driver = driver
    self.log = log
    gatekeeper = Gatekeeper(configuration.keys, backend, driver, log)
    corsRules = AccessCache(driver, lifetime: Gatekeeper.lifetime)
    keyDomains = AccessCache(driver, lifetime: Gatekeeper.lifetime)
    notifier = Notifier(targets, backend, driver, log)
  }

  /// One request under way.
  struct Call {
    var exchange: HTTPExchange
    var request: S3Request
    var payload: Payload
    var requestID: String
    /// What every answer to it has besides.
    var extra: [HTTPFields.Line]
    /// Whose signature it bears.
    var accessKey: String
    var identity: Identity
    /// What conditions of policies may ask about.
    var context: RequestContext
    /// Of the bucket that it is about.
    var rules = BucketRules()
    var method: String { request.method }

    func fields(_ more: [HTTPFields.Line] = []) -> HTTPFields {
      S3Service.fields(requestID, extra + more)
    }
    func answer(_ status: Int, _ more: [HTTPFields.Line] = []) async {
      do throws(HTTPError) {
        try await exchange.answer(status, fields(more))
      } catch {
        // The client is gone.
      }
    }
    func answer(xml: [UInt8], status: Int = 200, _ more: [HTTPFields.Line] = []) async {
      do throws(HTTPError) {
        try await exchange.answer(
          status, fields([S3Service.xmlType] + more), xml)
      } catch {
        // The client is gone.
      }
    }
  }

  /// With what every answer has.
  static func fields(_ requestID: String, _ more: [HTTPFields.Line]) -> HTTPFields {
    HTTPFields([.init("x-amz-request-id", requestID), .init("Server", "Cairn")] + more)
  }
  private static let xmlType = HTTPFields.Line("Content-Type", "application/xml")

  package func answer(_ exchange: HTTPExchange) async {
    let requestID = newRequestID()
    var extra: [HTTPFields.Line] = []
    do throws(S3Error) {
      let request = try S3Request(exchange.head, domain: configuration.domain)
      if request.method == "OPTIONS" { return try await preflight(request, exchange, requestID) }
      extra = await originFields(request)
      let who = try await authenticate(request)
      var call = Call(
        exchange: exchange, request: request, payload: who.payload, requestID: requestID,
        extra: extra, accessKey: who.accessKey, identity: who.identity,
        context: try context(request, who, exchange))
      try await authorize(&call)
      do throws(S3Error) {
        try await dispatch(call)
      } catch {
        throw await masked(error, call)
      }
    } catch {
      await refuse(error, exchange, requestID, extra)
    }
  }

  private func refuse(
    _ error: S3Error, _ exchange: HTTPExchange, _ requestID: String, _ extra: [HTTPFields.Line]
  ) async {
    if error.code.status >= 500 && error.code != .notImplemented || !error.cause.isEmpty {
      log.warning(
        "request failed",
        [
          "code": error.code.rawValue, "reason": error.cause.isEmpty ? error.message : error.cause,
          "method": exchange.head.method,
          "target": String(exchange.head.target.prefix(200)), "id": requestID,
        ])
    }
    // Too late to say anything but that it is not whole.
    guard !exchange.hasBegun else { return }
    let path = exchange.head.target.prefix { $0 != "?" }
    var fields = Self.fields(requestID, [Self.xmlType] + extra)
    for header in error.headers { fields.add(header.name, header.value) }
    if error.code == .serviceUnavailable || error.code == .slowDown {
      fields.add("Retry-After", "1")
    }
    do throws(HTTPError) {
      if error.code == .notModified {
        try await exchange.answer(304, fields)
      } else {
        try await exchange.answer(
          error.code.status, fields,
          error.document(resource: String(path), requestID: requestID))
      }
    } catch {
      // The client is gone.
    }
  }

  package func refusal(status: Int, reason: String) -> (fields: HTTPFields, body: [UInt8]) {
    let requestID = newRequestID()
    return (
      Self.fields(requestID, [Self.xmlType]),
      S3Error(.invalidRequest, "The request is malformed: \(reason)").document(
        resource: "/", requestID: requestID)
    )
  }

  private func newRequestID() -> String {
    let text = String(driver.random(), radix: 16, uppercase: true)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
  }

  private func dispatch(_ call: Call) async throws(S3Error) {
    guard call.request.bucket != nil else {
      guard call.method == "GET" else { throw S3Error(.methodNotAllowed) }
      return try await listBuckets(call)
    }
    if call.request.key == nil {
      try await dispatchBucket(call)
    } else {
      try await dispatchObject(call)
    }
  }

  private func dispatchBucket(_ call: Call) async throws(S3Error) {
    let request = call.request
    if try await answersAccess(call) { return }
    if call.method == "GET",
      let known = Self.switchedOff.first(where: { request.has($0.item) })
    {
      try await requireBucket(request)
      return await call.answer(xml: known.document)
    }
    if let refusal = Self.unsupported(request, Self.bucketQueries) {
      // Of a bucket that is not there, that is what counts.
      try await requireBucket(request)
      throw refusal
    }
    switch call.method {
    case "PUT":
      if request.has("versioning") { return try await putVersioning(call) }
      if request.has("tagging") { return try await putBucketTags(call) }
      if request.has("cors") { return try await putCORS(call) }
      if request.has("lifecycle") { return try await putLifecycle(call) }
      if request.has("object-lock") { return try await putBucketLock(call) }
      if request.has("encryption") { return try await putEncryption(call) }
      if request.has("notification") { return try await putNotifications(call) }
      // Whoever may do something to a part of it may not therefore make or remove it.
      guard !OperationTable.isAboutPart(request) else { throw S3Error(.methodNotAllowed) }
      try await createBucket(call)
    case "HEAD": try await headBucket(call)
    case "DELETE":
      if request.has("tagging") { return try await deleteSetting(.tagging, call) }
      if request.has("cors") { return try await deleteSetting(.cors, call) }
      if request.has("lifecycle") { return try await deleteSetting(.lifecycle, call) }
      if request.has("encryption") { return try await deleteEncryption(call) }
      guard !OperationTable.isAboutPart(request) else { throw S3Error(.methodNotAllowed) }
      try await removeBucket(call)
    case "GET":
      if request.has("location") { return try await getLocation(call) }
      if request.has("versioning") { return try await getVersioning(call) }
      if request.has("uploads") { return try await listUploads(call) }
      if request.has("versions") { return try await listVersions(call) }
      if request.has("tagging") { return try await getBucketTags(call) }
      if request.has("cors") { return try await getCORS(call) }
      if request.has("lifecycle") { return try await getLifecycle(call) }
      if request.has("object-lock") { return try await getBucketLock(call) }
      if request.has("encryption") { return try await getEncryption(call) }
      if request.has("notification") { return try await getNotifications(call) }
      try await listObjects(call)
    case "POST":
      if !request.has("delete"), Self.isForm(request) { return try await postObject(call) }
      guard request.has("delete") else { throw S3Error(.notImplemented) }
      try await deleteObjects(call)
    default: throw S3Error(.methodNotAllowed)
    }
  }

  private func dispatchObject(_ call: Call) async throws(S3Error) {
    let request = call.request
    if let refusal = Self.unsupported(request, Self.objectQueries) { throw refusal }
    switch call.method {
    case "PUT":
      if request.has("tagging") { return try await putObjectTags(call) }
      if request.has("retention") { return try await putRetention(call) }
      if request.has("legal-hold") { return try await putLegalHold(call) }
      if request.has("acl") { return try await putObjectACL(call) }
      let isCopy = try request.header("x-amz-copy-source") != nil
      // Nothing said of the body means that there is none: more often it was forgotten.
      guard
        isCopy || request.names(header: "Content-Length")
          || request.names(header: "Transfer-Encoding")
      else { throw S3Error(.missingContentLength) }
      if request.has("partNumber") || request.has("uploadId") {
        if isCopy { return try await copyPart(call) }
        return try await putPart(call)
      }
      if isCopy { try await copyObject(call) } else { try await putObject(call) }
    case "GET":
      if request.has("acl") { return try await getObjectACL(call) }
      if request.has("uploadId") { return try await listParts(call) }
      if request.has("tagging") { return try await getObjectTags(call) }
      if request.has("retention") { return try await getRetention(call) }
      if request.has("legal-hold") { return try await getLegalHold(call) }
      if request.has("attributes") { return try await getAttributes(call) }
      try await getObject(call)
    case "HEAD": try await getObject(call)
    case "DELETE":
      if request.has("uploadId") { return try await abortUpload(call) }
      if request.has("tagging") { return try await deleteObjectTags(call) }
      try await deleteObject(call)
    case "POST":
      if request.has("uploads") { return try await beginUpload(call) }
      if request.has("uploadId") { return try await completeUpload(call) }
      throw S3Error(.notImplemented)
    default: throw S3Error(.methodNotAllowed)
    }
  }

  /// What S3 says of what a bucket has not, where that is no error.
  private static let switchedOff: [(item: String, document: [UInt8])] = {
    func empty(_ root: String) -> [UInt8] {
      var xml = XMLText(root)
      return xml.finish()
    }
    var payer = XMLText("RequestPaymentConfiguration")
    payer.element("Payer", "BucketOwner")
    return [
      ("accelerate", empty("AccelerateConfiguration")), ("logging", empty("BucketLoggingStatus")),
      ("requestPayment", payer.finish()),
    ]
  }()

  /// Sub-resources that are not there, and what S3 says when they are asked for and not set; nil: 501 in any case.
  private static let bucketQueries: [String: S3Error.Code?] = [
    "accelerate": nil, "analytics": nil,
    "intelligent-tiering": nil, "inventory": nil,
    "logging": nil, "metrics": nil,
    "replication": .replicationConfigurationNotFound, "requestPayment": nil,
    "website": .noSuchWebsiteConfiguration,
  ]
  private static let objectQueries: [String: S3Error.Code?] = [
    "restore": nil, "select": nil, "torrent": nil,
  ]

  private static func unsupported(_ request: S3Request, _ queries: [String: S3Error.Code?])
    -> S3Error?
  {
    for item in request.query {
      guard let found = queries[String(decoding: item.name, as: UTF8.self)] else { continue }
      if let code = found, request.method == "GET" || request.method == "DELETE" {
        return S3Error(code)
      }
      return S3Error(.notImplemented)
    }
    return nil
  }

  func requireBucket(_ request: S3Request) async throws(S3Error) {
    guard let bucket = request.bucket else { throw S3Error(.invalidBucketName) }
    let isThere = try await ask { () async throws(BackendError) in
      try await self.backend.bucketExists(bucket)
    }
    guard isThere else { throw S3Error(.noSuchBucket).with("BucketName", bucket) }
  }

  /// A small body as a whole, checked against all that was said of it.
  func wholeBody(_ call: Call, limit: Int) async throws(S3Error) -> [UInt8] {
    var claims = try BodyClaims(call.request)
    claims.byteLimit = UInt64(limit)
    let source = BodySource(
      call.exchange.body, claims, call.payload, pool: driver.buffers, lanes: digestLanes)
    var bytes: [UInt8] = []
    let piece = driver.buffers.slice(min(limit, 64 << 10))
    while true {
      do throws(DataPathError) {
        let count = try await source.read(into: piece)
        if count == 0 {
          try await source.check()
          return bytes
        }
        bytes += piece[0..<count].array
      } catch {
        throw source.failure ?? S3Error(.incompleteBody)
      }
    }
  }

  /// Does something of the backend's, its errors told as S3's.
  func ask<Value>(_ body: () async throws(BackendError) -> Value) async throws(S3Error) -> Value {
    do throws(BackendError) {
      return try await body()
    } catch {
      throw S3Error(backend: error)
    }
  }
}
