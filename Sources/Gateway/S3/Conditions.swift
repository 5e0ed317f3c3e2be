import Service

/// What a request demands of the object that is there (RFC 9110, 13).
struct Conditions {
  private var match: String?
  private var noneMatch: String?
  private var modifiedSince: CivilTime?
  private var unmodifiedSince: CivilTime?

  /// - Parameter prefix: "" of what is asked for, "x-amz-copy-source-" of what is copied.
  init(_ request: S3Request, prefix: String = "") throws(S3Error) {
    match = try request.header(prefix + "if-match")
    noneMatch = try request.header(prefix + "if-none-match")
    // Dates that cannot be read are no conditions.
    modifiedSince = try request.header(prefix + "if-modified-since").flatMap {
      CivilTime(http: $0)
    }
    unmodifiedSince = try request.header(prefix + "if-unmodified-since").flatMap {
      CivilTime(http: $0)
    }
  }

  /// - Parameter isRead: what is not met is told as "not modified" where HTTP has it so.
  func check(etag: String, modified: UInt64, isRead: Bool) throws(S3Error) {
    let second = CivilTime(.seconds(Int64(clamping: modified / 1000)))
    if let match {
      guard Self.names(match, etag) else {
        throw S3Error(.preconditionFailed).with("Condition", "If-Match")
      }
    } else if let unmodifiedSince, second.sinceEpoch > unmodifiedSince.sinceEpoch {
      throw S3Error(.preconditionFailed).with("Condition", "If-Unmodified-Since")
    }
    if let noneMatch {
      if Self.names(noneMatch, etag) {
        throw isRead
          ? S3Error(.notModified) : S3Error(.preconditionFailed).with("Condition", "If-None-Match")
      }
    } else if let modifiedSince, second.sinceEpoch <= modifiedSince.sinceEpoch {
      throw isRead
        ? S3Error(.notModified)
        : S3Error(.preconditionFailed).with("Condition", "If-Modified-Since")
    }
  }

  /// Whether a list of quoted tags, or `*`, names this one. Quotes may be missing.
  static func names(_ list: String, _ etag: String) -> Bool {
    list.split(separator: ",").contains { item in
      let tag = item.filter { $0 != " " && $0 != "\"" }
      return tag == "*" || tag == etag
    }
  }
}
