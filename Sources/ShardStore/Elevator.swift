/// In which order a rotating disk serves reads that wait: by their place, in sweeps from low to high, neighbours together.
///
/// Reads that come during a sweep wait for the next one, also those that lie ahead of the head: else a busy region could
/// keep the rest waiting for ever. So a read waits for at most the rest of one sweep and for those of its own before it.
/// Knows numbers only, not bytes. Source: FSCAN; Coffman, Klimko, Ryan, SIAM J. Comput. 1(3), 1972.
struct Elevator {
  struct Read: Equatable {
    var id: UInt64
    /// Volumes are made and laid out one after the other.
    var volume: UInt32
    var offset: UInt64
    var byteCount: Int
    var end: UInt64 { offset + UInt64(byteCount) }
  }

  /// Reads the disk has at a time. More would be ordered by the disk itself, whose order is not bounded.
  private let depth: Int
  /// Bytes of a run of neighbours.
  private let runLimit: Int
  /// Of the sweep under way: what is left of it, the next read last.
  private var sweep: [Read] = []
  /// For the next sweep.
  private var arrived: [Read] = []
  private var runsUnderWay = 0

  init(depth: Int, runLimit: Int = 1 << 20) {
    precondition(depth > 0)
    self.depth = depth
    self.runLimit = runLimit
  }

  mutating func add(_ read: Read) { arrived.append(read) }

  /// The next reads to do in one piece, ascending, each beginning where one before it ends or earlier; nil when none waits
  /// or the disk has enough. Then call ``ended()`` once.
  mutating func next() -> [Read]? {
    guard runsUnderWay < depth else { return nil }
    if sweep.isEmpty {
      swap(&sweep, &arrived)
      sweep.sort { ($0.volume, $0.offset, $0.id) > ($1.volume, $1.offset, $1.id) }
    }
    guard let first = sweep.popLast() else { return nil }
    var run = [first]
    var end = first.end
    while let following = sweep.last, following.volume == first.volume, following.offset <= end,
      max(end, following.end) - first.offset <= UInt64(runLimit)
    {
      end = max(end, following.end)
      run.append(following)
      sweep.removeLast()
    }
    runsUnderWay += 1
    return run
  }

  mutating func ended() { runsUnderWay -= 1 }
}
