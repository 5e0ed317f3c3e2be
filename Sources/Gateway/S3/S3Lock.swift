import HTTP
import Messages
import Ring
import Service

/// Locks as S3 writes them, in headers and documents.
enum S3Lock {
  static func mode(_ text: String) -> ObjectLock.Mode? {
    switch text {
    case "GOVERNANCE": .governance
    case "COMPLIANCE": .compliance
    default: nil
    }
  }
  static func text(_ mode: ObjectLock.Mode) -> String {
    mode == .governance ? "GOVERNANCE" : "COMPLIANCE"
  }

  /// - Throws: unless it is a time to come.
  static func until(_ text: String, now: UInt64) throws(S3Error) -> UInt64 {
    guard let time = CivilTime(rfc3339: text) else {
      throw S3Error(
        .invalidArgument, "The retain until date must be provided in ISO 8601 format"
      ).with("ArgumentName", "x-amz-object-lock-retain-until-date").with("ArgumentValue", text)
    }
    let until = UInt64(clamping: time.sinceEpoch.wholeMilliseconds)
    guard until > now else {
      throw S3Error(.invalidArgument, "The retain until date must be in the future!")
        .with("ArgumentName", "x-amz-object-lock-retain-until-date").with("ArgumentValue", text)
    }
    return until
  }

  /// What a request that makes a version wants it to have; nil: nothing.
  static func read(_ request: S3Request, now: UInt64) throws(S3Error) -> ObjectLock? {
    let mode = try request.header("x-amz-object-lock-mode")
    let until = try request.header("x-amz-object-lock-retain-until-date")
    var lock = ObjectLock()
    switch (mode, until) {
    case (nil, nil): break
    case (let text?, let date?):
      guard let mode = Self.mode(text) else {
        throw S3Error(.invalidArgument, "Unknown wormMode directive.")
          .with("ArgumentName", "x-amz-object-lock-mode").with("ArgumentValue", text)
      }
      lock.retention = ObjectLock.Retention(mode: mode, until: try Self.until(date, now: now))
    default:
      throw S3Error(
        .invalidArgument,
        "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied")
    }
    switch try request.header("x-amz-object-lock-legal-hold") {
    case nil, "OFF": break
    case "ON": lock.hasLegalHold = true
    case let text?:
      throw S3Error(.invalidArgument, "Legal Hold must be either of 'ON' or 'OFF'")
        .with("ArgumentName", "x-amz-object-lock-legal-hold").with("ArgumentValue", text)
    }
    return lock.isEmpty ? nil : lock
  }

  static func fields(_ lock: ObjectLock?) -> [HTTPFields.Line] {
    guard let lock else { return [] }
    var lines: [HTTPFields.Line] = []
    if let retention = lock.retention {
      lines.append(.init("x-amz-object-lock-mode", text(retention.mode)))
      lines.append(
        .init("x-amz-object-lock-retain-until-date", S3Service.time(retention.until)))
    }
    if lock.hasLegalHold { lines.append(.init("x-amz-object-lock-legal-hold", "ON")) }
    return lines
  }

  static func bypassesGovernance(_ request: S3Request) throws(S3Error) -> Bool {
    try request.header("x-amz-bypass-governance-retention")?.lowercased() == "true"
  }

  /// An `ObjectLockConfiguration`.
  static func readBucket(_ document: [UInt8]) throws(S3Error) -> BucketLock {
    let tree = try tree(document, "ObjectLockConfiguration")
    guard tree.value("ObjectLockEnabled") == "Enabled" else { throw S3Error(.malformedXML) }
    let rules = tree.all("Rule")
    guard let rule = rules.first else { return BucketLock() }
    guard rules.count == 1, rule.children.count == 1, rule.children[0].name == "DefaultRetention",
      let mode = rule.children[0].value("Mode").flatMap({ Self.mode($0) })
    else { throw S3Error(.malformedXML) }
    let usual = rule.children[0]
    switch (usual.value("Days"), usual.value("Years")) {
    case (let text?, nil): return BucketLock(mode: mode, days: try days(text, 1))
    case (nil, let text?): return BucketLock(mode: mode, days: try days(text, 365))
    default: throw S3Error(.malformedXML)
    }
  }

  private static func days(_ text: String, _ each: UInt32) throws(S3Error) -> UInt32 {
    guard let count = UInt32(text), count > 0 else {
      throw S3Error(.invalidArgument, "Default retention period must be a positive integer value.")
    }
    guard count <= BucketLock.dayLimit / each else {
      throw S3Error(.invalidArgument, "Default retention period too large.")
    }
    return count * each
  }

  static func tree(_ document: [UInt8], _ root: String) throws(S3Error) -> XMLTree {
    do throws(XMLTree.Malformed) {
      return try XMLTree.read(document, root: root)
    } catch {
      throw S3Error(.malformedXML)
    }
  }
}

extension S3Service {
  func getBucketLock(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let lock = try await ask { () async throws(BackendError) in
      try await self.backend.lock(of: bucket)
    }
    guard let lock else {
      throw S3Error(.objectLockConfigurationNotFound).with("BucketName", bucket)
    }
    var xml = XMLText("ObjectLockConfiguration")
    xml.element("ObjectLockEnabled", "Enabled")
    if lock.days > 0 {
      xml.group("Rule") {
        $0.group("DefaultRetention") {
          $0.element("Mode", S3Lock.text(lock.mode))
          $0.element("Days", lock.days)
        }
      }
    }
    await call.answer(xml: xml.finish())
  }

  func putBucketLock(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let lock = try S3Lock.readBucket(try await wholeBody(call, limit: 64 << 10))
    try await ask { () async throws(BackendError) in
      try await self.backend.set(lock, ofBucket: bucket, enablesVersioning: false)
    }
    await call.answer(200)
  }

  /// The lock of the version that is asked for, in a bucket that has locks.
  private func lock(_ call: Call) async throws(S3Error) -> (ObjectLock?, VersionName) {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    let bucketLock = try await ask { () async throws(BackendError) in
      try await self.backend.lock(of: name.bucket)
    }
    guard bucketLock != nil else {
      throw S3Error(.invalidRequest, "Bucket is missing Object Lock Configuration")
    }
    let found = try await find(name, try Self.version(call.request))
    return (found.attributes.lock, found.versionName)
  }

  func getRetention(_ call: Call) async throws(S3Error) {
    let (lock, version) = try await lock(call)
    guard let retention = lock?.retention else { throw S3Error(.noSuchObjectLockConfiguration) }
    var xml = XMLText("Retention")
    xml.element("Mode", S3Lock.text(retention.mode))
    xml.element("RetainUntilDate", Self.time(retention.until))
    await call.answer(xml: xml.finish(), Self.versionFields(version))
  }

  func putRetention(_ call: Call) async throws(S3Error) {
    let version = try Self.version(call.request)
    let tree = try S3Lock.tree(try await wholeBody(call, limit: 64 << 10), "Retention")
    var retention: ObjectLock.Retention?
    // A document without anything takes the retention away.
    if !tree.children.isEmpty {
      guard let mode = tree.value("Mode").flatMap({ S3Lock.mode($0) }),
        let date = tree.value("RetainUntilDate")
      else { throw S3Error(.malformedXML) }
      retention = ObjectLock.Retention(
        mode: mode, until: try S3Lock.until(date, now: driver.wallClock.wholeMilliseconds))
    }
    try await change(.retention(retention), version, call)
  }

  func getLegalHold(_ call: Call) async throws(S3Error) {
    let (lock, version) = try await lock(call)
    guard let lock else { throw S3Error(.noSuchObjectLockConfiguration) }
    var xml = XMLText("LegalHold")
    xml.element("Status", lock.hasLegalHold ? "ON" : "OFF")
    await call.answer(xml: xml.finish(), Self.versionFields(version))
  }

  func putLegalHold(_ call: Call) async throws(S3Error) {
    let version = try Self.version(call.request)
    let tree = try S3Lock.tree(try await wholeBody(call, limit: 64 << 10), "LegalHold")
    switch tree.value("Status") {
    case "ON": try await change(.legalHold(true), version, call)
    case "OFF": try await change(.legalHold(false), version, call)
    default: throw S3Error(.malformedXML)
    }
  }

  private func change(_ change: LockChange, _ version: VersionName, _ call: Call)
    async throws(S3Error)
  {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    let bypasses = try S3Lock.bypassesGovernance(call.request)
    let told = try await changing(name, version) { () async throws(BackendError) in
      try await self.backend.setLock(
        of: name, version: version, change, bypassesGovernance: bypasses)
    }
    await call.answer(200, Self.versionFields(told))
  }
}
