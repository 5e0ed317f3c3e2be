internal import Ring

/// Reads of a rotating disk's volumes, in the order of an ``Elevator``. Loop-confined.
final class SweptReads: @unchecked Sendable {
  private let pool: BufferPool
  private var elevator: Elevator
  private var nextID: UInt64 = 0
  private var waiting: [UInt64: (slice: Slice, turn: UnsafeContinuation<Turn, Never>)] = [:]

  private enum Turn {
    /// It is this one's turn, for all of the run.
    case read([Elevator.Read])
    /// Another read it too.
    case done
    /// Another tried for it in vain.
    case alone
  }

  init(depth: Int, pool: BufferPool) {
    elevator = Elevator(depth: depth)
    self.pool = pool
  }

  /// As ``File/read(into:at:)``.
  func read(_ file: File, of volume: UInt32, into slice: Slice, at offset: UInt64)
    async throws(RingError) -> Int
  {
    let id = nextID
    nextID += 1
    let turn = await withUnsafeContinuation { turn in
      waiting[id] = (slice, turn)
      elevator.add(
        Elevator.Read(id: id, volume: volume, offset: offset, byteCount: slice.count))
      startNext()
    }
    let run: [Elevator.Read]
    switch turn {
    case .done: return slice.count
    case .alone: return try await file.read(into: slice, at: offset)
    case .read(let mine): run = mine
    }
    defer {
      elevator.ended()
      startNext()
    }
    if run.count == 1 { return try await file.read(into: slice, at: offset) }
    return try await read(run, file, into: slice, at: offset)
  }

  private func startNext() {
    while let run = elevator.next() {
      // The others stay until it has read for them.
      let first = waiting[run[0].id]!
      if run.count == 1 { waiting[run[0].id] = nil }
      first.turn.resume(returning: .read(run))
    }
  }

  private func read(
    _ run: [Elevator.Read], _ file: File, into slice: Slice, at offset: UInt64
  ) async throws(RingError) -> Int {
    waiting[run[0].id] = nil
    let start = run[0].offset
    let whole = pool.slice(run.reduce(0) { max($0, Int($1.end - start)) })
    // A sector that cannot be read must not cost the neighbours theirs: after a failure each is read alone.
    let count = (try? await file.read(into: whole, at: start)) ?? 0
    for read in run.dropFirst() {
      guard let other = waiting.removeValue(forKey: read.id) else { continue }
      if read.end - start <= UInt64(count) {
        Self.copy(whole, Int(read.offset - start), into: other.slice)
        other.turn.resume(returning: .done)
      } else {
        other.turn.resume(returning: .alone)
      }
    }
    if slice.count <= count {
      Self.copy(whole, 0, into: slice)
      return slice.count
    }
    return try await file.read(into: slice, at: offset)
  }

  private static func copy(_ whole: Slice, _ offset: Int, into slice: Slice) {
    whole[offset..<offset + slice.count].withBytes { bytes in
      slice.withMutableBytes { $0.copyMemory(from: bytes) }
    }
  }
}
