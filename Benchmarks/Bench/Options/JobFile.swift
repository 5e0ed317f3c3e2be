/// fio's job file: sections in brackets, `key=value` or a bare key in each, comments after `;` or `#` at a line's start.
/// What `[global]` says holds for the sections after it.
package struct JobFile: Sendable {
  package private(set) var jobs: [JobOptions] = []
  package private(set) var globals: [(key: String, value: String)] = []

  /// - Throws: `usage`, which names the line.
  package init(parsing text: String, path: String) throws(BenchError) {
    var global = JobOptions()
    var job: JobOptions?
    var isGlobal = false
    var number = 0
    for line in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline) {
      number += 1
      let words = Self.trimmed(line)
      guard let first = words.first, first != ";", first != "#" else { continue }
      func refuse(_ what: String) -> BenchError { .usage("\(path):\(number): \(what)") }
      if first == "[" {
        guard words.last == "]", words.count > 2 else {
          throw refuse("a section is [NAME]: \(words)")
        }
        if let job { jobs.append(job) }
        let name = Self.trimmed(words.dropFirst().dropLast())
        isGlobal = name == "global"
        job = nil
        if !isGlobal {
          guard !name.isEmpty, !name.contains("/") else {
            throw refuse("a section's name has no slash: \(name)")
          }
          job = global
          job?.name = String(name)
        }
        continue
      }
      let equals = words.firstIndex(of: "=")
      let name = Self.trimmed(words[..<(equals ?? words.endIndex)])
      let value = equals.map { String(Self.trimmed(words[words.index(after: $0)...])) }
      guard let key = OptionKey.find(name) else { throw refuse("unknown key: \(name)") }
      guard value != nil || key.value == nil else { throw refuse("\(name) needs a value") }
      guard isGlobal || job != nil else { throw refuse("\(name) stands before any section") }
      if isGlobal {
        if let refusal = key.apply(&global, value ?? "") {
          throw refuse("\(name) takes \(refusal.takes): \(value ?? "")")
        }
        globals.append((key.name, value ?? "1"))
      } else {
        if let refusal = key.apply(&job!, value ?? "") {
          throw refuse("\(name) takes \(refusal.takes): \(value ?? "")")
        }
        job!.note(key, value ?? "")
      }
    }
    if let job { jobs.append(job) }
    guard !jobs.isEmpty else { throw .usage("\(path): no job in it") }
  }

  private static func trimmed(_ text: Substring) -> Substring {
    var text = text
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return text.drop { $0 == " " || $0 == "\t" }
  }
}
