/// An XML document being written. Elements are closed in the order in which they were opened.
struct XMLText {
  static let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
  private var text = XMLText.declaration
  private var open: [String] = []

  static let namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

  init(_ root: String, namespace: String? = XMLText.namespace) {
    text += "<\(root)"
    if let namespace { text += " xmlns=\"\(namespace)\"" }
    text += ">"
    open.append(root)
  }

  mutating func begin(_ name: String) {
    text += "<\(name)>"
    open.append(name)
  }
  /// - Parameter attributes: as they stand in the document.
  mutating func begin(_ name: String, attributes: String) {
    text += "<\(name) \(attributes)>"
    open.append(name)
  }
  mutating func end() { text += "</\(open.removeLast())>" }

  mutating func element(_ name: String, _ value: String) {
    text += "<\(name)>"
    Self.escape(value, into: &text)
    text += "</\(name)>"
  }
  mutating func element(_ name: String, _ value: some BinaryInteger) {
    element(name, String(value))
  }
  mutating func element(_ name: String, _ value: Bool) { element(name, value ? "true" : "false") }
  mutating func group(_ name: String, _ body: (inout XMLText) -> Void) {
    begin(name)
    body(&self)
    end()
  }

  mutating func text(_ value: String) { Self.escape(value, into: &text) }

  mutating func finish() -> [UInt8] {
    while !open.isEmpty { end() }
    return Array(text.utf8)
  }

  /// Control characters, which XML 1.0 cannot hold, are written as references all the same, as S3 does: whoever has such
  /// keys asks for `encoding-type=url`.
  private static func escape(_ value: String, into text: inout String) {
    for character in value.unicodeScalars {
      switch character {
      case "&": text += "&amp;"
      case "<": text += "&lt;"
      case ">": text += "&gt;"
      case "\"": text += "&quot;"
      case "\t", "\n", "\r": text += "&#\(character.value);"
      case _ where character.value < 32 || character.value == 0xFFFE || character.value == 0xFFFF:
        text += "&#x\(String(character.value, radix: 16));"
      default: text.unicodeScalars.append(character)
      }
    }
  }
}
