import Glibc
import Ring
import Testing

@testable import Bench

/// Runs `body` on an event loop of its own, on a thread of its own.
func onLoop<Result: Sendable>(
  _ body: @escaping @Sendable (any Driver) async throws -> Result
) async throws -> Result {
  let result = await withUnsafeContinuation {
    (continuation: UnsafeContinuation<Swift.Result<Result, any Error>, Never>) in
    let box = Box {
      let result = try! EventLoop.run { driver -> Swift.Result<Result, any Error> in
        do { return .success(try await body(driver)) } catch { return .failure(error) }
      }
      continuation.resume(returning: result)
    }
    var thread = pthread_t()
    let failure = pthread_create(
      &thread, nil,
      { context in
        Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, Unmanaged.passRetained(box).toOpaque())
    precondition(failure == 0)
    pthread_detach(thread)
  }
  return try result.get()
}

private final class Box {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// A fresh folder on a disk, where direct I/O works; removed afterwards.
func withFolder<Result: Sendable>(
  _ body: @escaping @Sendable (any Driver, String) async throws -> Result
) async throws -> Result {
  var name = Array("/var/tmp/bench-tests-XXXXXX".utf8CString)
  precondition(mkdtemp(&name) != nil)
  let path = String(decoding: name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer { removeTree(path) }
  return try await onLoop { try await body($0, path) }
}

private func removeTree(_ path: String) {
  if let directory = opendir(path) {
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
      }
      if name != "." && name != ".." { removeTree(path + "/" + name) }
    }
    closedir(directory)
    rmdir(path)
  } else {
    unlink(path)
  }
}

/// The request of a command line.
func request(_ words: String) throws -> BenchRequest {
  try BenchCommandLine(words.split(separator: " ").map(String.init)).request(files: [])
}

/// Runs a command line and returns what came of it.
func run(_ words: String, on driver: any Driver) async throws -> RunOutcome {
  let surroundings = Bench.Surroundings(version: "test") { path async throws(BenchError) in
    throw .failed("no cluster here: \(path)")
  }
  return try await Bench(try request(words), surroundings, on: driver).run { _ in }
}

/// What `body` was refused with; "" when it was not.
func refusal(_ body: () async throws -> Void) async -> String {
  do {
    try await body()
    return ""
  } catch {
    return (error as? BenchError)?.text ?? "\(error)"
  }
}
