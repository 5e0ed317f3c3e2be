import Coding
import HTTP
import Messages
import Ring
import Service

/// Who asks, and whether they may.
extension S3Service {
  struct Authenticated {
    var payload: Payload
    var accessKey: String
    var identity: Identity
    /// Of whoever signed.
    var claim: SignedClaim?
  }

  func authenticate(_ request: S3Request) async throws(S3Error) -> Authenticated {
    guard let claim = try SignedClaim(request) else {
      return Authenticated(
        payload: try Payload(anonymous: request), accessKey: "anonymous", identity: .anonymous)
    }
    let name = claim.scope.accessKey
    let found = try await ask { () async throws(BackendError) in
      try await self.gatekeeper.identity(name)
    }
    guard let identity = found else {
      throw S3Error(.invalidAccessKeyId).with("AWSAccessKeyId", name)
    }
    guard claim.scope.region == configuration.region else {
      throw S3Error(
        claim.lifetime == nil ? .authorizationHeaderMalformed : .authorizationQueryParametersError,
        "The region '\(claim.scope.region)' is wrong; expecting '\(configuration.region)'"
      ).with("Region", configuration.region)
    }
    try claim.checkTime(driver.wallClock)
    let key = try claim.verify(request, secret: identity.secret)
    return Authenticated(
      payload: try Payload(claim, key: key), accessKey: name, identity: identity, claim: claim)
  }

  /// What conditions may ask about the request.
  func context(_ request: S3Request, _ who: Authenticated, _ exchange: HTTPExchange)
    throws(S3Error) -> RequestContext
  {
    var context = RequestContext()
    let now = driver.wallClock
    context[ConditionKeys.sourceIP] = exchange.peer.host
    context["aws:securetransport"] = exchange.isSecure ? "true" : "false"
    context["aws:currenttime"] = CivilTime(now).rfc3339
    context["aws:epochtime"] = String(now.components.seconds)
    context["aws:useragent"] = request.fields["User-Agent"]
    context["aws:referer"] = request.fields["Referer"]
    switch who.identity.requester {
    case .anonymous:
      context["aws:principaltype"] = "Anonymous"
      context[ConditionKeys.userID] = "anonymous"
    case .root:
      context["aws:principaltype"] = "Account"
      context[ConditionKeys.userID] = Requester.account
    case .user(let name):
      context["aws:principaltype"] = "User"
      context[ConditionKeys.userID] = name
      context[ConditionKeys.userName] = name
    }
    if let arn = who.identity.requester.arn {
      context[ConditionKeys.principalARN] = arn
      context["aws:principalaccount"] = Requester.account
    }
    for (item, key) in [
      ("prefix", "s3:prefix"), ("delimiter", "s3:delimiter"), ("max-keys", "s3:max-keys"),
      ("versionId", "s3:versionid"),
    ] { context[key] = try request.value(item) }
    for header in ConditionKeys.headers { context["s3:" + header] = try request.header(header) }
    if let claim = who.claim {
      context["s3:signatureversion"] = SignatureV4.algorithm
      context["s3:authtype"] = claim.lifetime == nil ? "REST-HEADER" : "REST-QUERY-STRING"
      if let signed = CivilTime(basic: claim.date)?.sinceEpoch {
        let age = max(.zero, now - signed)
        context["s3:signatureage"] = String(age.components.seconds * 1000)
      }
    }
    return context
  }

  func rules(of bucket: String) async throws(S3Error) -> BucketRules {
    try await ask { () async throws(BackendError) in try await self.gatekeeper.rules(of: bucket) }
  }

  /// Refuses what is not allowed, before anything is done. Deleting many and listing buckets are judged item by item, where
  /// that is done.
  func authorize(_ call: inout Call) async throws(S3Error) {
    let request = call.request
    guard let bucket = request.bucket else {
      guard call.identity.requester != .anonymous else { throw S3Error(.accessDenied) }
      return
    }
    call.rules = try await rules(of: bucket)
    let isRoot = call.identity.requester == .root
    // The common case: nobody could deny it.
    if isRoot, call.rules.policy == nil, !request.names(header: "x-amz-copy-source") { return }
    guard let needs = try OperationTable.needs(request) else {
      guard isRoot else { throw S3Error(.accessDenied) }
      return
    }
    for need in needs {
      let rules = need.bucket == bucket ? call.rules : try await rules(of: need.bucket)
      guard call.allows(need.action, need.resource, rules) else { throw S3Error(.accessDenied) }
    }
    // Who may not bypass a lock asks as if they had not tried to: where there is none that is no matter.
    if let key = request.key, request.names(header: Self.bypass), !call.mayBypassLocks(key) {
      call.request.fields.remove(Self.bypass)
    }
  }

  private static let bypass = "x-amz-bypass-governance-retention"

  /// Whether a key is there is told only to who may list.
  func masked(_ refusal: S3Error, _ call: Call) async -> S3Error {
    guard refusal.code == .noSuchKey, call.identity.requester != .root,
      var bucket = call.request.bucket
    else { return refusal }
    var rules = call.rules
    do throws(S3Error) {
      if call.request.names(header: "x-amz-copy-source") {
        bucket = try Self.copySource(call.request).0.bucket
        rules = try await self.rules(of: bucket)
      } else if call.method != "GET" && call.method != "HEAD" {
        return refusal
      }
    } catch {
      return refusal
    }
    return call.allows(.named("ListBucket"), S3Resource.bucket(bucket), rules)
      ? refusal : S3Error(.accessDenied)
  }
}

extension S3Service.Call {
  func allows(_ action: S3Action, _ resource: [UInt8], _ rules: BucketRules) -> Bool {
    Gatekeeper.allows(
      identity, rules,
      AccessQuestion(
        requester: identity.requester, action: action, resource: resource, context: context))
  }

  /// Of a key that the request names within, to be deleted.
  func mayDelete(_ key: String, version: String?) -> Bool {
    guard let bucket = request.bucket else { return false }
    if identity.requester == .root && rules.policy == nil { return true }
    return allows(
      .named(version == nil ? "DeleteObject" : "DeleteObjectVersion"),
      S3Resource.object(bucket, key), rules)
  }

  /// Whether locks of a key that only hold by governance are no matter.
  func mayBypassLocks(_ key: String) -> Bool {
    guard let bucket = request.bucket else { return false }
    if identity.requester == .root && rules.policy == nil { return true }
    return allows(
      .named("BypassGovernanceRetention"), S3Resource.object(bucket, key), rules)
  }

  /// All of them for who may list them, else those whose objects may be listed.
  func visible(_ buckets: [BucketEntry]) throws(S3Error) -> [BucketEntry] {
    let none = BucketRules()
    if allows(.named("ListAllMyBuckets"), S3Resource.everything, none) { return buckets }
    let seen = buckets.filter { allows(.named("ListBucket"), S3Resource.bucket($0.name), none) }
    if seen.isEmpty { throw S3Error(.accessDenied) }
    return seen
  }
}

extension Payload {
  /// Of a request that nobody signed.
  init(anonymous request: S3Request) throws(S3Error) {
    switch try request.header("x-amz-content-sha256") {
    case nil, Self.unsignedText: self = .unsigned
    case Self.unsignedTrailerText: self = .pieces(signing: nil, hasTrailer: true)
    case let text?:
      guard let digest = hexBytes(text), digest.count == 32 else {
        throw S3Error(
          .invalidArgument, "x-amz-content-sha256 does not fit a request without a signature.")
      }
      self = .digest(digest)
    }
  }
}
