import HTTP
import Messages

/// Requests of pages of other origins. A preflight has no signature.
extension S3Service {
  func getCORS(_ call: Call) async throws(S3Error) {
    let bytes = try await setting(.cors, call, or: .noSuchCORSConfiguration)
    await call.answer(xml: bytes)
  }

  func putCORS(_ call: Call) async throws(S3Error) {
    let body = try await wholeBody(call, limit: S3CORS.documentByteLimit)
    try await set(.cors, call, try S3CORS(document: body).document)
    await call.answer(200)
  }

  /// The rules of a bucket; nil when it has none or is not there.
  private func rules(of bucket: String?) async throws(S3Error) -> S3CORS? {
    guard let bucket, BucketName.brokenRule(bucket) == nil else { return nil }
    return try await ask { () async throws(BackendError) in
      try await corsRules.value(bucket) { () async throws(BackendError) in
        do throws(BackendError) {
          guard let setting = try await backend.settings(bucket, [.cors]).first,
            // It was read before it was kept. One that this gateway cannot read, as a newer one's may be, allows nothing.
            let rules = try? S3CORS(document: setting.bytes)
          else { return nil }
          return (rules, 256 + setting.bytes.count)
        } catch {
          guard error == .bucketNotFound else { throw error }
          return nil
        }
      }
    }
  }

  /// What is added to the answer of a request that a page of another origin made; nothing for others.
  func originFields(_ request: S3Request) async -> [HTTPFields.Line] {
    guard let origin = request.fields["Origin"], request.method != "OPTIONS" else { return [] }
    // What cannot be found out is not allowed.
    guard let rules = try? await rules(of: request.bucket),
      let rule = rules.rule(origin: origin, method: request.method)
    else { return [] }
    return rule.fields(origin: origin)
  }

  /// Answers a preflight.
  func preflight(_ request: S3Request, _ exchange: HTTPExchange, _ requestID: String)
    async throws(S3Error)
  {
    guard let origin = try request.header("Origin") else {
      throw S3Error(.badRequest, "Insufficient information. Origin request header needed.")
    }
    let method = try request.header("Access-Control-Request-Method")
    guard let method, S3CORS.methods.contains(method) else {
      throw S3Error(.badRequest, "Invalid Access-Control-Request-Method: \(method ?? "null")")
    }
    let headers = (try request.header("Access-Control-Request-Headers") ?? "")
      .split(separator: ",").map { String($0.filter { $0 != " " }) }.filter { !$0.isEmpty }
    guard let rules = try await rules(of: request.bucket) else {
      throw S3Error(.accessForbidden, "CORSResponse: CORS is not enabled for this bucket.")
    }
    guard let rule = rules.rule(origin: origin, method: method, headers: headers) else {
      throw S3Error(
        .accessForbidden,
        "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec."
      ).with("Method", method).with("ResourceType", request.key == nil ? "BUCKET" : "OBJECT")
    }
    var lines = rule.fields(origin: origin)
    if !headers.isEmpty {
      lines.append(
        .init("Access-Control-Allow-Headers", headers.joined(separator: ", ")))
    }
    do throws(HTTPError) {
      try await exchange.answer(200, Self.fields(requestID, lines))
    } catch {
      // The client is gone.
    }
  }
}
