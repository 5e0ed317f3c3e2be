import Coding
import HTTP
import Messages
import Service

/// Buckets with versions: their state, their listing, and which version a request is about.
extension S3Service {
  /// What `versionId` names; `unnamed` when the request has none.
  static func version(_ request: S3Request) throws(S3Error) -> VersionName {
    guard let text = try request.value("versionId") else { return .unnamed }
    return try version(text)
  }

  static func version(_ text: String) throws(S3Error) -> VersionName {
    guard !text.isEmpty else {
      throw S3Error(.invalidArgument, "Version id cannot be the empty string")
        .with("ArgumentName", "versionId").with("ArgumentValue", "")
    }
    guard let name = VersionName(text: text) else {
      throw S3Error(.invalidArgument, "Invalid version id specified")
        .with("ArgumentName", "versionId").with("ArgumentValue", text)
    }
    return name
  }

  /// The header that tells a version; none where the bucket has no versions.
  static func versionFields(_ name: VersionName, header: String = "x-amz-version-id")
    -> [HTTPFields.Line]
  {
    name.text.map { [.init(header, $0)] } ?? []
  }

  // MARK: Their state

  func getVersioning(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let versioning = try await ask { () async throws(BackendError) in
      try await self.backend.versioning(of: bucket)
    }
    var xml = XMLText("VersioningConfiguration")
    switch versioning {
    case .off: break
    case .enabled: xml.element("Status", "Enabled")
    case .suspended: xml.element("Status", "Suspended")
    }
    await call.answer(xml: xml.finish())
  }

  func putVersioning(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let body = try await wholeBody(call, limit: 64 << 10)
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(body, root: "VersioningConfiguration")
    } catch {
      throw S3Error(.malformedXML)
    }
    // What it does not know it cannot do: other servers have keys that are to stay without versions.
    guard tree.children.allSatisfy({ ["Status", "MfaDelete"].contains($0.name) }) else {
      throw S3Error(.malformedXML)
    }
    if let second = tree.value("MfaDelete"), second != "Disabled" {
      guard second == "Enabled" else { throw S3Error(.malformedXML) }
      throw S3Error(.notImplemented)
    }
    let versioning: BucketVersioning
    switch tree.value("Status") {
    case "Enabled": versioning = .enabled
    case "Suspended": versioning = .suspended
    case nil where tree.all("Status").isEmpty:
      throw S3Error(
        .illegalVersioningConfiguration,
        "The Versioning element must be specified")
    default: throw S3Error(.malformedXML)
    }
    try await ask { () async throws(BackendError) in
      try await self.backend.set(versioning, ofBucket: bucket)
    }
    await call.answer(200)
  }

  // MARK: Their listing

  func listVersions(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let bucket = request.bucket else { throw S3Error(.invalidBucketName) }
    let encoding = try encodingType(request)
    var wanted = VersionListRequest(bucket: bucket)
    wanted.prefix = try request.value("prefix") ?? ""
    wanted.delimiter = try request.value("delimiter") ?? ""
    wanted.limit = try request.number("max-keys", default: 1000, in: 0...1000)
    wanted.afterKey = try request.value("key-marker") ?? ""
    let marker = try request.value("version-id-marker") ?? ""
    if !marker.isEmpty {
      guard !wanted.afterKey.isEmpty else {
        throw S3Error(
          .invalidArgument, "A version-id marker cannot be specified without a key marker."
        ).with("ArgumentName", "version-id-marker").with("ArgumentValue", marker)
      }
      wanted.after = try Self.version(marker)
    }
    let asked = wanted
    let page = try await ask { () async throws(BackendError) in
      try await self.backend.versions(asked)
    }
    func coded(_ text: String) -> String {
      encoding ? URLCoding.encode(text.utf8, keepingSlash: true) : text
    }
    func owner(_ xml: inout XMLText) {
      xml.group("Owner") {
        $0.element("ID", Self.ownerID)
        $0.element("DisplayName", Self.ownerID)
      }
    }
    var xml = XMLText("ListVersionsResult")
    xml.element("Name", bucket)
    xml.element("Prefix", coded(wanted.prefix))
    xml.element("KeyMarker", coded(wanted.afterKey))
    xml.element("VersionIdMarker", marker)
    if let next = page.next {
      xml.element("NextKeyMarker", coded(next.key))
      if let text = next.after.text { xml.element("NextVersionIdMarker", text) }
    }
    xml.element("MaxKeys", wanted.limit)
    if !wanted.delimiter.isEmpty { xml.element("Delimiter", coded(wanted.delimiter)) }
    if encoding { xml.element("EncodingType", "url") }
    xml.element("IsTruncated", !page.isLast)
    for entry in page.entries {
      xml.group(entry.isMarker ? "DeleteMarker" : "Version") { xml in
        xml.element("Key", coded(entry.key))
        xml.element("VersionId", entry.name.text ?? "null")
        xml.element("IsLatest", entry.isCurrent)
        xml.element("LastModified", Self.time(entry.modified))
        if !entry.isMarker {
          let facts = ObjectFacts(entry.attributes, contentName: entry.contentHash.hex)
          xml.element("ETag", facts.quotedETag)
          if let checksum = facts.checksum { xml.element("ChecksumAlgorithm", checksum.name) }
          xml.element("Size", entry.byteCount)
          xml.element("StorageClass", facts.storageClass)
        }
        owner(&xml)
      }
    }
    for group in page.prefixes {
      xml.group("CommonPrefixes") { $0.element("Prefix", coded(group)) }
    }
    await call.answer(xml: xml.finish())
  }

  /// Changes one version, and tells what is wrong with the one that is named.
  func changing<Value>(
    _ name: ObjectName, _ version: VersionName, _ body: () async throws(BackendError) -> Value
  ) async throws(S3Error) -> Value {
    do throws(BackendError) {
      return try await body()
    } catch {
      throw S3Error(backend: error, of: name, version)
    }
  }
}

extension S3Error {
  /// With what belongs to a request that names a version.
  init(backend error: BackendError, of name: ObjectName, _ version: VersionName) {
    self.init(backend: error)
    guard let text = version.text else { return }
    switch code {
    case .noSuchVersion: self = with("Key", name.key).with("VersionId", text)
    case .methodNotAllowed: self = with(header: "x-amz-version-id", text)
    default: break
    }
  }
}
