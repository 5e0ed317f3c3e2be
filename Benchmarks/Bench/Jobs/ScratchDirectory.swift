import Ring

/// A directory of bench's own: there is none before, and none after.
struct ScratchDirectory: Sendable {
  let path: String

  /// `DIRECTORY/NAME.KIND`.
  init(_ options: JobOptions, _ kind: String) {
    let directory = options.directory ?? "."
    path = HostProcess.absolute("\(directory)/\(options.name).\(kind)")
  }

  /// - Throws: when something is there already.
  func check(on driver: any Driver) async throws(BenchError) {
    if await driver.exists(path) {
      throw .failed(
        "is there already, and bench makes its own: remove it, or give another name: \(path)")
    }
  }

  func make(on driver: any Driver) async throws(BenchError) {
    do throws(RingError) {
      try await driver.makeDirectories(path, mode: 0o700)
    } catch {
      throw .system(error)
    }
  }

  /// Removes it with all that is in it, unless the job keeps what bench made.
  func remove(_ options: JobOptions, on driver: any Driver) async throws(BenchError) {
    if options.unlinks == false { return }
    do throws(RingError) {
      try await Self.removeTree(path, on: driver)
    } catch {
      if error.errno != Errno.noEntry { throw .system(error) }
    }
  }

  private static func removeTree(_ path: String, on driver: any Driver) async throws(RingError) {
    for entry in try await driver.list(path) {
      let inner = path + "/" + PathText.string(entry.name)
      if entry.kind == .directory {
        try await removeTree(inner, on: driver)
      } else {
        try await driver.remove(inner)
      }
    }
    try await driver.remove(path, isDirectory: true)
  }
}
