import Coding
import DataPath
import HTTP
import Messages
import Ring
import Service

/// Objects that come in parts: beginning, parts, end.
extension S3Service {
  /// S3's bounds on an object that comes in parts.
  static let leastPartByteCount: UInt64 = 5 << 20
  static let objectByteLimit: UInt64 = 5 << 40

  func uploadName(_ call: Call) throws(S3Error) -> UploadName {
    guard let name = call.request.name else { throw S3Error(.invalidURI) }
    guard let id = try call.request.value("uploadId"), !id.isEmpty else {
      throw S3Error(.noSuchUpload)
    }
    return UploadName(name, id: id)
  }

  private func partNumber(_ request: S3Request) throws(S3Error) -> UInt32 {
    guard let number = try Self.partNumber(request) else {
      throw S3Error(.invalidRequest, "This request needs a partNumber.")
    }
    return number
  }

  func beginUpload(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let name = request.name, let bucket = request.bucket else { throw S3Error(.invalidURI) }
    var facts = try PartFacts(request, now: driver.wallClock.wholeMilliseconds)
    let key = try CustomerKey(request, isSecure: call.exchange.isSecure)
    facts.object.customer = key.map {
      CustomerSeal($0, salt: driver.randomBytes(CustomerSeal.saltByteCount))
    }
    let attributes = facts.attributes
    let encryption = try await encryptionFields(call, takesKeys: true)
    let id = try await ask { () async throws(BackendError) in
      try await self.backend.beginUpload(name, attributes: attributes, owner: call.accessKey)
    }
    var xml = XMLText("InitiateMultipartUploadResult")
    xml.element("Bucket", bucket)
    xml.element("Key", name.key)
    xml.element("UploadId", id)
    var fields: [HTTPFields.Line] = []
    if let algorithm = facts.algorithm {
      fields = [
        .init("x-amz-checksum-algorithm", algorithm.name),
        .init("x-amz-checksum-type", algorithm.typeText),
      ]
    }
    await call.answer(xml: xml.finish(), fields + (key?.fields ?? encryption))
  }

  private func facts(of upload: UploadName) async throws(S3Error) -> PartFacts {
    PartFacts(
      try await ask { () async throws(BackendError) in
        try await self.backend.parts(upload, after: 0, limit: 0)
      }.description.attributes)
  }

  func putPart(_ call: Call) async throws(S3Error) {
    let upload = try uploadName(call)
    let number = try partNumber(call.request)
    let key = try CustomerKey(call.request, isSecure: call.exchange.isSecure)
    let encryption = try await encryptionFields(call, takesKeys: true)
    let facts = try await facts(of: upload)
    let sealed = try customerPart(facts, key, number: number)
    var claims = try BodyClaims(call.request)
    if let algorithm = facts.algorithm {
      if let claimed = claims.checksum, claimed.kind != algorithm.kind {
        throw S3Error(
          .invalidRequest,
          "Checksum Type mismatch occurred, expected checksum Type: \(algorithm.name.lowercased()), actual checksum Type: \(claimed.name.lowercased())"
        )
      }
      if claims.checksum == nil { claims.wantChecksum(algorithm.kind) }
    }
    let source = try source(call, claims, byteLimit: Self.putByteLimit)
    source.isWrittenOver = sealed != nil
    let stored: any ByteSource =
      sealed.map { CustomerSource(source, $0.opened) as any ByteSource } ?? source
    let keepsChecksum = facts.algorithm != nil
    do throws(BackendError) {
      try await backend.putPart(upload, number: number, source: stored) {
        () async throws(DataPathError) -> PartWords in
        try await source.check()
        return PartWords(
          digest: sealed?.digest(source.md5Digest) ?? source.md5Digest,
          checksum: keepsChecksum ? source.checksumValue.flatMap(Base64.decode) ?? [] : [])
      }
    } catch {
      throw source.failure ?? S3Error(backend: error)
    }
    let etag = sealed?.whole.etag(source.md5Digest) ?? hexText(source.md5Digest)
    var fields: [HTTPFields.Line] = [.init("ETag", "\"\(etag)\"")]
    if let name = source.checksumName, let value = source.checksumValue {
      fields.append(.init("x-amz-checksum-" + name.lowercased(), value))
    }
    await call.answer(200, fields + (key?.fields ?? encryption))
  }

  // MARK: Copies

  func copyPart(_ call: Call) async throws(S3Error) {
    let request = call.request
    let upload = try uploadName(call)
    let number = try partNumber(request)
    let (source, sourceVersion) = try Self.copySource(request)
    let rangeText = try request.header("x-amz-copy-source-range")
    let conditions = try Conditions(request, prefix: "x-amz-copy-source-")
    let key = try CustomerKey(request, isSecure: call.exchange.isSecure)
    let encryption = try await encryptionFields(call, takesKeys: true)
    let facts = try await facts(of: upload)
    let algorithm = facts.algorithm
    for _ in 0..<Self.copyAttempts {
      let found = try await findSource(source, sourceVersion)
      let original = ObjectFacts(found.attributes, contentName: found.contentName)
      let opened = try self.opened(original, call, prefix: S3Encryption.sourceCustomerPrefix)
      let sealed = try customerPart(facts, key, number: number)
      try conditions.check(etag: original.etag, modified: found.modified, isRead: false)
      let range = try Self.copyRange(rangeText, found.byteCount)
      guard UInt64(range.count) <= Self.putByteLimit else {
        throw S3Error(
          .invalidRequest,
          "The specified copy source is larger than the maximum allowable size for a copy source: \(Self.putByteLimit)"
        )
      }
      do throws(BackendError) {
        let words: PartWords
        if sealed != nil || opened != nil {
          words = try await copyBytes(
            found, range, opened?.opened, sealed, algorithm, to: upload, number)
        } else {
          words = try await self.words(of: found, original, range, algorithm)
          try await backend.copyPart(
            upload, number: number, from: found, range: range, words: words)
        }
        var xml = XMLText("CopyPartResult")
        xml.element("LastModified", Self.time(driver.wallClock.wholeMilliseconds))
        xml.element(
          "ETag", "\"\(hexText(words.digest.prefix(CustomerParts.digestByteCount)))\"")
        if let algorithm { xml.element(algorithm.element, Base64.encode(words.checksum)) }
        return await call.answer(
          xml: xml.finish(),
          Self.versionFields(found.versionName, header: "x-amz-copy-source-version-id")
            + (key?.fields ?? encryption))
      } catch {
        if error == .changed { continue }
        throw S3Error(backend: error)
      }
    }
    throw S3Error(backend: .changed)
  }

  /// Stores bytes anew as a part: what is encrypted with a client's key, or is to be, cannot be shared.
  private func copyBytes(
    _ found: FoundObject, _ range: Range<UInt64>, _ opened: CustomerSeal.Opened?,
    _ sealed: CustomerPart?, _ algorithm: PartFacts.Algorithm?, to upload: UploadName,
    _ number: UInt32
  ) async throws(BackendError) -> PartWords {
    let plain = FoundSource(
      backend, found, range, opened, algorithm?.kind, pool: driver.buffers)
    let source: any ByteSource =
      sealed.map { CustomerSource(plain, $0.opened) as any ByteSource } ?? plain
    let kept = Promise<PartWords>()
    try await backend.putPart(upload, number: number, source: source) {
      () async throws(DataPathError) -> PartWords in
      let (md5, checksum) = plain.finish()
      let words = PartWords(digest: sealed?.digest(md5) ?? md5, checksum: checksum)
      if !kept.isFulfilled { kept.fulfil(words) }
      return words
    }
    return await kept.get()
  }

  /// "bytes=FIRST-LAST", within the source; nil: all of it.
  private static func copyRange(_ text: String?, _ byteCount: UInt64) throws(S3Error) -> Range<
    UInt64
  > {
    guard let text else { return 0..<byteCount }
    guard case .closed(let first, let last)? = ByteRange(text) else {
      throw S3Error(
        .invalidArgument,
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy"
      ).with("ArgumentName", "x-amz-copy-source-range").with("ArgumentValue", text)
    }
    guard last < byteCount else {
      throw S3Error(
        .invalidArgument, "Range specified is not valid for source object of size: \(byteCount)"
      ).with("ArgumentName", "x-amz-copy-source-range").with("ArgumentValue", text)
    }
    return first..<(last + 1)
  }

  /// What a copied part is called: by the MD5 of its bytes where that is known or they are read for their checksum anyway; else by
  /// a name of bytes and range, which no client can tell from one.
  private func words(
    of found: FoundObject, _ facts: ObjectFacts, _ range: Range<UInt64>,
    _ algorithm: PartFacts.Algorithm?
  ) async throws(BackendError) -> PartWords {
    let isWhole = range == 0..<found.byteCount
    if let algorithm {
      let sink = DigestSink(algorithm.kind)
      if !range.isEmpty { try await backend.read(found, range, into: sink) }
      return PartWords(digest: sink.md5.finish(), checksum: sink.checksum.finish())
    }
    if isWhole, let digest = hexBytes(facts.etag), digest.count == 16 {
      return PartWords(digest: digest)
    }
    let name = "\(found.contentName) \(range.lowerBound) \(range.upperBound)"
    return PartWords(digest: Array(RunningDigest.of(Array(name.utf8), .sha256).prefix(16)))
  }

  // MARK: The end

  func abortUpload(_ call: Call) async throws(S3Error) {
    let upload = try uploadName(call)
    try await ask { () async throws(BackendError) in try await self.backend.abort(upload) }
    await call.answer(204)
  }

  func completeUpload(_ call: Call) async throws(S3Error) {
    let upload = try uploadName(call)
    let wanted = try WantedPart.read(
      try await wholeBody(call, limit: WantedPart.documentByteLimit))
    let precondition = try await precondition(call.request, upload.name)
    // S3 wants it where the upload has a checksum; here it says nothing that is not known, but must be right.
    let key = try CustomerKey(call.request, isSecure: call.exchange.isSecure)
    let encryption = try await encryptionFields(call, takesKeys: true)
    let listeners = try await listeners(call)
    let answer = SlowAnswer(call, driver)
    do throws(S3Error) {
      let (document, version) = try await complete(
        upload, wanted, precondition, listeners, key, call)
      await answer.finish(document, Self.versionFields(version) + (key?.fields ?? encryption))
    } catch {
      // Too late for a status: the document says it.
      guard await answer.hasBegun() else { throw error }
      await answer.finish(error, resource: "/\(upload.name.bucket)/\(upload.name.key)")
    }
  }

  private func complete(
    _ upload: UploadName, _ wanted: [WantedPart], _ precondition: Precondition,
    _ listeners: NotificationRules?, _ key: CustomerKey?, _ call: Call
  ) async throws(S3Error) -> (XMLText, VersionName) {
    do throws(S3Error) {
      for _ in 0..<Self.copyAttempts {
        let (facts, known) = try await allParts(of: upload)
        try customerUpload(facts, key, isNeeded: false)
        let parts = try WantedPart.choose(wanted, known, facts.algorithm)
        let completed = try facts.completed(parts)
        try check(call.request, completed, parts, facts.algorithm)
        let attributes = try facts.attributes(parts, upload: upload.id)
        do throws(BackendError) {
          let made = try await backend.complete(
            upload, parts: parts, attributes: attributes, precondition: precondition)
          await tell(
            NotificationEvent(
              event: .completed, name: upload.name, version: made.name,
              byteCount: parts.reduce(UInt64(0)) { $0 &+ $1.part.byteCount }, etag: completed.etag),
            listeners, call)
          return (result(upload, completed, call), made.name)
        } catch {
          // One was put again since it was listed: what counts now is looked at anew.
          guard error == .partNotFound else { throw S3Error(backend: error) }
        }
      }
      throw S3Error(.invalidPart)
    } catch {
      // A request may come again whose answer was lost.
      guard error.code == .noSuchUpload, let found = try await completedBefore(upload) else {
        throw error
      }
      return (result(upload, found.facts, call), found.version)
    }
  }

  /// The facts of the object at the upload's key, when it came from this upload.
  private func completedBefore(_ upload: UploadName) async throws(S3Error) -> (
    facts: ObjectFacts, version: VersionName
  )? {
    do throws(BackendError) {
      let found = try await backend.find(upload.name, wanted: 0..<0)
      guard PartFacts.upload(of: found.attributes) == upload.id else { return nil }
      return (ObjectFacts(found.attributes, contentName: found.contentName), found.versionName)
    } catch {
      if error.isMissing || error == .bucketNotFound { return nil }
      throw S3Error(backend: error)
    }
  }

  private func allParts(of upload: UploadName) async throws(S3Error) -> (
    facts: PartFacts, parts: [UInt32: ListParts.Part]
  ) {
    var parts: [UInt32: ListParts.Part] = [:]
    var after: UInt32 = 0
    while true {
      let from = after
      let page = try await ask { () async throws(BackendError) in
        try await self.backend.parts(upload, after: from, limit: 1000)
      }
      for part in page.parts { parts[part.part.number] = part }
      after = page.parts.last?.part.number ?? after
      if page.isLast { return (PartFacts(page.description.attributes), parts) }
    }
  }

  /// What the request says of the whole object.
  private func check(
    _ request: S3Request, _ completed: ObjectFacts, _ parts: [ListParts.Part],
    _ algorithm: PartFacts.Algorithm?
  ) throws(S3Error) {
    let byteCount = parts.reduce(UInt64(0)) { $0 &+ $1.part.byteCount }
    guard byteCount <= Self.objectByteLimit else {
      throw S3Error(.entityTooLarge).with("ProposedSize", String(byteCount))
        .with("MaxSizeAllowed", String(Self.objectByteLimit))
    }
    if let text = try request.header("x-amz-mp-object-size"), UInt64(text) != byteCount {
      throw S3Error(
        .invalidRequest,
        "The provided 'x-amz-mp-object-size' header value \(text) does not match what was computed: \(byteCount)"
      )
    }
    if let type = try request.header("x-amz-checksum-type")?.uppercased(), let algorithm,
      type != algorithm.typeText
    {
      throw S3Error(
        .invalidRequest,
        "The upload was created using the \(algorithm.typeText) checksum mode. The complete request must use the same checksum mode."
      )
    }
    for (kind, name) in BodyClaims.checksums {
      guard let claimed = try request.header("x-amz-checksum-" + name.lowercased()) else {
        continue
      }
      guard let algorithm, algorithm.kind == kind, let checksum = completed.checksum else {
        throw S3Error(
          .invalidRequest, "The upload was not created with the checksum algorithm \(name).")
      }
      guard claimed == checksum.value else {
        throw S3Error(
          .badDigest, "The \(name) you specified did not match the calculated checksum.")
      }
    }
  }

  private func result(_ upload: UploadName, _ facts: ObjectFacts, _ call: Call) -> XMLText {
    var xml = XMLText("CompleteMultipartUploadResult")
    let host = call.request.fields["Host"] ?? ""
    let path = URLCoding.encode(upload.name.key.utf8, keepingSlash: true)
    xml.element(
      "Location",
      "\(call.exchange.isSecure ? "https" : "http")://\(host)/\(upload.name.bucket)/\(path)")
    xml.element("Bucket", upload.name.bucket)
    xml.element("Key", upload.name.key)
    xml.element("ETag", facts.quotedETag)
    if let checksum = facts.checksum {
      xml.element("Checksum" + checksum.name, checksum.value)
      xml.element("ChecksumType", checksum.typeText)
    }
    return xml
  }
}

/// Makes the digests of bytes that are read for nothing else. Loop-confined.
private final class DigestSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  let md5 = RunningDigest(.md5)
  let checksum: RunningDigest
  init(_ kind: RunningDigest.Kind) { checksum = RunningDigest(kind) }
  var isOrdered: Bool { true }
  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    for slice in slices {
      slice.withBytes { bytes in
        md5.update(bytes)
        checksum.update(bytes)
      }
    }
  }
}
