import Coding
import HTTP
import Messages
import Service

extension S3Service {
  func listParts(_ call: Call) async throws(S3Error) {
    let request = call.request
    let upload = try uploadName(call)
    let encoding = try encodingType(request)
    let limit = try request.number("max-parts", default: 1000, in: 0...1000)
    let after = try request.number("part-number-marker", default: 0, in: 0...Int(UInt32.max))
    let page = try await ask { () async throws(BackendError) in
      try await self.backend.parts(upload, after: UInt32(after), limit: limit)
    }
    let algorithm = PartFacts(page.description.attributes).algorithm
    var xml = XMLText("ListPartsResult")
    xml.element("Bucket", upload.name.bucket)
    xml.element(
      "Key",
      encoding ? URLCoding.encode(upload.name.key.utf8, keepingSlash: true) : upload.name.key)
    xml.element("UploadId", upload.id)
    xml.element("PartNumberMarker", after)
    xml.element("NextPartNumberMarker", page.parts.last?.part.number ?? UInt32(after))
    xml.element("MaxParts", limit)
    // Of a page without room for any there is no telling where to go on.
    xml.element("IsTruncated", !page.isLast && limit > 0)
    if encoding { xml.element("EncodingType", "url") }
    if let algorithm {
      xml.element("ChecksumAlgorithm", algorithm.name)
      xml.element("ChecksumType", algorithm.typeText)
    }
    for part in page.parts {
      xml.group("Part") { xml in
        xml.element("PartNumber", part.part.number)
        xml.element("LastModified", Self.time(part.modified))
        xml.element("ETag", "\"\(hexText(part.part.etagBytes))\"")
        xml.element("Size", part.part.byteCount)
        if let algorithm { xml.element(algorithm.element, Base64.encode(part.part.checksum)) }
      }
    }
    Self.people(page.description, &xml)
    xml.element("StorageClass", "STANDARD")
    await call.answer(xml: xml.finish())
  }

  private static func people(_ description: MultipartDescription, _ xml: inout XMLText) {
    xml.group("Initiator") {
      $0.element("ID", description.owner)
      $0.element("DisplayName", description.owner)
    }
    xml.group("Owner") {
      $0.element("ID", ownerID)
      $0.element("DisplayName", ownerID)
    }
  }

  func listUploads(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let bucket = request.bucket else { throw S3Error(.invalidBucketName) }
    let encoding = try encodingType(request)
    let prefix = try request.value("prefix") ?? ""
    let delimiter = try request.value("delimiter") ?? ""
    let limit = try request.number("max-uploads", default: 1000, in: 0...1000)
    let keyMarker = try request.value("key-marker") ?? ""
    // Without a key it says nothing.
    let idMarker = keyMarker.isEmpty ? "" : try request.value("upload-id-marker") ?? ""
    var wanted = UploadListRequest(bucket: bucket)
    wanted.prefix = prefix
    wanted.delimiter = delimiter
    wanted.limit = limit
    wanted.afterKey =
      idMarker.isEmpty
      ? Self.pastGroup(keyMarker, prefix: prefix, delimiter: delimiter) : keyMarker
    wanted.afterID = idMarker
    let asked = wanted
    let page = try await ask { () async throws(BackendError) in
      try await self.backend.uploads(asked)
    }
    func coded(_ text: String) -> String {
      encoding ? URLCoding.encode(text.utf8, keepingSlash: true) : text
    }
    var xml = XMLText("ListMultipartUploadsResult")
    xml.element("Bucket", bucket)
    xml.element("KeyMarker", coded(keyMarker))
    xml.element("UploadIdMarker", idMarker)
    if !page.isLast {
      // The last of all that is on the page, be it an upload or a group.
      let entry = page.entries.last
      let group = page.prefixes.last
      if let group, entry.map({ $0.key.utf8.lexicographicallyPrecedes(group.utf8) }) ?? true {
        xml.element("NextKeyMarker", coded(group))
        xml.element("NextUploadIdMarker", "")
      } else if let entry {
        xml.element("NextKeyMarker", coded(entry.key))
        xml.element("NextUploadIdMarker", entry.id)
      }
    }
    xml.element("Prefix", coded(prefix))
    if !delimiter.isEmpty { xml.element("Delimiter", coded(delimiter)) }
    if encoding { xml.element("EncodingType", "url") }
    xml.element("MaxUploads", limit)
    xml.element("IsTruncated", !page.isLast)
    for entry in page.entries {
      let algorithm = PartFacts(entry.description.attributes).algorithm
      xml.group("Upload") { xml in
        xml.element("Key", coded(entry.key))
        xml.element("UploadId", entry.id)
        Self.people(entry.description, &xml)
        xml.element("StorageClass", "STANDARD")
        xml.element("Initiated", Self.time(entry.description.initiated))
        if let algorithm {
          xml.element("ChecksumAlgorithm", algorithm.name)
          xml.element("ChecksumType", algorithm.typeText)
        }
      }
    }
    for group in page.prefixes {
      xml.group("CommonPrefixes") { $0.element("Prefix", coded(group)) }
    }
    await call.answer(xml: xml.finish())
  }
}
