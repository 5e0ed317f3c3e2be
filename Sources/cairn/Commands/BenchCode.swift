import CodeBench
import Service

/// `bench code`: the kernels in one thread, as a table or an object a line.
func benchCode(_ context: Context) async throws(Failure) {
  let arguments = context.arguments
  let only = arguments["--only"].map { $0.split(separator: ",").map { String($0) } } ?? []
  for pattern in only where !CodeBench.names.contains(where: { CodeBench.matches($0, pattern) }) {
    throw .usage("--only takes names that 'cairn bench code --list' prints: \(pattern)")
  }
  if arguments.has("--list") {
    for name in CodeBench.names { try await context.output.line(name) }
    return try await context.output.flush()
  }
  var size: ByteSize?
  if let text = arguments["--size"] {
    guard let parsed = ByteSize(text), (ByteSize(64)...ByteSize(64 << 20)).contains(parsed) else {
      throw .usage("--size takes a size from 64B to 64MiB: \(text)")
    }
    size = parsed
  }
  let runtime = try arguments.seconds("--runtime", upTo: .seconds(3600)) ?? .seconds(1)
  let isJSON = arguments.has("--json")
  if !isJSON {
    try await context.output.line(
      columns(["work", "unit", "GB/s", "quartiles", "CPU-s/GB", "quartiles", "output/input"]))
  }
  let request = CodeBench.Request(
    only: only, unitByteCount: size?.int, runtime: runtime)
  do {
    try await CodeBench.run(request, driver: context.driver) { row in
      try await context.output.line(isJSON ? json(row).text : text(row))
      try await context.output.flush()
    }
  } catch let failure as Failure {
    throw failure
  } catch {
    throw .failed("\(error)")
  }
}

private func json(_ row: CodeBench.Row) -> JSON {
  func spread(_ spread: CodeBench.Spread) -> JSON {
    .object([
      ("median", .double(spread.median)), ("low", .double(spread.low)),
      ("high", .double(spread.high)),
    ])
  }
  return .object([
    ("name", .string(row.name)), ("unitBytes", .number(row.unitByteCount)),
    ("samples", .number(row.sampleCount)),
    ("gigabytesPerSecond", spread(row.gigabytesPerSecond)),
    ("cpuSecondsPerGigabyte", spread(row.processorSecondsPerGigabyte)),
    ("outputShare", row.outputShare.map { JSON.double($0) } ?? .null),
    ("note", row.note.map { JSON.string($0) } ?? .null),
    // As text: JSON's readers may keep 53 bits of a number.
    ("check", .string(String(row.check))),
  ])
}

private func text(_ row: CodeBench.Row) -> String {
  let rate = row.gigabytesPerSecond
  let cost = row.processorSecondsPerGigabyte
  return columns([
    row.name, ByteSize(row.unitByteCount).description, digits(rate.median),
    "\(digits(rate.low))-\(digits(rate.high))", digits(cost.median),
    "\(digits(cost.low))-\(digits(cost.high))",
    row.outputShare.map { digits($0) } ?? row.note ?? "",
  ])
}

/// Three that matter.
private func digits(_ value: Double) -> String {
  guard value > 0 else { return "0" }
  let places = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : value >= 0.1 ? 3 : 4
  let scale = (0..<places).reduce(1.0) { scale, _ in scale * 10 }
  let whole = Int((value * scale).rounded())
  if places == 0 { return "\(whole)" }
  let rest = String(whole % Int(scale))
  return "\(whole / Int(scale))." + String(repeating: "0", count: places - rest.count) + rest
}

private func columns(_ cells: [String]) -> String {
  var line = ""
  for (cell, start) in zip(cells, [0, 24, 34, 42, 60, 70, 90]) where !cell.isEmpty {
    line += String(repeating: " ", count: max(line.isEmpty ? 0 : 1, start - line.count)) + cell
  }
  return line
}
