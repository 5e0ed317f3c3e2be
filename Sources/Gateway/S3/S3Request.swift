import HTTP
import Messages

/// What a request is about, read from its first line and Host.
struct S3Request {
  var method: String
  /// Nil: the service as a whole.
  var bucket: String?
  /// Nil: the bucket as a whole.
  var key: String?
  /// Decoded, in order.
  var query: [QueryItem]
  var fields: HTTPFields
  /// Of the target, decoded: what is signed is made of these anew.
  var pathBytes: [UInt8]

  struct QueryItem: Equatable {
    var name: [UInt8]
    var value: [UInt8]
  }

  /// - Parameter domain: buckets may be asked for as hosts below it; empty for none.
  init(_ head: HTTPRequestHead, domain: String) throws(S3Error) {
    method = head.method
    fields = head.fields
    let parts = head.target.utf8.split(
      separator: UInt8(ascii: "?"), maxSplits: 1, omittingEmptySubsequences: false)
    guard let path = URLCoding.decode(parts[0]) else { throw S3Error(.invalidURI) }
    pathBytes = path
    query = []
    if parts.count == 2 {
      for item in parts[1].split(separator: UInt8(ascii: "&")) {
        let sides = item.split(
          separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false)
        guard let name = URLCoding.decode(sides[0], plusIsSpace: true),
          let value = sides.count == 2 ? URLCoding.decode(sides[1], plusIsSpace: true) : []
        else { throw S3Error(.invalidURI) }
        query.append(QueryItem(name: name, value: value))
      }
    }
    var rest = path.dropFirst()
    if !domain.isEmpty, let host = fields["Host"] {
      let name = host.lowercased().split(separator: ":", omittingEmptySubsequences: false)[0]
      if name.hasSuffix("." + domain) { bucket = String(name.dropLast(domain.utf8.count + 1)) }
    }
    if bucket == nil, !rest.isEmpty {
      let name = rest.prefix { $0 != UInt8(ascii: "/") }
      rest = rest.dropFirst(name.count).dropFirst()
      guard let text = String(validating: name, as: UTF8.self) else {
        throw S3Error(.invalidBucketName)
      }
      bucket = text
    }
    if bucket != nil, !rest.isEmpty {
      guard let text = String(validating: rest, as: UTF8.self) else {
        throw S3Error(.invalidURI, "A key must be UTF-8.")
      }
      guard rest.count <= 1024 else {
        throw S3Error(.keyTooLong).with("Size", String(rest.count)).with("MaxSizeAllowed", "1024")
      }
      key = text
    }
  }

  func has(_ name: String) -> Bool {
    query.contains { $0.name.elementsEqual(name.utf8) }
  }

  /// The value of the query item; nil when it is not there.
  func value(_ name: String) throws(S3Error) -> String? {
    let found = query.filter { $0.name.elementsEqual(name.utf8) }
    guard let first = found.first else { return nil }
    guard found.count == 1, let text = String(validating: first.value, as: UTF8.self) else {
      throw S3Error(.invalidArgument, "The query item \(name) is not clear.")
        .with("ArgumentName", name)
    }
    return text
  }

  /// A number from the query within `range`, the larger end taken for more.
  func number(_ name: String, default usual: Int, in range: ClosedRange<Int>) throws(S3Error)
    -> Int
  {
    guard let text = try value(name), !text.isEmpty else { return usual }
    guard let number = Int(text), number >= range.lowerBound else {
      throw S3Error(.invalidArgument, "\(name) is no number that is allowed here.")
        .with("ArgumentName", name).with("ArgumentValue", text)
    }
    return min(number, range.upperBound)
  }

  /// Whether there is such a header, once or more often.
  func names(header: String) -> Bool { fields.has(header) }

  /// The value of a header; nil when it is not there.
  func header(_ name: String) throws(S3Error) -> String? {
    let found = fields.values(name)
    if found.count > 1 { throw S3Error(.invalidRequest, "The header \(name) is there twice.") }
    return found.first
  }

  var name: ObjectName? {
    guard let bucket, let key else { return nil }
    return ObjectName(bucket: bucket, key: key)
  }
}
