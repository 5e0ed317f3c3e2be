import CKernel
import Glibc

/// What a command-line program asks of the process it runs in. Facts fixed at start, no effects.
package enum HostProcess {
  package static func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
  }

  /// The command line without the program's name. Words are in the form of ``PathText``, so that file names that
  /// are no UTF-8 arrive whole.
  package static var arguments: [String] {
    (1..<max(1, Int(CommandLine.argc))).compactMap { index in
      CommandLine.unsafeArgv[index].map { word in
        PathText.string(Array(UnsafeRawBufferPointer(start: word, count: strlen(word))))
      }
    }
  }

  /// To as many open files as the process may have at all: the lower limit is for those who call select(2).
  package static func raiseOpenFileLimit() { cairn_raise_file_limit() }
  /// How many files and connections the process may have open.
  package static var openFileLimit: Int { Int(clamping: cairn_file_limit()) }

  /// As under nohup.
  package static var ignoresHangUp: Bool { cairn_hangup_is_ignored() != 0 }

  package static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

  /// Asks on the terminal that the process has, which shows nothing of the answer; nil without a terminal, or when the answer is broken
  /// off with Ctrl-C or Ctrl-D. Waits for the answer, and nothing else goes on meanwhile.
  ///
  /// Not getpass(3): it takes Ctrl-C for a part of the answer where the signal is blocked, as it is here.
  package static func askSecretly(_ question: String) -> [UInt8]? {
    let terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)
    guard terminal >= 0 else { return nil }
    defer { close(terminal) }
    var before = termios()
    guard tcgetattr(terminal, &before) == 0 else { return nil }
    var quiet = before
    quiet.c_lflag &= ~tcflag_t(ECHO | ICANON | ISIG)
    guard tcsetattr(terminal, TCSAFLUSH, &quiet) == 0 else { return nil }
    defer {
      tcsetattr(terminal, TCSAFLUSH, &before)
      _ = write(terminal, "\n", 1)
    }
    _ = question.withCString { write(terminal, $0, strlen($0)) }
    var answer: [UInt8] = []
    var byte: UInt8 = 0
    while read(terminal, &byte, 1) == 1 {
      switch byte {
      case 10, 13: return answer
      case 3, 4, 28: return nil
      case 8, 127:
        // A whole character, which may have several bytes.
        while let last = answer.popLast(), last & 0xC0 == 0x80 {}
      case 21: answer = []
      default: answer.append(byte)
      }
    }
    return nil
  }

  /// Columns of the terminal at `descriptor`; 80 when it does not say.
  package static func terminalWidth(_ descriptor: Int32) -> Int {
    var size = winsize()
    guard ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  /// Absolute path of the running executable.
  package static var executablePath: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4097) { buffer in
      let count = readlink("/proc/self/exe", buffer.baseAddress!, 4096)
      guard count > 0 else { return CommandLine.arguments[0] }
      buffer[count] = 0
      return String(cString: buffer.baseAddress!)
    }
  }

  package static var currentDirectory: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4097) { buffer in
      getcwd(buffer.baseAddress!, 4096).map { String(cString: $0) } ?? "/"
    }
  }

  /// `path`, made absolute against the working directory, without what names nothing: `.` and empty components. `..` stays,
  /// for what it means depends on links.
  package static func absolute(_ path: String) -> String {
    let slash = UInt8(ascii: "/")
    let whole = path.utf8.first == slash ? path : currentDirectory + "/" + path
    let names = whole.utf8.split(separator: slash).map(Substring.init).filter { $0 != "." }
    return "/" + names.joined(separator: "/")
  }

  package static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

  /// For who has no loop to write with: `line` goes to standard error.
  package static func exit(_ status: Int32, saying line: String) -> Never {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(2, $0.baseAddress!, $0.count) }
    Glibc.exit(status)
  }
}
