import Cluster
import Coding
package import Messages
import Ring
import Stripes

/// Reads ranges of objects. Loop-confined.
///
/// A range is resolved a window at a time (the next one while this one is read), each window is cut into
/// segments, one for each stripe it touches, and several segments are on their way at once within the process's read
/// budget. Each chunk is checked against its fingerprint before a byte of it is given out; one that is wrong is rebuilt
/// without the blocks to blame.
package final class ObjectReader: @unchecked Sendable {
  // Loop-confined.
  private let access: ClusterAccess

  /// Bytes resolved at once.
  private static let windowByteCount: UInt64 = 64 << 20
  /// How often blocks that are gone are looked for.
  private static let resolveLimit = 3

  package init(_ access: ClusterAccess) { self.access = access }

  /// Gives the bytes in `range` to `sink`.
  ///
  /// - Parameters:
  ///   - identity: the version to read; 0 reads what is current at the first window, and stays with it.
  ///   - range: within the object.
  ///   - plan: what ``resolve(_:identity:_:)`` said of this range, when it was asked: spares asking again.
  /// - Throws: ``DataPathError/changed`` when that version is current no more; some bytes may have been given out.
  package func read(
    _ name: ObjectName, identity: UInt64, range: Range<UInt64>,
    plan: ResolveRange.Answer? = nil, into sink: any ByteSink
  ) async throws(DataPathError) {
    if range.isEmpty { return }
    let failure = await withTaskGroup(of: DataPathError?.self) { group -> DataPathError? in
      let turns = Turns(isOrdered: sink.isOrdered)
      var identity = identity
      var first = range.lowerBound
      var next: Promise<Result<ResolveRange.Answer, DataPathError>>?
      if let plan {
        let known = Promise<Result<ResolveRange.Answer, DataPathError>>()
        known.fulfil(.success(plan))
        next = known
      }
      var failure: DataPathError?
      while first < range.upperBound, failure == nil, turns.failure == nil {
        let resolved: Result<ResolveRange.Answer, DataPathError>
        if let next {
          resolved = await next.get()
        } else {
          resolved = await resolve(name, identity, first..<range.upperBound)
        }
        next = nil
        let plan: ResolveRange.Answer
        switch resolved {
        case .success(let answer): plan = answer
        case .failure(let error):
          failure = error
          continue
        }
        identity = plan.identity
        guard range.upperBound <= plan.objectByteCount else {
          failure = .refused(
            code: RefusalCode.invalidRange.rawValue,
            reason: "\(range) is past the end, \(plan.objectByteCount)")
          continue
        }
        let start = first
        let covered =
          plan.pieces.isEmpty
          ? UInt64(plan.inline.count) : plan.pieces.reduce(0) { $0 + UInt64($1.take) }
        guard covered > 0, covered <= range.upperBound - start else {
          failure = .corrupt("the coordinator's answer covers \(covered) bytes")
          continue
        }
        first += covered
        if first < range.upperBound {
          let promise = Promise<Result<ResolveRange.Answer, DataPathError>>()
          next = promise
          let rest = first..<range.upperBound
          group.addTask { [self, identity] in
            promise.fulfil(await resolve(name, identity, rest))
            return nil
          }
        }
        if plan.pieces.isEmpty {
          // Part of an inlined object cannot be checked: its hash is of all of it.
          guard
            start > 0 || plan.inline.count < plan.objectByteCount
              || Fingerprint(of: plan.inline) == plan.contentHash
          else {
            failure = .corrupt("inlined bytes")
            continue
          }
          let slice = Slice(copying: plan.inline)
          let turn = turns.take()
          group.addTask { await turns.deliver(turn, [slice], at: start, to: sink) }
          continue
        }
        let segments: [Segment]
        do throws(DataPathError) {
          segments = try Segment.cut(
            plan, first: start, try await access.keys.domain(plan.keyDomain))
          try await access.map.prepare(
            epoch: plan.mapEpoch, devices: plan.containers.lazy.flatMap(\.places).map(\.device))
        } catch {
          failure = error
          continue
        }
        for segment in segments {
          let cost = min(segment.memoryByteCount, access.readBudgetByteCount)
          await access.readBudget.acquire(cost)
          if Task.isCancelled || turns.failure != nil {
            access.readBudget.release(cost)
            break
          }
          let turn = turns.take()
          group.addTask { [self, identity] in
            defer { access.readBudget.release(cost) }
            do throws(DataPathError) {
              let slices = try await access.readPace.paced(segment.range.count) {
                () async throws(DataPathError) in try await fetch(segment, name, identity)
              }
              return await turns.deliver(turn, slices, at: segment.first, to: sink)
            } catch {
              turns.fail(error)
              return error
            }
          }
        }
        if Task.isCancelled { failure = .cancelled }
      }
      // The first failure ends the others, whose own ends then say nothing new.
      failure = failure ?? turns.failure
      if failure != nil { group.cancelAll() }
      while true {
        if let failure { turns.fail(failure) }
        guard let ended = await group.next() else { break }
        if failure == nil, ended != nil {
          failure = turns.failure ?? ended
          group.cancelAll()
        }
      }
      return failure
    }
    if let failure { throw failure }
  }

  /// What the coordinator says of an object, and where the front of `range` is.
  ///
  /// - Parameter range: from within the object; may end after it. An empty one asks for what there is to know alone.
  package func resolve(_ name: ObjectName, identity: UInt64 = 0, _ range: Range<UInt64>)
    async throws(DataPathError) -> ResolveRange.Answer
  {
    try await resolve(name, identity, range).get()
  }

  private func resolve(_ name: ObjectName, _ identity: UInt64, _ range: Range<UInt64>) async
    -> Result<ResolveRange.Answer, DataPathError>
  {
    do throws(DataPathError) {
      return .success(
        try await access.coordinator.query(
          ResolveRange(
            level: access.map.level, name: name, identity: identity, first: range.lowerBound,
            byteCount: min(
              UInt64(range.count),
              access.driver.meets(.readWindowSmall) ? 5000 : Self.windowByteCount)),
          at: access.map.level))
    } catch {
      return .failure(error.refusalCode == .preconditionFailed ? .changed : error)
    }
  }

  /// The segment's bytes, checked. When its blocks are gone because the container was rewritten or dropped, or too few can be
  /// had, it is resolved again, a few times; blocks that are still where they were are asked for once more.
  private func fetch(_ segment: Segment, _ name: ObjectName, _ identity: UInt64)
    async throws(DataPathError) -> [Slice]
  {
    var segments = [segment]
    var attempt = 1
    var isRepeated = false
    while true {
      let failure: StripeError
      do throws(SegmentError) {
        var slices: [Slice] = []
        for one in segments { slices += try await SegmentReader(access: access).read(one) }
        return slices
      } catch {
        switch error {
        case .key(let error): throw error
        case .stripe(let error): failure = error
        }
        // With too few blocks it is no evidence that some say that they are gone, but a reason to ask.
        switch failure {
        case .notFound, .unreadable:
          guard attempt < Self.resolveLimit else { throw access.translate(failure) }
        case .corrupt, .cancelled: throw access.translate(failure)
        }
      }
      attempt += 1
      let before = Set(segments.map(\.target))
      do throws(DataPathError) {
        segments = try await resolveAgain(segment, name, identity)
      } catch {
        if case .noCoordinator = error { throw access.translate(failure) }
        throw error
      }
      if failure != .notFound, Set(segments.map(\.target)) == before {
        // All connections may have broken at once. Nodes that do not answer are not waited for again and again.
        guard !isRepeated else { throw access.translate(failure) }
        isRepeated = true
      }
    }
  }

  /// Where the segment's bytes are now. One answer may cover fewer.
  private func resolveAgain(_ segment: Segment, _ name: ObjectName, _ identity: UInt64)
    async throws(DataPathError) -> [Segment]
  {
    var segments: [Segment] = []
    var first = segment.first
    let end = segment.first + segment.byteCount
    while first < end {
      let plan = try await resolve(name, identity, first..<end).get()
      let more = try Segment.cut(
        plan, first: first, try await access.keys.domain(plan.keyDomain))
      let covered = more.reduce(0) { $0 + $1.byteCount }
      // More would overwrite a neighbour's.
      guard covered > 0, covered <= end - first else {
        throw .corrupt("the coordinator's second answer covers \(covered) bytes")
      }
      first += covered
      segments += more
      try await access.map.prepare(
        epoch: plan.mapEpoch, devices: plan.containers.lazy.flatMap(\.places).map(\.device))
    }
    return segments
  }
}

/// Lets segments into the sink: one after the other when it wants order, else as they come. Loop-confined.
private final class Turns: @unchecked Sendable {
  // Loop-confined.
  private let isOrdered: Bool
  private var issued = 0
  private var current = 0
  private let queue = WaitQueue()
  private(set) var failure: DataPathError?

  init(isOrdered: Bool) { self.isOrdered = isOrdered }

  func take() -> Int {
    defer { issued += 1 }
    return issued
  }

  /// The first failure counts; nothing more is delivered after it.
  func fail(_ error: DataPathError) {
    if failure == nil { failure = error }
    queue.wakeAll()
  }

  func deliver(_ turn: Int, _ slices: [Slice], at offset: UInt64, to sink: any ByteSink) async
    -> DataPathError?
  {
    if isOrdered {
      while current != turn && failure == nil { await queue.wait() }
    }
    if failure != nil { return nil }
    do throws(DataPathError) {
      try await sink.write(slices, at: offset)
    } catch {
      fail(error)
      return error
    }
    current += 1
    queue.wakeAll()
    return nil
  }
}
