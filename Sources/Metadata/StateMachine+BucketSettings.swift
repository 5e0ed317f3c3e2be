package import Messages
internal import Wire

/// Documents that buckets have, tags and rules, which no command reads. What a bucket grants is no such document (`+Access`): its parts
/// change one by one.
extension StateMachine {
  func set(_ setting: BucketSetting, of name: String) throws(StoreError) -> CommandOutcome {
    guard let bucket = try buckets.get(Array(name.utf8)) else {
      return .refused(.noSuchBucket, name)
    }
    guard setting.bytes.count <= BucketSetting.byteLimit else {
      return .refused(.malformed, "a setting has at most \(BucketSetting.byteLimit) bytes")
    }
    let key = Key.setting(bucket: bucket.identity, setting.kind)
    if setting.bytes.isEmpty {
      view.delete(key)
    } else {
      view.put(key, SettingRecord(bytes: setting.bytes))
    }
    return .done
  }

  /// The bucket is no more.
  func removeSettings(of bucket: BucketRecord) throws(StoreError) {
    for row in try view.scan(KeyRange(prefix: Key.of(.bucketSetting, bucket.identity))) {
      view.delete(row.key)
    }
  }

  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket.
  package func settings(_ request: GetBucketSettings) throws(StoreError) -> GetBucketSettings.Answer
  {
    guard let bucket = try buckets.get(Array(request.bucket.utf8)) else {
      throw .refused(.noSuchBucket, request.bucket)
    }
    var found: [BucketSetting] = []
    if request.kinds.isEmpty {
      for row in try view.scan(KeyRange(prefix: Key.of(.bucketSetting, bucket.identity))) {
        found.append(
          BucketSetting(
            try Key.settingKind(in: row.key), try SettingRecord(stored: row.value).bytes))
      }
    } else {
      for kind in Set(request.kinds).sorted() {
        let key = Key.setting(bucket: bucket.identity, kind)
        if let record: SettingRecord = try view.value(key) {
          found.append(BucketSetting(kind, record.bytes))
        }
      }
    }
    return GetBucketSettings.Answer(settings: found)
  }
}

/// A bucket's setting, under its kind.
struct SettingRecord: Hashable, StoredValue {
  var bytes: [UInt8]

  init(bytes: [UInt8]) { self.bytes = bytes }
  func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.blob(bytes)
  }
  init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    bytes = try reader.blob(limit: BucketSetting.byteLimit)
  }
}

extension Key {
  static func setting(bucket: UInt64, _ kind: SettingKind) -> [UInt8] {
    of(.bucketSetting, bucket) + [kind.raw]
  }
  static func settingKind(in key: [UInt8]) throws(StoreError) -> SettingKind {
    guard key.count == 10, key[9] != 0 else { throw .corrupt("key of a setting") }
    return SettingKind(key[9])
  }
}
