import Messages
import TestSupport
import Testing
import Wire

@testable import Metadata

/// Versions may have so many attributes that a thousand of them are no answer any more.
@Suite struct LargePageTests {
  @Test("pages of listings end before they are too large to be sent, and lose nothing")
  func pages() throws {
    let desk = try Desk()
    try desk.ask(.createBucket(name: "bucket"))
    try desk.ask(.setVersioning(bucket: "bucket", .enabled))
    let large = ObjectAttributes(
      user: (0..<60).map { .init(name: "n\($0)", value: String(repeating: "v", count: 1024)) })
    let keys = (0..<100).map { "k\(100 + $0)" }
    for key in keys + keys.suffix(20) {
      _ = try desk.commit(key, .inline([1]), 1, attributes: large)
    }
    var found: [String] = []
    var after: String? = ""
    var pageCount = 0
    while let start = after {
      let page = try desk.list(after: start)
      #expect(page.encoded.count < 3 << 20 && !page.entries.isEmpty)
      found += page.entries.map(\.key)
      after = page.next
      pageCount += 1
    }
    #expect(found == keys && pageCount > 2)

    var versions: [String] = []
    var request = ListVersions(
      level: .strong, bucket: "bucket", prefix: "", delimiter: "", afterKey: "", after: .unnamed,
      limit: 1000)
    while true {
      let page = try desk.machine.listVersions(request)
      #expect(page.encoded.count < 3 << 20 && !page.entries.isEmpty)
      versions += page.entries.map(\.key)
      guard let next = page.next else { break }
      (request.afterKey, request.after) = next
    }
    #expect(versions == (keys + keys.suffix(20)).sorted())
  }
}
