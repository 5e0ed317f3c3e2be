import Messages
import Service

/// One write, to be told: S3's record of it, version 2.1.
struct NotificationEvent: Sendable {
  var event: NotificationRules.Event
  var name: ObjectName
  var version = VersionName.unnamed
  /// Of what was made; nil of what went.
  var byteCount: UInt64?
  var etag: String?

  /// Where it came about.
  struct Origin: Sendable {
    var region: String
    /// Who asked.
    var principal: String
    var peer: String
    var requestID: String
    /// The gateway's name.
    var host: String
  }

  /// - Parameters:
  ///   - rule: the name of the rule that has it told.
  ///   - time: by the gateway's clock, since 1970.
  ///   - sequencer: of two events of one key the later has the greater one, as long as both came through one gateway.
  func body(_ origin: Origin, rule: String, time: Duration, sequencer: UInt64) -> [UInt8] {
    var object: [(String, JSON)] = [("key", .string(Self.coded(name.key)))]
    if let byteCount { object.append(("size", .number(byteCount))) }
    if let etag { object.append(("eTag", .string(etag))) }
    if let text = version.text { object.append(("versionId", .string(text))) }
    let digits = String(sequencer, radix: 16, uppercase: true)
    object.append(
      (
        "sequencer",
        .string(String(repeating: "0", count: 16 - digits.utf8.count) + digits)
      ))
    let record: [(String, JSON)] = [
      ("eventVersion", .string("2.1")), ("eventSource", .string("aws:s3")),
      ("awsRegion", .string(origin.region)), ("eventTime", .string(CivilTime(time).rfc3339)),
      ("eventName", .string(event.rawValue)),
      ("userIdentity", .object([("principalId", .string(origin.principal))])),
      ("requestParameters", .object([("sourceIPAddress", .string(origin.peer))])),
      (
        "responseElements",
        .object([
          ("x-amz-request-id", .string(origin.requestID)), ("x-amz-id-2", .string(origin.host)),
        ])
      ),
      (
        "s3",
        .object([
          ("s3SchemaVersion", .string("1.0")), ("configurationId", .string(rule)),
          (
            "bucket",
            .object([
              ("name", .string(name.bucket)),
              ("ownerIdentity", .object([("principalId", .string(S3Service.ownerID))])),
              ("arn", .string(S3Resource.prefix + name.bucket)),
            ])
          ),
          ("object", .object(object)),
        ])
      ),
    ]
    return Array(JSON.object([("Records", .array([.object(record)]))]).text.utf8)
  }

  /// As S3 codes keys here: a space is a plus, a slash stays.
  private static func coded(_ key: String) -> String {
    URLCoding.encode(key.utf8, keepingSlash: true).replacing("%20", with: "+")
  }

  /// What S3 sends when a target is set, to see whether it takes anything.
  static func test(bucket: String, requestID: String, host: String, time: Duration) -> [UInt8] {
    Array(
      JSON.object([
        ("Service", .string("Amazon S3")), ("Event", .string("s3:TestEvent")),
        ("Time", .string(CivilTime(time).rfc3339)), ("Bucket", .string(bucket)),
        ("RequestId", .string(requestID)), ("HostId", .string(host)),
      ]).text.utf8)
  }
}
