import TestSupport
import Testing

@testable import Gateway

/// docs/s3.md and the code say the same of errors.
@Suite("The table of errors") struct ErrorTableTests {
  private static let root = String(
    #filePath.dropLast("Tests/GatewayTests/ErrorTableTests.swift".count))

  /// By code: the status, as the table in docs/s3.md has them.
  private static func table() throws -> [String: String] {
    var statuses: [String: String] = [:]
    var isInside = false
    for line in try text(of: root + "docs/s3.md").split(separator: "\n") {
      if line.hasPrefix("| code | status |") { isInside = true }
      guard isInside, !line.hasPrefix("|---"), !line.hasPrefix("| code |") else { continue }
      guard line.hasPrefix("|") else { break }
      let cells = line.split(separator: "|", omittingEmptySubsequences: false)
      try #require(cells.count >= 4)
      for code in cells[1].split(separator: ",") {
        let code = String(code.filter { $0 != " " })
        #expect(
          statuses.updateValue(String(cells[2].filter { $0 != " " }), forKey: code) == nil,
          "\(code) is there twice")
      }
    }
    return statuses
  }

  @Test("every code that is answered is in the table with its status, and no other")
  func documented() throws {
    let documented = try Self.table()
    let answered = Dictionary(
      uniqueKeysWithValues: S3Error.Code.allCases.map { ($0.rawValue, String($0.status)) })
    #expect(documented.count > 50)
    for (code, status) in answered { #expect(documented[code] == status, "\(code)") }
    for code in documented.keys { #expect(answered[code] != nil, "\(code) is never answered") }
  }

  @Test("no code stands in the list that is never thrown")
  func used() throws {
    var source = ""
    for path in try files(below: Self.root + "Sources/Gateway") where path.hasSuffix(".swift") {
      let text = try text(of: path)
      // Where they are listed they are named as well.
      source +=
        path.hasSuffix("S3Error.swift")
        ? text.split(separator: "extension S3Error").dropFirst().joined() : text
    }
    for code in S3Error.Code.allCases {
      #expect(source.contains(".\(code)"), "\(code) is never thrown")
    }
  }
}
