/// What one `cairn bench` is to do.
package struct BenchRequest: Sendable {
  package enum Format: String, Sendable { case normal, json }
  package var engine: EngineKind
  package var format = Format.normal
  /// At least one.
  package var jobs: [JobOptions]
  /// What held for all jobs.
  package var globals: [(key: String, value: String)] = []
}

/// The words after `cairn bench`.
package struct BenchCommandLine: Sendable {
  package var engine: EngineKind
  package var format = BenchRequest.Format.normal
  /// Job files, in order.
  package var files: [String] = []
  /// In order.
  var options: [(key: OptionKey, value: String)] = []

  /// - Throws: `usage`.
  package init(_ words: [String]) throws(BenchError) {
    guard let first = words.first, !first.hasPrefix("-") else {
      throw .usage("bench needs an engine: \(EngineKind.list)")
    }
    guard let engine = EngineKind(rawValue: first) else {
      throw .usage("no such engine: \(first) (there are \(EngineKind.list))")
    }
    self.engine = engine
    var rest = words.dropFirst()
    while let word = rest.popFirst() {
      guard word.hasPrefix("--"), word.count > 2 else {
        if word.hasPrefix("-") { throw .usage("unknown option: \(word)") }
        files.append(word)
        continue
      }
      let body = word.dropFirst(2)
      let equals = body.firstIndex(of: "=")
      let name = body[..<(equals ?? body.endIndex)]
      var value = equals.map { String(body[body.index(after: $0)...]) }
      if name == "output-format" {
        guard let text = value ?? rest.popFirst() else {
          throw .usage("option needs a value: --output-format")
        }
        guard let format = BenchRequest.Format(rawValue: text) else {
          throw .usage("--output-format takes normal or json: \(text)")
        }
        self.format = format
        continue
      }
      guard let key = OptionKey.find(name) else { throw .usage("unknown option: --\(name)") }
      if value == nil {
        if key.value != nil {
          guard let next = rest.popFirst() else {
            throw .usage("option needs a value: --\(name)")
          }
          value = next
        } else if let next = rest.first, next == "0" || next == "1" {
          value = rest.popFirst()
        }
      }
      options.append((key, value ?? ""))
    }
  }

  /// The jobs of `texts`, one for each of ``files``; without files those of the command line. What the command line says
  /// goes before what a file says.
  ///
  /// - Throws: `usage`, with file and line where there is one.
  package func request(files texts: [(path: String, text: String)]) throws(BenchError)
    -> BenchRequest
  {
    var request = BenchRequest(engine: engine, format: format, jobs: [])
    if texts.isEmpty {
      // What comes before the first name is for all, what follows a name for that job.
      let firstName = options.firstIndex { $0.key.name == "name" } ?? options.endIndex
      let common = options[..<firstName]
      var job: JobOptions?
      for (key, value) in options[firstName...] {
        if key.name == "name" {
          if let job { request.jobs.append(job) }
          job = try Self.apply(common, to: JobOptions())
        }
        try Self.apply(key, value, to: &job!)
      }
      if let job {
        request.jobs.append(job)
      } else {
        request.jobs.append(try Self.apply(common, to: JobOptions()))
      }
      if request.jobs.count > 1 { request.globals = common.map { ($0.key.name, $0.value) } }
    } else {
      for (path, text) in texts {
        let file = try JobFile(parsing: text, path: path)
        for var job in file.jobs {
          for (key, value) in options { try Self.apply(key, value, to: &job) }
          request.jobs.append(job)
        }
        request.globals += file.globals
      }
    }
    for index in request.jobs.indices {
      if request.jobs[index].name.isEmpty { request.jobs[index].name = engine.rawValue }
      try engine.check(request.jobs[index])
    }
    return request
  }

  private static func apply(
    _ options: ArraySlice<(key: OptionKey, value: String)>, to job: JobOptions
  ) throws(BenchError) -> JobOptions {
    var job = job
    for (key, value) in options { try apply(key, value, to: &job) }
    return job
  }

  private static func apply(_ key: OptionKey, _ value: String, to job: inout JobOptions)
    throws(BenchError)
  {
    if let refusal = key.apply(&job, value) {
      throw .usage("--\(key.name) takes \(refusal.takes): \(value)")
    }
    job.note(key, value)
  }
}

extension JobOptions {
  /// The last that was said of a key is what counts, and is shown.
  mutating func note(_ key: OptionKey, _ value: String) {
    given.removeAll { $0.key == key.name }
    given.append((key.name, key.value == nil && value.isEmpty ? "1" : value))
  }
}
