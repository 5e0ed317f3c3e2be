import Coding
import DataPath
import HTTP
import Messages
import Ring
import Service

extension S3Service {
  /// S3's bound on what one request may bring.
  static let putByteLimit: UInt64 = 5 << 30

  // MARK: Reading

  /// GetObject and HeadObject.
  func getObject(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let name = request.name else { throw S3Error(.invalidURI) }
    try S3Encryption.refuseInRead(request)
    let partNumber = try Self.partNumber(request)
    let isHead = call.method == "HEAD"
    let range = try request.header("Range").flatMap { ByteRange($0) }
    if range != nil && partNumber != nil {
      throw S3Error(
        .invalidRequest, "Cannot specify both Range header and partNumber query parameter")
    }
    let wanted =
      isHead || partNumber != nil ? 0..<0 : range.map { $0.wanted ?? 0..<0 } ?? 0..<1 << 62
    let conditions = try Conditions(request)
    let found = try await find(name, try Self.version(request), wanted: wanted)
    let facts = ObjectFacts(found.attributes, contentName: found.contentName)
    let customer = try self.opened(facts, call)
    try conditions.check(etag: facts.etag, modified: found.modified, isRead: true)
    // Of a part it would say nothing.
    let showsChecksum = try request.header("x-amz-checksum-mode")?.uppercased() == "ENABLED"
    var fields = facts.answerFields(
      modified: found.modified,
      showsChecksum: showsChecksum && range == nil && partNumber == nil)
    fields += Self.versionFields(found.versionName)
    fields +=
      customer?.key.fields
      ?? Self.encryptionFields(found.keyDomain, own: backend.defaultKeyDomain)
    for (item, header) in Self.overrides {
      guard let value = try request.value(item) else { continue }
      guard value.utf8.allSatisfy({ $0 >= 32 && $0 != 127 || $0 == 9 }) else {
        throw S3Error(.invalidArgument, "\(item) holds a control character.")
      }
      fields.removeAll { $0.isNamed(header) }
      fields.append(.init(header, value))
    }
    var bytes = 0..<found.byteCount
    var status = 200
    if let range {
      guard let part = range.resolve(found.byteCount) else {
        throw S3Error(.invalidRange)
          .with("RangeRequested", try request.header("Range") ?? "")
          .with("ActualObjectSize", String(found.byteCount))
      }
      bytes = part
      status = 206
      fields.append(
        .init("Content-Range", "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(found.byteCount)")
      )
    }
    if let partNumber {
      bytes = try await part(partNumber, of: found, facts)
      status = 206
      if !bytes.isEmpty {
        fields.append(
          .init(
            "Content-Range",
            "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(found.byteCount)"))
      }
      if let count = facts.partCount { fields.append(.init("x-amz-mp-parts-count", String(count))) }
    }
    if isHead || bytes.isEmpty {
      return call.exchange.begin(status, call.fields(fields), byteCount: UInt64(bytes.count))
    }
    var sink: any ByteSink = AnswerSink(
      call.exchange, status, call.fields(fields), byteCount: UInt64(bytes.count))
    if let customer { sink = CustomerSink(sink, customer.opened, pool: driver.buffers) }
    do throws(BackendError) {
      try await backend.read(found, bytes, into: sink)
    } catch {
      if case .sink = error { return }
      throw S3Error(backend: error)
    }
  }

  /// Whichever version a request is about.
  func find(_ name: ObjectName, _ version: VersionName, wanted: Range<UInt64> = 0..<0)
    async throws(S3Error) -> FoundObject
  {
    do throws(BackendError) {
      return try await backend.find(name, version: version, wanted: wanted)
    } catch {
      throw S3Error(backend: error, of: name, version)
    }
  }

  /// Nil when the request names none.
  static func partNumber(_ request: S3Request) throws(S3Error) -> UInt32? {
    guard request.has("partNumber") else { return nil }
    guard let text = try request.value("partNumber"), let number = UInt32(text),
      NewPart.numbers.contains(number)
    else {
      throw S3Error(
        .invalidArgument, "Part number must be an integer between 1 and 10000, inclusive"
      ).with("ArgumentName", "partNumber").with(
        "ArgumentValue", try request.value("partNumber") ?? "")
    }
    return number
  }

  /// What came as a whole is one part.
  private func part(_ number: UInt32, of found: FoundObject, _ facts: ObjectFacts)
    async throws(S3Error) -> Range<UInt64>
  {
    guard number <= facts.partCount ?? 1 else {
      throw S3Error(.invalidPartNumber).with("PartNumberRequested", String(number))
        .with("ActualPartCount", String(facts.partCount ?? 1))
    }
    guard let count = facts.partCount else { return 0..<found.byteCount }
    return try await ask { () async throws(BackendError) in
      try await self.backend.part(found, ordinal: number, partCount: count)
    }
  }

  private static let overrides = [
    ("response-content-type", "Content-Type"), ("response-content-language", "Content-Language"),
    ("response-expires", "Expires"), ("response-cache-control", "Cache-Control"),
    ("response-content-disposition", "Content-Disposition"),
    ("response-content-encoding", "Content-Encoding"),
  ]

  // MARK: Writing

  func putObject(_ call: Call) async throws(S3Error) {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    var given = try ObjectFacts(call.request, now: driver.wallClock.wholeMilliseconds)
    let key = try CustomerKey(call.request, isSecure: call.exchange.isSecure)
    given.customer = key.map {
      CustomerSeal($0, salt: driver.randomBytes(CustomerSeal.saltByteCount))
    }
    let opened = key.flatMap { given.customer?.open($0) }
    let facts = given
    let source = try source(call, try BodyClaims(call.request), byteLimit: Self.putByteLimit)
    source.isWrittenOver = opened != nil
    let precondition = try await precondition(call.request, name)
    let encryption = try await encryptionFields(call, takesKeys: true)
    let listeners = try await listeners(call)
    let made: MadeVersion
    do throws(BackendError) {
      let sealed: any ByteSource =
        opened.map { CustomerSource(source, $0) as any ByteSource } ?? source
      made = try await backend.put(name, source: sealed, precondition: precondition) {
        () async throws(DataPathError) -> ObjectAttributes in
        try await source.check()
        return facts.with(source, opened).attributes
      }
    } catch {
      throw source.failure ?? S3Error(backend: error)
    }
    await tell(
      NotificationEvent(
        event: .put, name: name, version: made.name, byteCount: source.readByteCount,
        etag: facts.with(source, opened).etag), listeners, call)
    await call.answer(
      200,
      facts.with(source, opened).storedFields + Self.versionFields(made.name)
        + (key?.fields ?? encryption))
  }

  /// The bytes a request brings. What can be known to be wrong before the first of them is refused here.
  func source(_ call: Call, _ claims: BodyClaims, byteLimit: UInt64) throws(S3Error) -> BodySource {
    var claims = claims
    claims.byteLimit = byteLimit
    let source = BodySource(
      call.exchange.body, claims, call.payload, pool: driver.buffers, lanes: digestLanes)
    if let count = source.byteCount, count > byteLimit {
      throw S3Error(.entityTooLarge).with("ProposedSize", String(count))
        .with("MaxSizeAllowed", String(byteLimit))
    }
    return source
  }

  /// What a write demands of what is there.
  func precondition(_ request: S3Request, _ name: ObjectName) async throws(S3Error) -> Precondition
  {
    if let text = try request.header("If-None-Match") {
      guard text == "*" else { throw S3Error(.notImplemented).with("Header", "If-None-Match") }
      return .absent
    }
    guard let text = try request.header("If-Match") else { return .none }
    let found = try await ask { () async throws(BackendError) in
      try await self.backend.find(name, wanted: 0..<0)
    }
    let facts = ObjectFacts(found.attributes, contentName: found.contentName)
    guard Conditions.names(text, facts.etag) else {
      throw S3Error(.preconditionFailed).with("Condition", "If-Match")
    }
    return .identity(found.version)
  }

  func copyObject(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let name = request.name else { throw S3Error(.invalidURI) }
    let (source, sourceVersion) = try Self.copySource(request)
    var facts = try ObjectFacts(request, now: driver.wallClock.wholeMilliseconds)
    let directive = try request.header("x-amz-metadata-directive")?.uppercased() ?? "COPY"
    guard ["COPY", "REPLACE"].contains(directive) else {
      throw S3Error(.invalidArgument, "Unknown metadata directive.")
        .with("ArgumentName", "x-amz-metadata-directive").with("ArgumentValue", directive)
    }
    let tagDirective = try request.header("x-amz-tagging-directive")?.uppercased() ?? "COPY"
    guard ["COPY", "REPLACE"].contains(tagDirective) else {
      throw S3Error(.invalidArgument, "Unknown tagging directive.")
        .with("ArgumentName", "x-amz-tagging-directive").with("ArgumentValue", tagDirective)
    }
    let (ownTags, ownLock) = (facts.tags, facts.lock)
    let encryption = try await encryptionFields(call, takesKeys: true)
    let key = try CustomerKey(request, isSecure: call.exchange.isSecure)
    if source.isSame(as: name) && directive == "COPY" && sourceVersion == .unnamed,
      !request.names(header: S3Encryption.header), !request.names(header: "x-amz-storage-class")
    {
      throw S3Error(
        .invalidRequest,
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
      )
    }
    let conditions = try Conditions(request, prefix: "x-amz-copy-source-")
    let precondition = try await precondition(request, name)
    let listeners = try await listeners(call)
    // The source may be replaced between the look at it and the copy.
    for _ in 0..<Self.copyAttempts {
      let found = try await findSource(source, sourceVersion)
      let original = ObjectFacts(found.attributes, contentName: found.contentName)
      let opened = try self.opened(original, call, prefix: S3Encryption.sourceCustomerPrefix)
      // Under the same key no byte is to be encrypted anew, and none is moved.
      guard opened?.key == key else {
        throw S3Error(
          .notImplemented, "A copy is encrypted with the same key of the client's, or with none.")
      }
      try conditions.check(etag: original.etag, modified: found.modified, isRead: false)
      guard found.byteCount <= Self.putByteLimit else {
        throw S3Error(
          .invalidRequest,
          "The specified copy source is larger than the maximum allowable size for a copy source: \(Self.putByteLimit)"
        )
      }
      if directive == "COPY" {
        facts = original
      } else {
        facts.etag = original.etag
        facts.checksum = original.checksum
        facts.customer = original.customer
        facts.customerParts = original.customerParts
      }
      facts.tags = tagDirective == "COPY" ? original.tags : ownTags
      facts.lock = ownLock
      let attributes = facts.attributes
      let made: MadeVersion
      do throws(BackendError) {
        made = try await backend.copy(
          found, to: name, attributes: attributes, precondition: precondition)
      } catch {
        if error == .changed { continue }
        throw S3Error(backend: error)
      }
      await tell(
        NotificationEvent(
          event: .copy, name: name, version: made.name, byteCount: found.byteCount,
          etag: facts.etag), listeners, call)
      // It may be replaced, or gone, by now: then the clock of this gateway is near enough.
      let copied = try? await backend.find(name, version: made.name, wanted: 0..<0)
      var xml = XMLText("CopyObjectResult")
      xml.element(
        "LastModified", Self.time(copied?.modified ?? driver.wallClock.wholeMilliseconds))
      xml.element("ETag", facts.quotedETag)
      return await call.answer(
        xml: xml.finish(),
        Self.versionFields(made.name) + (key?.fields ?? encryption)
          + Self.versionFields(found.versionName, header: "x-amz-copy-source-version-id"))
    }
    throw S3Error(backend: .changed)
  }

  static let copyAttempts = 5

  func findSource(_ name: ObjectName, _ version: VersionName) async throws(S3Error) -> FoundObject {
    do throws(S3Error) {
      return try await find(name, version)
    } catch {
      guard error.code == .methodNotAllowed else { throw error }
      throw S3Error(
        .invalidRequest,
        "The source of a copy request may not specifically refer to a delete marker by version id.")
    }
  }

  /// What `x-amz-copy-source` names: "/bucket/key", coded as in an address, and perhaps "?versionId=" after it.
  static func copySource(_ request: S3Request) throws(S3Error) -> (ObjectName, VersionName) {
    let refusal = S3Error(
      .invalidArgument, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
    )
    .with("ArgumentName", "x-amz-copy-source")
    guard let text = try request.header("x-amz-copy-source") else { throw refusal }
    var path = text.utf8[...]
    var version = VersionName.unnamed
    if let mark = path.lastIndex(of: UInt8(ascii: "?")) {
      let query = String(decoding: path[mark...], as: UTF8.self)
      if query.hasPrefix("?versionId=") {
        version = try Self.version(String(query.dropFirst("?versionId=".count)))
        path = path[..<mark]
      }
    }
    guard var bytes = URLCoding.decode(path)?[...] else { throw refusal }
    if bytes.first == UInt8(ascii: "/") { bytes = bytes.dropFirst() }
    guard let cut = bytes.firstIndex(of: UInt8(ascii: "/")),
      let bucket = String(validating: bytes[..<cut], as: UTF8.self),
      let key = String(validating: bytes[(cut + 1)...], as: UTF8.self), !bucket.isEmpty,
      !key.isEmpty
    else { throw refusal }
    return (ObjectName(bucket: bucket, key: key), version)
  }
}

extension ObjectName {
  /// By bytes: equal strings may differ in theirs.
  func isSame(as other: ObjectName) -> Bool {
    bucket.utf8.elementsEqual(other.bucket.utf8) && key.utf8.elementsEqual(other.key.utf8)
  }
}

extension ObjectFacts {
  /// With what is known when the bytes have come.
  ///
  /// - Parameter opened: of bytes that are encrypted with a key that the client brought.
  func with(_ source: BodySource, _ opened: CustomerSeal.Opened? = nil) -> ObjectFacts {
    var facts = self
    facts.etag = opened?.etag(source.md5Digest) ?? hexText(source.md5Digest)
    facts.checksum = source.checksumValue.flatMap { value in
      source.checksumName.map { Checksum(name: $0, value: value) }
    }
    return facts
  }

  /// The headers of an answer to a write.
  var storedFields: [HTTPFields.Line] {
    var lines: [HTTPFields.Line] = [.init("ETag", quotedETag)]
    if let checksum {
      lines.append(.init(checksum.header, checksum.value))
      lines.append(.init("x-amz-checksum-type", "FULL_OBJECT"))
    }
    return lines
  }
}

extension Payload {
  /// The signature covers the bytes.
  var isSigned: Bool {
    switch self {
    case .digest: true
    case .pieces(let signing, _): signing != nil
    case .unsigned: false
    }
  }
}

/// Bytes that go out as the body of an answer, in order. The answer begins with the first of them: until then it can still
/// be another one.
private final class AnswerSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  private let exchange: HTTPExchange
  private let status: Int
  private let fields: HTTPFields
  private let byteCount: UInt64
  init(_ exchange: HTTPExchange, _ status: Int, _ fields: HTTPFields, byteCount: UInt64) {
    self.exchange = exchange
    self.status = status
    self.fields = fields
    self.byteCount = byteCount
  }
  var isOrdered: Bool { true }
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    if !exchange.hasBegun { exchange.begin(status, fields, byteCount: byteCount) }
    do throws(HTTPError) {
      try await exchange.send(slices)
    } catch {
      throw .sink("\(error)")
    }
  }
}
