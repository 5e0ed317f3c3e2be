import Ring
import TestSupport
import Testing

@testable import Bench

/// Runs `body` on an event loop of its own, on a thread of its own.
func onLoop<Result: Sendable>(
  _ body: @escaping @Sendable (any Driver) async throws -> Result
) async throws -> Result {
  try await TestSupport.onLoop { driver -> Swift.Result<Result, any Error> in
    do { return .success(try await body(driver)) } catch { return .failure(error) }
  }.get()
}

/// A fresh folder on a disk, and a loop to use it on.
func withFolder<Result: Sendable>(
  _ body: @escaping @Sendable (any Driver, String) async throws -> Result
) async throws -> Result {
  try await withTemporaryFolder { path in try await onLoop { try await body($0, path) } }
}

/// The request of a command line.
func request(_ words: String) throws -> BenchRequest {
  try BenchCommandLine(words.split(separator: " ").map(String.init)).request(files: [])
}

/// Runs a command line and returns what came of it.
func run(_ words: String, on driver: any Driver) async throws -> RunOutcome {
  let surroundings = Bench.Surroundings(
    version: "test", environment: { _ in nil },
    loadCluster: { path async throws(BenchError) in throw .failed("no cluster here: \(path)") })
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
