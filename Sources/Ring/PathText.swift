/// Names are bytes to the kernel and text to us. Where bytes are no UTF-8, each stands in the text as
/// one private-use scalar, U+10FE80 to U+10FEFF, and every path handed to the driver is turned back;
/// so is any name that really holds such a scalar, for its bytes are escaped one by one.
package enum PathText {
  private static let escapeBase: UInt32 = 0x10FE00

  /// The text for a name, from which `bytes` makes exactly `name` again.
  package static func string(_ name: [UInt8]) -> String {
    if let text = String(validating: name, as: UTF8.self), !holdsEscape(text) { return text }
    var text = String.UnicodeScalarView()
    var rest = name[...]
    while let first = rest.first {
      // The longest sequence first is not needed: a valid one is never the start of another.
      let length = sequenceLength(first)
      if length <= rest.count, let part = String(validating: rest.prefix(length), as: UTF8.self),
        part.unicodeScalars.count == 1, !holdsEscape(part)
      {
        text.append(part.unicodeScalars.first!)
        rest.removeFirst(length)
      } else {
        // Only bytes of 0x80 and up get here: the others are valid by themselves.
        text.append(Unicode.Scalar(escapeBase + UInt32(first))!)
        rest.removeFirst()
      }
    }
    return String(text)
  }

  /// The bytes that the kernel shall see for `path`.
  package static func bytes(_ path: String) -> [UInt8] {
    // Every escape begins with this byte in UTF-8, and hardly anything else does.
    guard path.utf8.contains(0xF4) else { return Array(path.utf8) }
    var bytes: [UInt8] = []
    for scalar in path.unicodeScalars {
      if isEscape(scalar) {
        bytes.append(UInt8(scalar.value - escapeBase))
      } else {
        bytes.append(contentsOf: UTF8.encode(scalar)!)
      }
    }
    return bytes
  }

  /// Whether `text` stands for bytes that are no UTF-8.
  package static func holdsEscapes(_ text: String) -> Bool { holdsEscape(text) }

  private static func isEscape(_ scalar: Unicode.Scalar) -> Bool {
    (escapeBase + 0x80...escapeBase + 0xFF).contains(scalar.value)
  }

  private static func holdsEscape(_ text: String) -> Bool {
    text.utf8.contains(0xF4) && text.unicodeScalars.contains(where: isEscape)
  }

  private static func sequenceLength(_ first: UInt8) -> Int {
    switch first {
    case 0xF0...: 4
    case 0xE0...: 3
    case 0xC0...: 2
    default: 1
    }
  }
}
