internal import Coding
internal import Messages

/// Pages of listings: what each says of every key that it covers, and whether it is a page at all.
extension HistoryChecker {
  mutating func takeApartPage(
    _ index: Int, _ request: ListObjects, _ page: ListObjects.Answer
  ) throws(TrialFailure) {
    if let problem = Self.problem(request, page) { throw failure("listing", index, problem) }
    noteBucket(request.bucket, index, exists: true)
    var listed: [String: History.Version] = [:]
    for item in page.entries { listed[item.key] = Self.version(item) }
    var groups: [String: [String]] = [:]
    for key in keysOfBucket[request.bucket] ?? [] {
      guard key.utf8.starts(with: request.prefix.utf8),
        Self.precedes(request.after, key) || request.after.isEmpty
      else { continue }
      if let next = page.next, Self.precedes(next, key) { continue }
      if let group = Self.group(of: key, request) {
        groups[group, default: []].append(key)
        continue
      }
      let sight: Sight =
        if let version = listed[key] {
          .version(value: value(of: version.tag), identity: version.identity)
        } else { .absent }
      add(.key(ObjectName(bucket: request.bucket, key: key)), index, .read(sight))
    }
    for (group, keys) in groups.sorted(by: { Self.precedes($0.key, $1.key) }) {
      if page.prefixes.contains(group) {
        // One of several must be there: that is no part of any one of them.
        guard keys.count == 1 else { continue }
        add(.key(ObjectName(bucket: request.bucket, key: keys[0])), index, .read(.present))
      } else {
        for key in keys {
          add(.key(ObjectName(bucket: request.bucket, key: key)), index, .read(.absent))
        }
      }
    }
  }

  /// The part of a key up to and with the first delimiter after the prefix.
  static func group(of key: String, _ request: ListObjects) -> String? {
    guard !request.delimiter.isEmpty else { return nil }
    let bytes = Array(key.utf8)
    let delimiter = Array(request.delimiter.utf8)
    var place = request.prefix.utf8.count
    while place + delimiter.count <= bytes.count {
      if bytes[place..<place + delimiter.count].elementsEqual(delimiter) {
        return String(decoding: bytes[..<(place + delimiter.count)], as: UTF8.self)
      }
      place += 1
    }
    return nil
  }

  /// What is wrong with a page whatever the keys are.
  static func problem(_ request: ListObjects, _ page: ListObjects.Answer) -> String? {
    let limit = min(Int(request.limit), 1000)
    if page.entries.count + page.prefixes.count > limit {
      return "\(page.entries.count) entries and \(page.prefixes.count) groups, limit \(limit)"
    }
    for (one, next) in zip(page.entries, page.entries.dropFirst())
    where !precedes(one.key, next.key) { return "\(one.key) before \(next.key)" }
    for (one, next) in zip(page.prefixes, page.prefixes.dropFirst())
    where !precedes(one, next) { return "group \(one) before \(next)" }
    for item in page.entries {
      guard item.key.utf8.starts(with: request.prefix.utf8) else {
        return "\(item.key) has not the prefix"
      }
      guard request.after.isEmpty || precedes(request.after, item.key) else {
        return "\(item.key) is not after \(request.after)"
      }
      if let next = page.next, precedes(next, item.key) { return "\(item.key) is after \(next)" }
      if group(of: item.key, request) != nil { return "\(item.key) belongs to a group" }
    }
    for group in page.prefixes where Self.group(of: group, request) != group {
      return "\(group) is no group"
    }
    if let next = page.next, !request.after.isEmpty, !precedes(request.after, next) {
      return "the next page begins at \(next), not after \(request.after)"
    }
    return nil
  }
}
