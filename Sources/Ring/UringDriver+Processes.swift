import CKernel
import CURing
import Glibc

extension UringDriver {
  func spawnProcess(_ launch: ProcessLaunch, _ outcome: Outcome<Int32>) async -> Int32 {
    guard let executable = PathBytes(launch.executable), let log = PathBytes(launch.logPath),
      launch.arguments.allSatisfy({ !$0.utf8.contains(0) })
    else { return -EINVAL }
    return await loop.offload(lane: EventLoop.fileLane) {
      executable.withCString { executable in
        log.withCString { Self.start(executable, launch.arguments, log: $0, outcome) }
      }
    }
  }

  private static func start(
    _ executable: UnsafePointer<CChar>, _ arguments: [String], log: UnsafePointer<CChar>,
    _ outcome: Outcome<Int32>
  ) -> Int32 {
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o644)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    _ = cairn_spawn_close_from(&actions, 3)
    // The child must not inherit what the loop blocks and ignores.
    var none = sigset_t()
    var all = sigset_t()
    sigemptyset(&none)
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setflags(
      &attributes,
      Int16(
        Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)
          | cairn_spawn_flag_new_session()))
    var words: [UnsafeMutablePointer<CChar>?] = [strdup(executable)]
    // A path among them may be no UTF-8.
    for argument in arguments {
      words.append(
        (PathText.bytes(argument) + [0]).withUnsafeBytes { bytes in
          strdup(bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
        })
    }
    words.append(nil)
    defer { for word in words { free(word) } }
    var pid = pid_t()
    let failure = posix_spawn(&pid, executable, &actions, &attributes, words, environ)
    if failure != 0 { return -failure }
    outcome.value = pid
    return 0
  }

  /// Waits for the end of any process; -ECHILD when it was none of ours, so that only its end is
  /// known, not its status.
  func waitForProcess(_ pid: Int32) async -> Int32 {
    let descriptor = cairn_pidfd_open(pid)
    guard descriptor >= 0 else { return descriptor }
    defer { Glibc.close(descriptor) }
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let ready = await poll(slot, descriptor, POLLIN)
    if ready < 0 { return ready }
    var status: Int32 = 0
    while waitpid(pid, &status, WNOHANG) < 0 {
      if errno != EINTR { return -errno }
    }
    let signal = status & 0x7F
    return signal == 0 ? (status >> 8) & 0xFF : 128 + signal
  }

  func waitForSignal(_ signals: [Int32]) async -> Int32 {
    var wanted = sigset_t()
    sigemptyset(&wanted)
    for number in signals where sigaddset(&wanted, number) != 0 { return -EINVAL }
    pthread_sigmask(SIG_BLOCK, &wanted, nil)
    let descriptor = cairn_signalfd(signals, signals.count)
    guard descriptor >= 0 else { return descriptor }
    defer { Glibc.close(descriptor) }
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    while true {
      let ready = await poll(slot, descriptor, POLLIN)
      if ready < 0 { return ready }
      let number = cairn_signalfd_take(descriptor)
      if number != -EAGAIN && number != -EINTR { return number }
    }
  }
}
