import HTTP
import Messages

/// Bucket policies, ACLs, public access blocks and ownership controls.
extension S3Service {
  /// Does the operation when it is one of these.
  ///
  /// - Returns: whether it is.
  func answersAccess(_ call: Call) async throws(S3Error) -> Bool {
    guard let bucket = call.request.bucket else { return false }
    guard let item = Self.accessItems.first(where: { call.request.has($0) }) else { return false }
    switch (call.method, item) {
    case ("GET", "policy"): try await getPolicy(call, bucket)
    case ("PUT", "policy"): try await putPolicy(call, bucket)
    case ("DELETE", "policy"): try await change(call, bucket, .policy(nil), status: 204)
    case ("GET", "policyStatus"): try await getPolicyStatus(call, bucket)
    case ("GET", "publicAccessBlock"): try await getBlock(call, bucket)
    case ("PUT", "publicAccessBlock"): try await putBlock(call, bucket)
    case ("DELETE", "publicAccessBlock"):
      try await change(call, bucket, .publicAccessBlock(nil), status: 204)
    case ("GET", "ownershipControls"): try await getOwnership(call, bucket)
    case ("PUT", "ownershipControls"): try await putOwnership(call, bucket)
    case ("DELETE", "ownershipControls"):
      try await change(call, bucket, .ownerEnforced(false), status: 204)
    case ("GET", "acl"): try await getACL(call, bucket)
    case ("PUT", "acl"): try await putACL(call, bucket)
    default: throw S3Error(.methodNotAllowed)
    }
    return true
  }

  private static let accessItems = [
    "policy", "policyStatus", "publicAccessBlock", "ownershipControls", "acl",
  ]

  /// As it is now, not as it was a moment ago.
  private func access(of bucket: String) async throws(S3Error) -> BucketAccess {
    try await ask { () async throws(BackendError) in try await self.backend.access(of: bucket) }
  }

  private func change(_ bucket: String, _ change: BucketAccessChange) async throws(S3Error) {
    defer { gatekeeper.forgetRules(of: bucket) }
    try await ask { () async throws(BackendError) in
      try await self.backend.changeAccess(of: bucket, change)
    }
  }

  private func change(_ call: Call, _ bucket: String, _ change: BucketAccessChange, status: Int)
    async throws(S3Error)
  {
    try await self.change(bucket, change)
    await call.answer(status)
  }

  private func tree(_ call: Call, root: String) async throws(S3Error) -> XMLTree {
    let body = try await wholeBody(call, limit: 64 << 10)
    do throws(XMLTree.Malformed) {
      return try XMLTree.read(body, root: root)
    } catch {
      throw S3Error(.malformedXML)
    }
  }

  // MARK: Policies

  private func getPolicy(_ call: Call, _ bucket: String) async throws(S3Error) {
    guard let policy = try await access(of: bucket).policy else {
      throw S3Error(.noSuchBucketPolicy).with("BucketName", bucket)
    }
    do throws(HTTPError) {
      try await call.exchange.answer(
        200, call.fields([.init("Content-Type", "application/json")]), Array(policy.utf8))
    } catch {
      // The client is gone.
    }
  }

  private func putPolicy(_ call: Call, _ bucket: String) async throws(S3Error) {
    let body = try await wholeBody(call, limit: 256 << 10)
    let settings = try await access(of: bucket)
    let policy: PolicyDocument
    do throws(MalformedPolicy) {
      policy = try PolicyDocument(body, of: .bucket(bucket))
      try policy.checkFit(bucket)
    } catch {
      throw S3Error(.malformedPolicy, error.reason)
    }
    for name in policy.namedUsers {
      let isThere = try await ask { () async throws(BackendError) in
        try await self.gatekeeper.isUser(name)
      }
      guard isThere else {
        throw S3Error(.malformedPolicy, "Invalid principal in policy")
          .with("Detail", Requester.userARNPrefix + name)
      }
    }
    if settings.publicAccessBlock?.blocksPolicy == true, policy.isPublic {
      throw S3Error(
        .accessDenied,
        "Access Denied: public policies are prevented by the BlockPublicPolicy setting.")
    }
    try await change(
      call, bucket, .policy(String(decoding: body, as: UTF8.self)), status: 204)
  }

  private func getPolicyStatus(_ call: Call, _ bucket: String) async throws(S3Error) {
    let rules = BucketRules(try await access(of: bucket), bucket: bucket)
    guard rules.settings.policy != nil else {
      throw S3Error(.noSuchBucketPolicy).with("BucketName", bucket)
    }
    var xml = XMLText("PolicyStatus")
    xml.element("IsPublic", rules.policy?.isPublic ?? false)
    await call.answer(xml: xml.finish())
  }

  // MARK: What may not be public

  private func getBlock(_ call: Call, _ bucket: String) async throws(S3Error) {
    guard let block = try await access(of: bucket).publicAccessBlock else {
      throw S3Error(.noSuchPublicAccessBlockConfiguration).with("BucketName", bucket)
    }
    var xml = XMLText("PublicAccessBlockConfiguration")
    xml.element("BlockPublicAcls", block.blocksACLs)
    xml.element("IgnorePublicAcls", block.ignoresACLs)
    xml.element("BlockPublicPolicy", block.blocksPolicy)
    xml.element("RestrictPublicBuckets", block.restrictsBucket)
    await call.answer(xml: xml.finish())
  }

  private func putBlock(_ call: Call, _ bucket: String) async throws(S3Error) {
    let tree = try await tree(call, root: "PublicAccessBlockConfiguration")
    func flag(_ name: String) throws(S3Error) -> Bool {
      switch tree.value(name)?.lowercased() {
      case "true": true
      case "false", nil: false
      default: throw S3Error(.malformedXML)
      }
    }
    let block = PublicAccessBlock(
      blocksACLs: try flag("BlockPublicAcls"), ignoresACLs: try flag("IgnorePublicAcls"),
      blocksPolicy: try flag("BlockPublicPolicy"),
      restrictsBucket: try flag("RestrictPublicBuckets"))
    try await change(call, bucket, .publicAccessBlock(block), status: 200)
  }

  // MARK: Ownership

  private static let ownerEnforced = "BucketOwnerEnforced"

  private func getOwnership(_ call: Call, _ bucket: String) async throws(S3Error) {
    guard try await access(of: bucket).isOwnerEnforced else {
      throw S3Error(.ownershipControlsNotFound).with("BucketName", bucket)
    }
    var xml = XMLText("OwnershipControls")
    xml.group("Rule") { $0.element("ObjectOwnership", Self.ownerEnforced) }
    await call.answer(xml: xml.finish())
  }

  private func putOwnership(_ call: Call, _ bucket: String) async throws(S3Error) {
    let rules = try await tree(call, root: "OwnershipControls").all("Rule")
    guard rules.count == 1, let ownership = rules[0].value("ObjectOwnership") else {
      throw S3Error(.malformedXML)
    }
    try Self.check(ownership: ownership)
    guard try await access(of: bucket).acl == .private else {
      throw S3Error(.invalidBucketACLWithOwnership)
    }
    try await change(call, bucket, .ownerEnforced(true), status: 200)
  }

  /// The other two let objects have ACLs.
  private static func check(ownership: String) throws(S3Error) {
    switch ownership {
    case ownerEnforced: return
    case "BucketOwnerPreferred", "ObjectWriter": throw S3Error(.notImplemented)
    default: throw S3Error(.malformedXML)
    }
  }

  // MARK: ACLs

  private func getACL(_ call: Call, _ bucket: String) async throws(S3Error) {
    let settings = try await access(of: bucket)
    await call.answer(xml: Self.document(settings.isOwnerEnforced ? .private : settings.acl))
  }

  private static func document(_ acl: CannedACL) -> [UInt8] {
    var xml = XMLText("AccessControlPolicy")
    xml.group("Owner") {
      $0.element("ID", ownerID)
      $0.element("DisplayName", ownerID)
    }
    xml.group("AccessControlList") { xml in
      xml.group("Grant") {
        $0.begin("Grantee", attributes: grantee("CanonicalUser"))
        $0.element("ID", ownerID)
        $0.element("DisplayName", ownerID)
        $0.end()
        $0.element("Permission", "FULL_CONTROL")
      }
      for (group, permission) in acl.grants {
        xml.group("Grant") {
          $0.begin("Grantee", attributes: grantee("Group"))
          $0.element("URI", group.rawValue)
          $0.end()
          $0.element("Permission", permission)
        }
      }
    }
    return xml.finish()
  }

  private static func grantee(_ type: String) -> String {
    "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"\(type)\""
  }

  private func putACL(_ call: Call, _ bucket: String) async throws(S3Error) {
    let settings = try await access(of: bucket)
    let named = try Self.cannedACL(call.request)
    let body = try await wholeBody(call, limit: 64 << 10)
    guard !settings.isOwnerEnforced else { throw S3Error(.aclNotSupported) }
    var acl = named
    if !body.isEmpty {
      guard named == nil else {
        throw S3Error(.invalidRequest, "Specify an ACL by a header or in the body, not both.")
      }
      acl = try Self.acl(body)
    }
    guard let acl else {
      throw S3Error(.invalidRequest, "Your request was missing a required header: x-amz-acl")
    }
    if settings.publicAccessBlock?.blocksACLs == true, acl.isPublic {
      throw S3Error(
        .accessDenied, "Access Denied: public ACLs are prevented by the BlockPublicAcls setting.")
    }
    try await change(call, bucket, .acl(acl), status: 200)
  }

  /// Nil when the request names none.
  private static func cannedACL(_ request: S3Request) throws(S3Error) -> CannedACL? {
    for line in request.fields.lines where line.name.lowercased().hasPrefix("x-amz-grant-") {
      throw S3Error(.aclNotSupported)
    }
    guard let name = try request.header("x-amz-acl") else { return nil }
    if OperationTable.ownerACLs.contains(name) { return .private }
    if let acl = CannedACL(named: name) { return acl }
    throw ["bucket-owner-read", "aws-exec-read", "log-delivery-write"].contains(name)
      ? S3Error(.aclNotSupported)
      : S3Error(.invalidArgument).with("ArgumentName", "x-amz-acl").with("ArgumentValue", name)
  }

  /// A document that says what a canned one does.
  static func acl(_ body: [UInt8]) throws(S3Error) -> CannedACL {
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(body, root: "AccessControlPolicy")
    } catch {
      throw S3Error(.malformedXML)
    }
    guard tree.all("AccessControlList").count == 1 else { throw S3Error(.malformedXML) }
    var grants: Set<String> = []
    for grant in tree.all("AccessControlList")[0].all("Grant") {
      guard grant.all("Grantee").count == 1, let permission = grant.value("Permission") else {
        throw S3Error(.malformedXML)
      }
      let grantee = grant.all("Grantee")[0]
      if let id = grantee.value("ID") {
        // The owner may do everything in any case.
        guard id == ownerID else { throw S3Error(.aclNotSupported) }
      } else if let group = grantee.value("URI").flatMap({ CannedACL.Group(rawValue: $0) }) {
        grants.insert("\(group) \(permission)")
      } else {
        throw S3Error(.aclNotSupported)
      }
    }
    for acl in CannedACL.allCases
    where Set(acl.grants.map { "\($0.group) \($0.permission)" }) == grants {
      return acl
    }
    throw S3Error(.aclNotSupported)
  }

  /// Objects have none of their own: their owner's grant is all there is.
  func getObjectACL(_ call: Call) async throws(S3Error) {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    _ = try await ask { () async throws(BackendError) in
      try await self.backend.find(name, wanted: 0..<0)
    }
    await call.answer(xml: Self.document(.private))
  }

  /// Takes what says no more than that, as clients send it who copy objects with their ACLs.
  func putObjectACL(_ call: Call) async throws(S3Error) {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    let named = try Self.cannedACL(call.request)
    let body = try await wholeBody(call, limit: 64 << 10)
    let acl = try body.isEmpty ? named : Self.acl(body)
    guard let acl else {
      throw S3Error(.invalidRequest, "Your request was missing a required header: x-amz-acl")
    }
    guard acl == .private, named ?? .private == .private else { throw S3Error(.aclNotSupported) }
    _ = try await ask { () async throws(BackendError) in
      try await self.backend.find(name, wanted: 0..<0)
    }
    await call.answer(200)
  }

  // MARK: With a new bucket

  /// What a request to make a bucket says of access.
  static func initialAccess(_ request: S3Request) throws(S3Error) -> [BucketAccessChange] {
    var changes: [BucketAccessChange] = []
    let acl = try cannedACL(request)
    if let ownership = try request.header("x-amz-object-ownership") {
      try check(ownership: ownership)
      guard acl == nil || acl == .private else { throw S3Error(.invalidBucketACLWithOwnership) }
      changes.append(.ownerEnforced(true))
    }
    if let acl, acl != .private { changes.append(.acl(acl)) }
    return changes
  }

  /// Of a bucket that was made just now, or just removed.
  func settleAccess(of bucket: String, _ changes: [BucketAccessChange] = []) async throws(S3Error) {
    gatekeeper.forgetRules(of: bucket)
    corsRules.forget(bucket)
    keyDomains.forget(bucket)
    notifier.forget(bucket)
    for change in changes { try await self.change(bucket, change) }
  }
}
