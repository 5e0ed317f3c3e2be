import HTTP
import Service

extension S3Service {
  /// ListObjects, versions 1 and 2.
  func listObjects(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let bucket = request.bucket else { throw S3Error(.invalidBucketName) }
    let isSecond = try request.value("list-type") == "2"
    let encoding = try encodingType(request)
    let prefix = try request.value("prefix") ?? ""
    let delimiter = try request.value("delimiter") ?? ""
    let limit = try request.number("max-keys", default: 1000, in: 0...1000)
    let token = isSecond ? try request.value("continuation-token") : nil
    let start = try request.value(isSecond ? "start-after" : "marker") ?? ""

    var wanted = ListRequest(bucket: bucket)
    wanted.prefix = prefix
    wanted.delimiter = delimiter
    wanted.limit = limit
    wanted.after = Self.pastGroup(start, prefix: prefix, delimiter: delimiter)
    if let token {
      guard let bytes = Base64.decode(token), let text = String(validating: bytes, as: UTF8.self)
      else {
        throw S3Error(.invalidArgument, "The continuation token provided is incorrect")
          .with("ArgumentName", "continuation-token")
      }
      wanted.after = text
    }
    let asked = wanted
    var page = ListPage()
    if limit > 0 {
      page = try await ask { () async throws(BackendError) in try await self.backend.list(asked) }
    } else {
      try await requireBucket(request)
    }

    func coded(_ text: String) -> String {
      encoding ? URLCoding.encode(text.utf8, keepingSlash: true) : text
    }
    var xml = XMLText("ListBucketResult")
    xml.element("Name", bucket)
    xml.element("Prefix", coded(prefix))
    if !delimiter.isEmpty { xml.element("Delimiter", coded(delimiter)) }
    xml.element("MaxKeys", limit)
    if encoding { xml.element("EncodingType", "url") }
    if isSecond {
      xml.element("KeyCount", page.entries.count + page.prefixes.count)
      if let token { xml.element("ContinuationToken", token) }
      if !start.isEmpty { xml.element("StartAfter", coded(start)) }
      if let next = page.next {
        xml.element("NextContinuationToken", Base64.encode(Array(next.utf8)))
      }
    } else {
      xml.element("Marker", coded(start))
      if let next = page.next { xml.element("NextMarker", coded(next)) }
    }
    xml.element("IsTruncated", page.next != nil)
    let fetchesOwner = try request.value("fetch-owner") == "true"
    let showsOwner = !isSecond || fetchesOwner
    for entry in page.entries {
      let facts = ObjectFacts(entry.attributes, contentName: entry.contentName)
      xml.group("Contents") { xml in
        xml.element("Key", coded(entry.key))
        xml.element("LastModified", Self.time(entry.modified))
        xml.element("ETag", facts.quotedETag)
        if let checksum = facts.checksum { xml.element("ChecksumAlgorithm", checksum.name) }
        xml.element("Size", entry.byteCount)
        if showsOwner {
          xml.group("Owner") {
            $0.element("ID", Self.ownerID)
            $0.element("DisplayName", Self.ownerID)
          }
        }
        xml.element("StorageClass", facts.storageClass)
      }
    }
    for group in page.prefixes {
      xml.group("CommonPrefixes") { $0.element("Prefix", coded(group)) }
    }
    await call.answer(xml: xml.finish())
  }

  func encodingType(_ request: S3Request) throws(S3Error) -> Bool {
    guard let text = try request.value("encoding-type"), !text.isEmpty else { return false }
    guard text == "url" else {
      throw S3Error(.invalidArgument, "Invalid Encoding Method specified in Request")
        .with("ArgumentName", "encoding-type").with("ArgumentValue", text)
    }
    return true
  }

  /// A listing that goes on after a group's name goes on after all of the group.
  static func pastGroup(_ start: String, prefix: String, delimiter: String) -> String {
    guard !delimiter.isEmpty, start.utf8.count > prefix.utf8.count, start.hasPrefix(prefix),
      start.hasSuffix(delimiter)
    else { return start }
    // Above every key that begins so: no other character has larger bytes.
    return start + "\u{10FFFF}"
  }
}

extension XMLText {
  /// A document of one element with text.
  static func single(_ name: String, _ value: String) -> [UInt8] {
    var xml = XMLText(name)
    xml.text(value)
    return xml.finish()
  }
}
