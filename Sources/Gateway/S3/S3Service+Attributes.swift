import HTTP
import Messages
import Service

/// What there is to know of an object but its bytes, in one document.
extension S3Service {
  private static let objectAttributes = [
    "ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize",
  ]

  /// GetObjectAttributes.
  func getAttributes(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let name = request.name else { throw S3Error(.invalidURI) }
    let wanted = request.fields.values("x-amz-object-attributes").flatMap {
      $0.split(separator: ",").map { String($0.filter { $0 != " " }) }
    }
    guard !wanted.isEmpty, wanted.allSatisfy(Self.objectAttributes.contains) else {
      throw S3Error(.invalidArgument, "Invalid attribute name specified.")
        .with("ArgumentName", "x-amz-object-attributes")
        .with("ArgumentValue", wanted.joined(separator: ","))
    }
    let found = try await find(name, try Self.version(request))
    let facts = ObjectFacts(found.attributes, contentName: found.contentName)
    _ = try opened(facts, call)
    var xml = XMLText("GetObjectAttributesResponse")
    if wanted.contains("ETag") { xml.element("ETag", facts.etag) }
    if wanted.contains("Checksum"), let checksum = facts.checksum {
      xml.group("Checksum") {
        $0.element("Checksum" + checksum.name, checksum.value)
        $0.element("ChecksumType", checksum.typeText)
      }
    }
    if wanted.contains("ObjectParts"), let count = facts.partCount {
      xml.group("ObjectParts") { $0.element("PartsCount", count) }
    }
    if wanted.contains("StorageClass") { xml.element("StorageClass", facts.storageClass) }
    if wanted.contains("ObjectSize") { xml.element("ObjectSize", found.byteCount) }
    let modified = CivilTime(.milliseconds(Int64(clamping: found.modified))).http
    await call.answer(
      xml: xml.finish(),
      [.init("Last-Modified", modified)] + Self.versionFields(found.versionName))
  }
}
