import DataPath
import Messages
import Ring

/// The version of the product, as `cairn --version` prints it.
let version = "0.1.0"

@main
struct Main {
  static func main() {
    let words = HostProcess.arguments
    HostProcess.raiseOpenFileLimit()
    do {
      let status = try EventLoop.run { driver in await run(words, on: driver) }
      HostProcess.exit(status)
    } catch {
      HostProcess.exit(1, saying: "cairn: cannot start: \(error)")
    }
  }

  /// Runs one command line and returns the exit status.
  static func run(_ words: [String], on driver: any Driver) async -> Int32 {
    let output = Output(driver: driver)
    do throws(Failure) {
      if words.isEmpty { throw .usage("no command") }
      if words[0] == "--help" || words[0] == "-h" || words == ["help"] || words == ["help", "help"]
      {
        try await output.line(overview)
        try await output.flush()
        return 0
      }
      if words[0] == "--version" {
        try await output.line("cairn \(version)")
        try await output.flush()
        return 0
      }
      let asked = words[0] == "help" ? Array(words.dropFirst()) : words
      guard
        let command = commandTable.first(where: {
          asked.count >= $0.path.count && Array(asked.prefix($0.path.count)) == $0.path
        })
      else {
        let group = Self.group(asked)
        if !group.isEmpty {
          let rest = asked.dropFirst(group.count)
          if words[0] == "help" || rest.first.map({ ["--help", "-h"].contains($0) }) == true {
            try await output.line(overview(of: group))
            try await output.flush()
            return 0
          }
          let names = commandTable.filter { $0.path.starts(with: group) }
            .map { $0.path.dropFirst(group.count).joined(separator: " ") }
          throw .usage("\(group.joined(separator: " ")) takes \(names.joined(separator: ", "))")
        }
        throw .usage("unknown command: \(asked.first ?? "")")
      }
      let rest = Array(asked.dropFirst(command.path.count))
      let beforeSeparator = rest.prefix { $0 != "--" }
      if words[0] == "help" || beforeSeparator.contains("--help") || beforeSeparator.contains("-h")
      {
        try await output.line(command.help)
        try await output.flush()
        return 0
      }
      let arguments: Arguments
      do throws(Failure) {
        arguments =
          try command.parsesItself
          ? Arguments(operands: rest)
          : Arguments(rest, options: command.options, operands: command.operands)
      } catch {
        if case .usage(let text) = error {
          throw .usage("\(text) (usage: cairn \(command.name) \(command.usage))")
        }
        throw error
      }
      try await interruptible(
        command, Context(driver: driver, output: output, arguments: arguments))
      return 0
    } catch {
      // What was found before the failure is still shown; when even that fails, the failure itself is what counts.
      do throws(Failure) { try await output.flush() } catch {}
      switch error {
      case .usage(let text): await output.error("cairn: \(text); see 'cairn --help'")
      case .reported, .readerGone: break
      case .failed, .interrupted: await output.error(line(error))
      }
      return error.exitStatus
    }
  }

  /// The longest beginning of `words` with which commands begin that have more words.
  private static func group(_ words: [String]) -> [String] {
    var group: [String] = []
    for word in words {
      guard commandTable.contains(where: { $0.path.starts(with: group + [word]) }) else { break }
      group.append(word)
    }
    return group
  }

  /// A terminal that goes away ends what was started on it, except under nohup.
  private static let endingSignals =
    [Signal.interrupt, Signal.terminate] + (HostProcess.ignoresHangUp ? [] : [Signal.hangUp])

  /// Runs the command; a signal cancels it, and what it had begun is undone before the process ends.
  private static func interruptible(_ command: CommandSpec, _ context: Context)
    async throws(Failure)
  {
    let outcome = Promise<Failure?>()
    let work = context.driver.spawn(command.name) {
      do throws(Failure) {
        try await command.run(context)
        outcome.fulfil(nil)
      } catch {
        outcome.fulfil(error)
      }
    }
    // Daemons take their own signals, to stop in their own order.
    guard ![["coordinator"], ["node"], ["gateway"]].contains(command.path) else {
      await work.wait()
      if let failure = await outcome.get() { throw failure }
      return
    }
    let signalled = Promise<Int32>()
    let watch = context.driver.spawn("signals") {
      let signal = await context.driver.submit(
        .waitForSignal(Self.endingSignals))
      guard signal > 0 else { return }
      signalled.fulfil(signal)
      work.cancel()
      // A second one does not wait for the clean-up.
      if await context.driver.submit(.waitForSignal(Self.endingSignals)) > 0 {
        HostProcess.exit(128 + signal)
      }
    }
    let failure = await outcome.get()
    watch.cancel()
    await watch.wait()
    if signalled.isFulfilled { throw .interrupted(signal: await signalled.get()) }
    if let failure { throw failure }
  }
}

/// The one line on standard error.
func line(_ failure: Failure) -> String { "cairn: \(failure.what)" }
