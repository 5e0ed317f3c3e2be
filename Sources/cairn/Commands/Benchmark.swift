import Bench
import Ring

/// bench's options, for help and completion.
let benchOptions: [OptionSpec] =
  [OptionSpec("--output-format", value: "HOW", "normal or json (default: normal)")]
  + OptionKey.all.map { OptionSpec("--" + $0.name, value: $0.value, $0.help) }

/// `cairn bench ENGINE [OPTION...] [JOBFILE...]`.
func bench(_ context: Context) async throws(Failure) {
  let outcome: RunOutcome
  do throws(BenchError) {
    let request = try await Bench.request(context.arguments.operands, on: context.driver)
    let isHuman = request.format == .normal
    let surroundings = Bench.Surroundings(
      version: version, environment: { HostProcess.environment($0) },
      loadCluster: { path async throws(BenchError) in
        do throws(Failure) {
          let found = try await ClientConfiguration.load(path, on: context.driver)
          return ClusterReach(
            coordinators: found.coordinators, key: found.key, security: found.security)
        } catch {
          throw .failed(error.what)
        }
      })
    let bench = Bench(request, surroundings, on: context.driver)
    outcome = try await bench.run { text in
      guard isHuman else { return }
      // A reader that is gone shows when the report is written.
      do throws(Failure) {
        try await context.output.line(text)
        try await context.output.flush()
      } catch {}
    }
  } catch {
    switch error {
    case .usage(let text): throw .usage(text)
    case .failed(let text): throw .failed(text)
    }
  }
  // What was measured before an interruption is shown too.
  let written = Promise<Failure?>()
  await context.driver.spawn("report") {
    do throws(Failure) {
      try await show(outcome, context.output)
      written.fulfil(nil)
    } catch {
      written.fulfil(error)
    }
  }.wait()
  if let failure = await written.get() { throw failure }
}

private func show(_ outcome: RunOutcome, _ output: Output) async throws(Failure) {
  switch outcome.request.format {
  case .normal: for line in HumanReport.make(outcome) { try await output.line(line) }
  case .json: try await output.line(JSONReport.make(outcome).text)
  }
  try await output.flush()
}
