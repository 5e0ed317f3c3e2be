import Cluster
import Messages
import Metadata
import Ring
import Wire

/// What a new leader does before it appends or applies anything: finds where the log ends, makes that end safe
/// in a link of its own, and has it named.
struct TakeOver: Sendable {
  let driver: any Driver
  let port: any NodePort
  let nodes: NodeTable
  let arbiter: any Arbiter
  let opener: LinkOpener
  let reader: LogReader
  let epoch: UInt64
  /// How long a device is waited for when others answered already.
  let fenceBound: Duration
  /// Told what it waits for, for people.
  let report: @Sendable (String) -> Void

  struct Outcome: Sendable {
    var opened: LinkOpener.Opened
    /// Of the first batch that the new leader will append.
    var nextPosition: UInt64
  }

  /// - Throws: ``LogError/lost(_:)``; for anything else it waits, and says for what.
  func run(_ root: RootRecord) async throws(LogError) -> Outcome {
    guard let open = root.links.last else {
      // A cluster just founded.
      let first = (root.checkpoint?.position ?? 0) + 1
      return Outcome(
        opened: try await opener.open(firstPosition: first, copies: [], sealing: nil),
        nextPosition: first)
    }
    while true {
      do throws(LogError) {
        let evidence: LinkEvidence
        if let sealed = open.sealedStripes {
          // Sealed with nothing after it: a leader stopped between the two.
          let next = try await position(after: sealed, of: open)
          return Outcome(
            opened: try await opener.open(firstPosition: next, copies: [], sealing: sealed),
            nextPosition: next)
        } else {
          evidence = try await fence(open)
          if driver.meets(.takeOverLate) { await driver.sleep(.seconds(1)) }
        }
        let tail = try await readTail(open, evidence)
        var next: UInt64
        if let first = tail.first {
          next = first.batch.firstPosition
        } else {
          next = try await position(after: evidence.acknowledged, of: open)
        }
        let firstPosition = next
        for (batch, _) in tail {
          guard batch.firstPosition == next else {
            throw .unreadable("\(open.container): positions out of order at its end")
          }
          next = batch.lastPosition + 1
        }
        let opened = try await opener.open(
          firstPosition: firstPosition, copies: tail.map(\.bytes), sealing: evidence.acknowledged)
        return Outcome(opened: opened, nextPosition: next)
      } catch {
        guard case .unreadable(let why) = error else { throw error }
        report(why)
        try await pause()
      }
    }
  }

  private func pause() async throws(LogError) {
    guard await driver.sleep(.milliseconds(500)) else { throw .stopped }
    guard arbiter.isHeld else {
      arbiter.lose(.expired)
      throw .lost(await arbiter.waitForLoss())
    }
  }

  /// Fences the open link on every device that answers within the bound, until the end is known.
  private func fence(_ link: RootRecord.Link) async throws(LogError) -> LinkEvidence {
    var evidence = LinkEvidence()
    while true {
      let answers = await withTaskGroup(of: (Int, Result<ShardListing, WireError>).self) { group in
        for shard in link.devices.indices where evidence.listings[shard] == nil {
          group.addTask {
            (shard, await port.fence(link.place, shard: shard, epoch: epoch, deadline: fenceBound))
          }
        }
        var answers: [Int: Result<ShardListing, WireError>] = [:]
        for await (shard, answer) in group { answers[shard] = answer }
        return answers
      }
      for shard in answers.keys.sorted() {
        switch answers[shard]! {
        case .success(let listing): evidence.add(listing, shard: shard)
        case .failure(let error):
          if error.refusalCode == .staleEpoch {
            arbiter.lose(.deposed(epoch: error.staleEpoch ?? epoch))
            throw .lost(await arbiter.waitForLoss())
          }
        }
      }
      if evidence.isConclusive { return evidence }
      let missing = link.devices.indices.filter { evidence.listings[$0] == nil }
      let names = Set(missing.map { nodes.nodeName(of: link.devices[$0]) }).sorted()
      report(
        "the end of the log is known to none that answers; needs one of "
          + names.joined(separator: ", "))
      try await pause()
    }
  }

  /// The batches past the acknowledged position that some device has, in order.
  private func readTail(_ link: RootRecord.Link, _ evidence: LinkEvidence) async throws(LogError)
    -> [(batch: LogBatch, bytes: [UInt8])]
  {
    var tail: [(batch: LogBatch, bytes: [UInt8])] = []
    let layouts = evidence.layouts
    for stripe in evidence.acknowledged..<max(evidence.acknowledged, evidence.run) {
      do throws(LogError) {
        let bytes = try await reader.read(link.place, [stripe], layouts)[0]
        tail.append((try LogReader.batch(bytes, link: link, stripe: stripe), bytes))
      } catch {
        // What was surely never acknowledged may end here; anything else must be found.
        guard case .unreadable = error, stripe >= evidence.surelyUnacknowledged else { throw error }
        break
      }
    }
    return tail
  }

  /// The position after the last batch below stripe `count`.
  private func position(after count: UInt64, of link: RootRecord.Link) async throws(LogError)
    -> UInt64
  {
    guard count > 1 else { return link.firstPosition }
    let layouts = await reader.layouts(of: link.place, count: count)
    let bytes = try await reader.read(link.place, [count - 1], layouts)[0]
    return try LogReader.batch(bytes, link: link, stripe: count - 1).lastPosition + 1
  }
}
