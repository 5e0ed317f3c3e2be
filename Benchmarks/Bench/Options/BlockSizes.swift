/// Which sizes the transfers of one direction have.
package struct BlockSizes: Equatable, Sendable {
  package struct Part: Equatable, Sendable {
    package var byteCount: Int
    /// How many of a hundred transfers have it.
    package var percent: Int
  }
  /// At least one; percentages add up to 100.
  package var parts: [Part]

  package init(_ byteCount: Int) { parts = [Part(byteCount: byteCount, percent: 100)] }

  package var smallest: Int { parts.map(\.byteCount).min()! }
  package var largest: Int { parts.map(\.byteCount).max()! }
  /// Set when there is but one.
  package var single: Int? { smallest == largest ? largest : nil }

  /// - Parameter chance: below 100.
  func pick(_ chance: Int) -> Int {
    if parts.count == 1 { return parts[0].byteCount }
    var left = chance
    for part in parts {
      left -= part.percent
      if left < 0 { return part.byteCount }
    }
    return parts[parts.count - 1].byteCount
  }

  /// "4k".
  init?(size text: String) {
    guard let byteCount = Self.blockByteCount(text) else { return nil }
    self.init(byteCount)
  }

  /// "4k/10:64k/50:32k/40". A part without a percentage takes an equal share of what the others leave, as in fio.
  init?(split text: String) {
    var known: [(byteCount: Int, percent: Int?)] = []
    for part in text.split(separator: ":", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: "/", omittingEmptySubsequences: false)
      guard pieces.count <= 2, let byteCount = Self.blockByteCount(String(pieces[0])) else {
        return nil
      }
      if pieces.count == 2, !pieces[1].isEmpty {
        guard let percent = Int(pieces[1]), (0...100).contains(percent) else { return nil }
        known.append((byteCount, percent))
      } else {
        known.append((byteCount, nil))
      }
    }
    let said = known.reduce(0) { $0 + ($1.percent ?? 0) }
    let silent = known.count { $0.percent == nil }
    guard said <= 100, silent > 0 || said == 100, !known.isEmpty else { return nil }
    parts = []
    var left = 100 - said
    var unnamed = silent
    for (byteCount, percent) in known {
      if let percent {
        parts.append(Part(byteCount: byteCount, percent: percent))
      } else {
        let share = left / unnamed
        left -= share
        unnamed -= 1
        parts.append(Part(byteCount: byteCount, percent: share))
      }
    }
  }

  /// 1 byte to 1 GiB.
  private static func blockByteCount(_ text: String) -> Int? {
    guard let count = FioText.byteCount(text), count > 0, count <= 1 << 30 else { return nil }
    return Int(count)
  }
}
