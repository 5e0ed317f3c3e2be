/// File names are bytes, keys are UTF-8. Each byte that is no part of valid UTF-8 becomes the private character
/// U+10FD00 + byte; a name that holds such characters of its own has their bytes escaped the same way, so that
/// the way back is exact. Every `path` that Ring takes is in this form.
package enum FileNames {
  private static let base: UInt32 = 0x10FD00

  package static func key(from name: [UInt8]) -> String {
    var out = String.UnicodeScalarView()
    var index = 0
    while index < name.count {
      var decoder = Unicode.UTF8()
      let window = name[index..<min(index + 4, name.count)]
      var iterator = window.makeIterator()
      if case .scalarValue(let scalar) = decoder.decode(&iterator),
        !(base...base + 0xFF).contains(scalar.value)
      {
        out.append(scalar)
        index += UTF8.width(scalar)
      } else {
        out.append(Unicode.Scalar(base + UInt32(name[index]))!)
        index += 1
      }
    }
    return String(out)
  }

  package static func name(from key: some StringProtocol) -> [UInt8] {
    var out: [UInt8] = []
    for scalar in key.unicodeScalars {
      if (base...base + 0xFF).contains(scalar.value) {
        out.append(UInt8(scalar.value - base))
      } else {
        out.append(contentsOf: Array(UTF8.encode(scalar)!))
      }
    }
    return out
  }
}
