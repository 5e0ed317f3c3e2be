import Service

/// The argument parser: strict, declarative, and the source of every help text and completion.
/// (Hand-written because no Swift package can be had: docs/decisions/0003-hand-written-parts.md.)

/// One option of a command.
struct OptionSpec: Sendable {
  /// "--range"
  var name: String
  /// "-r"
  var short: String?
  /// What the value is called in help ("DIR"); nil for a flag.
  var value: String?
  var help: String

  init(_ name: String, short: String? = nil, value: String? = nil, _ help: String) {
    self.name = name
    self.short = short
    self.value = value
    self.help = help
  }
}

/// What was given on the command line, checked against a command's options.
struct Arguments: Sendable {
  var flags: Set<String> = []
  var values: [String: String] = [:]
  var operands: [String] = []

  func has(_ name: String) -> Bool { flags.contains(name) }
  subscript(name: String) -> String? { values[name] }

  /// A whole number in `range`.
  func number(_ name: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
    guard let text = values[name] else { return nil }
    guard let number = Int(text), range.contains(number) else {
      throw .usage(
        "\(name) takes a number from \(range.lowerBound) to \(range.upperBound): \(text)")
    }
    return number
  }

  /// A time above zero and up to `most`; a number alone is seconds.
  func seconds(_ name: String, upTo most: Duration) throws(Failure) -> Duration? {
    guard let text = values[name] else { return nil }
    guard let time = Duration(text: text) ?? Duration(text: text + "s"), time > .zero, time <= most
    else {
      throw .usage("\(name) takes seconds, or a time such as 200ms, up to \(most.text): \(text)")
    }
    return time
  }

  /// Takes `words` as they are.
  init(operands words: [String]) { operands = words }

  /// Reads `words` (the program's and the command's names left out).
  init(_ words: [String], options: [OptionSpec], operands range: ClosedRange<Int>) throws(Failure) {
    var index = 0
    var onlyOperands = false
    func find(_ word: String) -> OptionSpec? {
      options.first { $0.name == word || $0.short == word }
    }
    while index < words.count {
      let word = words[index]
      index += 1
      if onlyOperands || word.utf8.first != UInt8(ascii: "-") || word == "-" {
        operands.append(word)
        continue
      }
      if word == "--" {
        onlyOperands = true
        continue
      }
      var name = word
      var attached: String?
      if word.utf8.starts(with: "--".utf8), let equals = word.utf8.firstIndex(of: UInt8(ascii: "="))
      {
        name = String(word[..<equals])
        attached = String(word[word.index(after: equals)...])
      }
      guard let option = find(name) else { throw .usage("unknown option: \(name)") }
      if values[option.name] != nil || flags.contains(option.name) {
        throw .usage("option given twice: \(option.name)")
      }
      guard option.value != nil else {
        if attached != nil { throw .usage("option takes no value: \(option.name)") }
        flags.insert(option.name)
        continue
      }
      if let attached {
        values[option.name] = attached
      } else if index < words.count {
        values[option.name] = words[index]
        index += 1
      } else {
        throw .usage("option needs a value: \(option.name) \(option.value!)")
      }
    }
    if operands.count < range.lowerBound { throw .usage("too few operands") }
    if operands.count > range.upperBound {
      throw .usage("too many operands: \(operands[range.upperBound])")
    }
  }
}
