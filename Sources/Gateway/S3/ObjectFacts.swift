import Coding
import HTTP
import Messages
import Service

/// What S3 keeps with an object beside its bytes, and how it stands in the backend's attributes: the content type as
/// such, all else as user attributes under the names of their headers, in lower case; the ETag under `etag`.
struct ObjectFacts {
  /// Empty when the client said none.
  var contentType = ""
  /// Content headers and user metadata, by name, in lower case.
  var fields: [HTTPFields.Line] = []
  /// Without quotes.
  var etag = ""
  var checksum: Checksum?
  var tags = S3Tags()
  var lock: ObjectLock?
  /// Of an object whose bytes are encrypted with a key that its client brings.
  var customer: CustomerSeal?
  /// Of such a one that came in parts.
  var customerParts: CustomerParts?
  /// It came in parts, and what says which is no list of parts.
  private(set) var hasDamagedCustomerParts = false
  /// Nil: STANDARD. Of what is there: nothing that is written has another.
  private(set) var tier: ObjectTier?
  var storageClass: String { tier?.name ?? "STANDARD" }

  struct Checksum: Equatable {
    /// "CRC32"
    var name: String
    /// Base64, of all bytes.
    var value: String
    var header: String { "x-amz-checksum-" + name.lowercased() }
    /// Base64 has no hyphen; S3 puts one before the number of parts.
    var typeText: String {
      value.utf8.contains(UInt8(ascii: "-")) ? "COMPOSITE" : "FULL_OBJECT"
    }
  }
  /// The ETag was kept with the object, not made up from its content's name.
  var isETagKept = true

  private static let contentHeaders = [
    "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
    "x-amz-website-redirect-location",
  ]
  static let metaPrefix = "x-amz-meta-"
  private static let customerName = "sse-customer"
  private static let metaByteLimit = 2048
  /// The form of the attributes has room for 64; some are ours.
  private static let fieldLimit = 56

  init() {}

  /// What a request that makes an object says of it.
  ///
  /// - Throws: for what S3 refuses, and for what is not there yet.
  init(_ request: S3Request, now: UInt64) throws(S3Error) {
    lock = try S3Lock.read(request, now: now)
    try Self.refuseUnsupported(request)
    contentType = try request.header("Content-Type") ?? ""
    if let text = try request.header("x-amz-tagging") { tags = try S3Tags(header: text) }
    for name in Self.contentHeaders {
      guard var value = try request.header(name) else { continue }
      if name == "content-encoding" {
        // How it travelled, not what it is.
        value = value.split(separator: ",").map { $0.trimmed }
          .filter { $0.lowercased() != "aws-chunked" }.joined(separator: ",")
      }
      if !value.isEmpty { fields.append(.init(name, value)) }
    }
    var metaByteCount = 0
    var meta: [String: [String]] = [:]
    for line in request.fields.lines {
      let name = line.name.lowercased()
      guard name.hasPrefix(Self.metaPrefix) else { continue }
      meta[name, default: []].append(line.value)
      metaByteCount += name.utf8.count - Self.metaPrefix.utf8.count + line.value.utf8.count
    }
    let byteCount = fields.map(\.value.utf8.count).max() ?? 0
    guard metaByteCount <= Self.metaByteLimit, fields.count + meta.count <= Self.fieldLimit,
      byteCount <= 8000, contentType.utf8.count <= 1024,
      meta.keys.allSatisfy({ $0.utf8.count <= 1024 })
    else { throw S3Error(.metadataTooLarge) }
    for name in meta.keys.sorted() {
      fields.append(.init(name, (meta[name] ?? []).joined(separator: ",")))
    }
    fields.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
  }

  private static func refuseUnsupported(_ request: S3Request) throws(S3Error) {
    if let acl = try request.header("x-amz-acl"),
      !["private", "bucket-owner-full-control"].contains(acl)
    {
      throw S3Error(.aclNotSupported)
    }
    if let storageClass = try request.header("x-amz-storage-class"), storageClass != "STANDARD" {
      throw S3Error(.invalidStorageClass)
    }
    for line in request.fields.lines {
      let name = line.name.lowercased()
      if name.hasPrefix("x-amz-grant-") { throw S3Error(.aclNotSupported) }
    }
  }

  /// - Parameter contentName: the backend's name of the bytes, for objects that did not come through the gateway.
  init(_ attributes: ObjectAttributes, contentName: String) {
    contentType = attributes.contentType
    tags = S3Tags(attributes)
    lock = attributes.lock
    tier = ObjectTier(of: attributes)
    customerParts = CustomerParts(attributes)
    hasDamagedCustomerParts =
      customerParts == nil
      && attributes.user.contains { $0.name.hasPrefix(CustomerParts.attributePrefix) }
    for attribute in attributes.user {
      if attribute.name == "etag" {
        etag = attribute.value
      } else if attribute.name == Self.customerName {
        customer = CustomerSeal(text: attribute.value)
      } else if let found = BodyClaims.checksums.first(where: {
        attribute.name == "x-amz-checksum-" + $0.name.lowercased()
      }) {
        checksum = Checksum(name: found.name, value: attribute.value)
      } else if Self.contentHeaders.contains(attribute.name)
        || attribute.name.hasPrefix(Self.metaPrefix)
      {
        fields.append(.init(attribute.name, attribute.value))
      }
    }
    // No MD5, so it must not look like one: the form of a multipart upload's says that.
    if etag.isEmpty {
      etag = contentName.prefix(32) + "-1"
      isETagKept = false
    }
  }

  var attributes: ObjectAttributes {
    var user = fields.map { ObjectAttributes.UserAttribute(name: $0.name, value: $0.value) }
    user.append(.init(name: "etag", value: etag))
    user += tags.attributes
    if let customer { user.append(.init(name: Self.customerName, value: customer.text)) }
    if let customerParts { user += customerParts.attributes }
    if let checksum { user.append(.init(name: checksum.header, value: checksum.value)) }
    user.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    return ObjectAttributes(contentType: contentType, user: user, lock: lock)
  }

  var quotedETag: String { "\"\(etag)\"" }

  /// The headers of an answer to GET and HEAD.
  func answerFields(modified: UInt64, showsChecksum: Bool) -> [HTTPFields.Line] {
    var lines: [HTTPFields.Line] = [
      .init("ETag", quotedETag),
      .init("Last-Modified", CivilTime(.milliseconds(Int64(clamping: modified))).http),
      .init("Accept-Ranges", "bytes"),
      .init("Content-Type", contentType.isEmpty ? "binary/octet-stream" : contentType),
    ]
    lines += fields
    lines += S3Lock.fields(lock)
    // As S3 has it, nothing is said of STANDARD.
    if let tier { lines.append(.init("x-amz-storage-class", tier.name)) }
    if !tags.pairs.isEmpty { lines.append(.init("x-amz-tagging-count", String(tags.pairs.count))) }
    if showsChecksum, let checksum {
      lines.append(.init(checksum.header, checksum.value))
      lines.append(.init("x-amz-checksum-type", checksum.typeText))
    }
    return lines
  }
}

extension Substring {
  /// Without spaces at its ends.
  fileprivate var trimmed: Substring {
    var rest = self
    while rest.first == " " { rest.removeFirst() }
    while rest.last == " " { rest.removeLast() }
    return rest
  }
}
