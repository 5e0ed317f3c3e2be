package import HTTP
import Ring
import Service

/// Signs requests as a client does, with the Authorization header. For benchmarks and tests.
package struct S3Signer: Sendable {
  private let key: AccessKey
  private let region: String

  package init(_ key: AccessKey, region: String) {
    self.key = key
    self.region = region
  }

  /// What stands for a body that is not signed.
  package static let unsigned = Payload.unsignedText

  /// The request's fields and those of its signature; nil for a target or an access key that cannot be signed for.
  ///
  /// - Parameters:
  ///   - host: as the Host field will have it.
  ///   - payload: the body's SHA-256 in hexadecimal digits, or ``unsigned``.
  ///   - now: since 1970.
  package func fields(
    _ method: String, _ target: String, _ fields: HTTPFields, host: String,
    payload: String = S3Signer.unsigned, now: Duration
  ) -> HTTPFields? {
    let date = CivilTime(now).basic
    guard
      let scope = SignatureV4.Scope("\(key.name)/\(date.prefix(8))/\(region)/s3/aws4_request")
    else { return nil }
    var fields = fields
    fields.add("x-amz-date", date)
    fields.add("x-amz-content-sha256", payload)
    var signed = fields
    signed.add("Host", host)
    let head = HTTPRequestHead(method: method, target: target, fields: signed)
    guard let request = try? S3Request(head, domain: "") else { return nil }
    let names = Set(signed.lines.map { $0.name.lowercased() }).sorted()
    let text = SignatureV4.stringToSign(
      canonical: SignatureV4.canonicalRequest(request, signedHeaders: names, payload: payload),
      date: date, scope: scope)
    let signature = SignatureV4.sign(
      text, key: SignatureV4.signingKey(secret: key.secret, scope: scope))
    fields.add(
      "Authorization",
      "\(SignatureV4.algorithm) Credential=\(key.name)/\(scope.text),SignedHeaders=\(names.joined(separator: ";")),Signature=\(signature)"
    )
    return fields
  }
}
