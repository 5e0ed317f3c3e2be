/// One range of bytes as HTTP's Range field names it.
enum ByteRange: Equatable {
  case from(UInt64)
  case closed(UInt64, UInt64)
  case last(UInt64)

  /// Nil for what is to be passed over: no bytes, not in order, or several ranges.
  init?(_ text: String) {
    guard text.hasPrefix("bytes=") else { return nil }
    let sides = text.dropFirst(6).split(
      separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
    guard sides.count == 2 else { return nil }
    func number(_ text: Substring) -> UInt64? {
      guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { return nil }
      return text.utf8.count > 18 ? 1 << 60 : UInt64(text)
    }
    switch (number(sides[0]), number(sides[1])) {
    case (let first?, let last?):
      guard first <= last else { return nil }
      self = .closed(first, last)
    case (let first?, nil):
      guard sides[1].isEmpty else { return nil }
      self = .from(first)
    case (nil, let count?):
      guard sides[0].isEmpty else { return nil }
      self = .last(count)
    case (nil, nil): return nil
    }
  }

  /// What is likely to be read, before the size is known; nil when that must be known first.
  var wanted: Range<UInt64>? {
    switch self {
    case .from(let first): first < 1 << 61 ? first..<1 << 62 : nil
    case .closed(let first, let last): last < 1 << 61 ? first..<(last + 1) : nil
    case .last: nil
    }
  }

  /// The bytes of an object that are meant; nil when there are none.
  func resolve(_ byteCount: UInt64) -> Range<UInt64>? {
    switch self {
    case .from(let first): first < byteCount ? first..<byteCount : nil
    case .closed(let first, let last):
      first < byteCount ? first..<(min(last, byteCount - 1) + 1) : nil
    case .last(let count):
      count > 0 && byteCount > 0 ? (byteCount - min(count, byteCount))..<byteCount : nil
    }
  }
}
