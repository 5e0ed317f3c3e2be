import Coding
import Messages
import Ring

/// Asks the dedup index about fingerprints, many objects' in one question. Loop-confined.
///
/// While one question is on its way those that come gather for the next. Neighbours of hits are remembered, so a
/// tree that is stored again asks seldom.
final class ChunkFinder: @unchecked Sendable {
  // Loop-confined.
  typealias Answer = Result<[FindChunks.Location], DataPathError>

  private struct Waiting {
    var domain: ChunkDomain
    var fingerprints: [Fingerprint]
    var promise: Promise<Answer>
  }

  /// A chunk of one domain is none of another.
  private struct Name: Hashable {
    var domain: ChunkDomain
    var fingerprint: Fingerprint
  }

  private let access: ClusterAccess
  private let tasks: OwnedTasks
  private var waiting: [Waiting] = []
  private var isAsking = false
  private var neighbours: [Name: FindChunks.Location] = [:]

  private static let batchLimit = 4096
  /// About 10 MiB.
  private static let neighbourLimit = 100_000

  init(_ access: ClusterAccess, _ tasks: OwnedTasks) {
    self.access = access
    self.tasks = tasks
  }

  /// One location for each fingerprint; `byteCount` 0 where it is not stored. All are hints.
  func find(_ fingerprints: [Fingerprint], in domain: ChunkDomain)
    async throws(DataPathError) -> [FindChunks.Location]
  {
    if fingerprints.isEmpty { return [] }
    let known = fingerprints.compactMap { neighbours[Name(domain: domain, fingerprint: $0)] }
    if known.count == fingerprints.count { return known }
    let promise = Promise<Answer>()
    waiting.append(Waiting(domain: domain, fingerprints: fingerprints, promise: promise))
    if !isAsking {
      isAsking = true
      tasks.spawn("find chunks") { await self.ask() }
    }
    return try await promise.get().get()
  }

  /// A hint that proved wrong.
  func forget(_ fingerprint: Fingerprint, in domain: ChunkDomain) {
    neighbours[Name(domain: domain, fingerprint: fingerprint)] = nil
  }

  private func ask() async {
    while let domain = waiting.first?.domain {
      var batch: [Waiting] = []
      var count = 0
      while let first = waiting.first, first.domain == domain,
        batch.isEmpty || count + first.fingerprints.count <= Self.batchLimit
      {
        count += first.fingerprints.count
        batch.append(first)
        waiting.removeFirst()
      }
      do throws(DataPathError) {
        let answer = try await access.coordinator.query(
          FindChunks(fingerprints: batch.flatMap(\.fingerprints), in: domain))
        guard answer.found.count == count else { throw .corrupt("answer of the dedup index") }
        if neighbours.count + answer.neighbours.count > Self.neighbourLimit { neighbours = [:] }
        for neighbour in answer.neighbours {
          let name = Name(domain: domain, fingerprint: neighbour.fingerprint)
          neighbours[name] = neighbour.location
        }
        var start = 0
        for one in batch {
          let end = start + one.fingerprints.count
          var found = Array(answer.found[start..<end])
          if access.driver.meets(.hintMissed) {
            for index in found.indices { found[index].byteCount = 0 }
          }
          one.promise.fulfil(.success(found))
          start = end
        }
      } catch {
        for one in batch { one.promise.fulfil(.failure(error)) }
      }
    }
    isAsking = false
  }
}
