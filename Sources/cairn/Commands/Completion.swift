/// `cairn completion bash`: a script made from the table of commands.
func completion(_ context: Context) async throws(Failure) {
  guard context.arguments.operands[0] == "bash" else {
    throw .usage("only bash completion is made: \(context.arguments.operands[0])")
  }
  try await context.output.line(bashCompletion(commandTable))
  try await context.output.flush()
}

/// Completes the words of a command one after the other, and behind them its options.
func bashCompletion(_ commands: [CommandSpec]) -> String {
  /// What may come after the words so far, by these.
  var next: [String: Set<String>] = [:]
  for command in commands where !command.isHidden {
    for count in command.path.indices {
      next[command.path[..<count].joined(separator: " "), default: []].insert(command.path[count])
    }
  }
  next["", default: []].formUnion(["help", "--help", "--version"])
  next["completion", default: []].insert("bash")
  next["bench", default: []].formUnion(["raw", "store", "node", "cluster", "net", "meta", "s3"])
  var words = ""
  for (before, after) in next.sorted(by: { $0.key < $1.key }) {
    words += "      \"\(before)\") words=\"\(after.sorted().joined(separator: " "))\" ;;\n"
  }
  var options = ""
  for command in commands {
    let names = (command.options.map(\.name) + ["--help"]).joined(separator: " ")
    options += "      \"\(command.name)\") words=\"\(names)\" ;;\n"
  }
  let known = Set(
    commands.flatMap { command in
      command.path.indices.map { command.path[...$0].joined(separator: " ") }
    }
  ).sorted().map { "\"\($0)\"" }.joined(separator: " | ")
  return """
    _cairn() {
      local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
      local command="" words="" word longer first=1 count=0
      [ "$COMP_CWORD" -gt 1 ] && [ "${COMP_WORDS[1]}" = help ] && first=2
      for word in "${COMP_WORDS[@]:first:COMP_CWORD-first}"; do
        longer="$command${command:+ }$word"
        case "$longer" in
          \(known)) command=$longer count=$((count + 1)) ;;
          *) break ;;
        esac
      done
      if [ "$before" = --security ]; then
        words="automatic always never"
      elif [ "$before" = --consistency ]; then
        words="strong read-own eventual"
      elif [[ $current == -* ]] && [ -n "$command" ]; then
        case "$command" in
    \(options)    esac
      elif [ $((first + count)) -eq "$COMP_CWORD" ]; then
        case "$command" in
    \(words)    esac
      fi
      COMPREPLY=($(compgen -W "$words" -- "$current"))
    }
    complete -o default -F _cairn cairn
    """
}
