/// Keys as paths below a bucket's folder, so that plain keys are plain paths, no key leads out, and every key has one.
///
/// Between slashes all bytes stand for themselves but: `%` is `%25`, a byte 0 `%00`, no byte at all `%`, `.` and `..` are `%2E` and
/// `%2E%2E`. What is longer than a name may be is cut into several, all but the last with `%+` at the end. A key that is also
/// the beginning of others, up to a slash, is a file with `%f` at the end beside the folder.
enum FileNames {
  /// Of a name on disk; file systems allow 255, and a suffix needs room.
  private static let nameByteCount = 240
  static let besideFolder = "%f"
  private static let goesOn = "%+"

  static func path(_ key: String) -> String {
    key.unicodeScalars.split(separator: "/", omittingEmptySubsequences: false)
      .flatMap { names(String.UnicodeScalarView($0)) }.joined(separator: "/")
  }

  private static func names(_ part: String.UnicodeScalarView) -> [String] {
    switch String(part) {
    case "": return ["%"]
    case ".": return ["%2E"]
    case "..": return ["%2E%2E"]
    default: break
    }
    var names = [""]
    for scalar in part {
      let coded =
        switch scalar {
        case "%": "%25"
        case "\0": "%00"
        default: String(scalar)
        }
      if names[names.count - 1].utf8.count + coded.utf8.count > nameByteCount {
        names[names.count - 1] += goesOn
        names.append("")
      }
      names[names.count - 1] += coded
    }
    return names
  }

  /// The key of a file, from the names on the way to it; nil for one that no key has.
  static func key(_ names: [String]) -> String? {
    var key = ""
    var isJoined = true
    for (index, name) in names.enumerated() {
      let isLast = index == names.count - 1
      let isBeside = isLast && name.hasSuffix(besideFolder)
      let name = isBeside ? String(name.dropLast(besideFolder.count)) : name
      var rest = name.unicodeScalars[...]
      if !isJoined { key.unicodeScalars.append("/") }
      isJoined = false
      if name == "%" { continue }
      while let scalar = rest.popFirst() {
        guard scalar == "%" else {
          key.unicodeScalars.append(scalar)
          continue
        }
        let code = String(String.UnicodeScalarView(rest.prefix(2)))
        if code == "25" || code == "00" || code == "2E" {
          key.unicodeScalars.append(code == "25" ? "%" : code == "00" ? "\0" : ".")
          rest.removeFirst(2)
        } else if code == "+", !isLast, rest.count == 1 {
          isJoined = true
          rest.removeFirst()
        } else {
          return nil
        }
      }
    }
    // One way only: what another key would be kept as is none's.
    let own = path(key)
    let given = names.joined(separator: "/").utf8
    return given.elementsEqual(own.utf8) || given.elementsEqual((own + besideFolder).utf8)
      ? key : nil
  }
}
