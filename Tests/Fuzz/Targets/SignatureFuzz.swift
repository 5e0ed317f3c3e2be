import HTTP
import Ring

@testable import Gateway

/// Nobody who does not know the secret signs; whoever does is believed, and not any more once something signed was changed.
enum SignatureFuzz {
  private static let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

  static func complaint(_ bytes: [UInt8]) -> String? {
    guard let head = try? HTTPHeadParser.request(bytes[...]),
      let request = try? S3Request(head, domain: "s3.amazonaws.com"),
      let claim = (try? SignedClaim(request)) ?? nil
    else { return nil }
    for now in [Duration.zero, .seconds(1_369_353_600), .seconds(1 << 40)] {
      try? claim.checkTime(now)
    }
    // Even the secret of the examples: a corpus may hold them as they are.
    if (try? claim.verify(request, secret: secret + "x")) != nil {
      return "a signature was believed that nobody made"
    }
    guard let signed = sign(request, claim) else { return nil }
    guard let fresh = (try? SignedClaim(signed)) ?? nil,
      let key = try? fresh.verify(signed, secret: secret)
    else { return "a right signature was refused" }
    _ = try? Payload(fresh, key: key)
    for changed in changes(of: signed, fresh) {
      guard let other = (try? SignedClaim(changed)) ?? nil else { continue }
      if (try? other.verify(changed, secret: secret)) != nil {
        return "a signature was believed though something signed was changed"
      }
    }
    return nil
  }

  /// The request with the right signature in it; nil where that would sign itself.
  private static func sign(_ request: S3Request, _ claim: SignedClaim) -> S3Request? {
    let canonical = SignatureV4.canonicalRequest(
      request, signedHeaders: claim.signedHeaders, payload: claim.payload,
      leavingOut: claim.lifetime == nil ? nil : "X-Amz-Signature")
    let signature = SignatureV4.sign(
      SignatureV4.stringToSign(canonical: canonical, date: claim.date, scope: claim.scope),
      key: SignatureV4.signingKey(secret: secret, scope: claim.scope))
    var signed = request
    if claim.lifetime == nil {
      guard !claim.signedHeaders.contains("authorization") else { return nil }
      let credential = "\(claim.scope.accessKey)/\(claim.scope.text)"
      signed.fields.remove("Authorization")
      signed.fields.add(
        "Authorization",
        "\(SignatureV4.algorithm) Credential=\(credential),SignedHeaders=\(claim.signedHeaders.joined(separator: ";")),Signature=\(signature)"
      )
    } else {
      for index in signed.query.indices
      where signed.query[index].name.elementsEqual("X-Amz-Signature".utf8) {
        signed.query[index].value = Array(signature.utf8)
      }
    }
    return signed
  }

  private static func changes(of signed: S3Request, _ claim: SignedClaim) -> [S3Request] {
    var all: [S3Request] = []
    func change(_ body: (inout S3Request) -> Void) {
      var copy = signed
      body(&copy)
      all.append(copy)
    }
    change { $0.method += "X" }
    change { $0.pathBytes.append(UInt8(ascii: "x")) }
    change { $0.query.append(S3Request.QueryItem(name: [120], value: [])) }
    change { $0.fields.add("x-amz-acl", "public-read") }
    for index in signed.fields.lines.indices
    where claim.signedHeaders.contains(signed.fields.lines[index].name.lowercased()) {
      change { $0.fields.lines[index].value += "x" }
    }
    return all
  }
}
