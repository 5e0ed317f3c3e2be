import CURing
import Glibc

/// What changes on every turn of an ``EventLoop``, reached through one pointer: as properties of the
/// class, each access would pay for a dynamic exclusivity check (17 % of the time of a yield).
///
/// Touched only by the loop's thread. Whoever calls out (resuming a continuation queues a job) must
/// go through the pointer field by field, never through a mutating method.
struct LoopState {
  var ring = io_uring()

  /// Jobs ready to run: a circular buffer of a power of two, `head` and `tail` count for ever.
  var jobs: UnsafeMutablePointer<UnownedJob>
  var jobCapacity: Int
  var jobHead = 0
  var jobTail = 0

  /// Tasks that wait for the kernel or for an offload thread.
  var inFlight = 0
  var completions: UnsafeMutablePointer<cairn_completion>

  var files: FileTable

  /// Open listeners that were asked for a connection, by descriptor, and all whose operation has not ended.
  var listeners: [Int32: AcceptQueue] = [:]
  var acceptQueues: [SlotPointer: AcceptQueue] = [:]

  /// What is sent without a copy and may still be read by the kernel.
  var lent: [SlotPointer: [Slice]] = [:]

  var freeSlot: SlotPointer?
  var slots: [SlotPointer] = []

  /// Tasks made by `spawn` that have not ended, by the number they were given.
  var spawned: [UInt64: Task<Void, Never>] = [:]
  var nextSpawn: UInt64 = 0
  /// Set once the body of `run` has returned.
  var isStopping = false

  var timers = TimerHeap()
  /// Kernel timers under way, each later than the next. One may outlive the sleep it was armed for:
  /// then it only makes the loop look.
  var armedTimers: [SlotPointer] = []

  var isWakeArmed = false
  var isTrimArmed = false
  var trimPeriod = __kernel_timespec(tv_sec: 10, tv_nsec: 0)

  /// Random bytes not yet given out, so that one system call serves many draws.
  var random: UnsafeMutablePointer<UInt64>
  var randomLeft = 0

  static let completionBatch: UInt32 = 64
  static let randomBatch = 32

  init(fileLimit: UInt32) {
    files = FileTable(limit: fileLimit)
    jobCapacity = 256
    jobs = .allocate(capacity: jobCapacity)
    completions = .allocate(capacity: Int(Self.completionBatch))
    random = .allocate(capacity: Self.randomBatch)
  }

  mutating func free() {
    for slot in slots {
      slot.pointee.free()
      slot.deallocate()
    }
    slots = []
    freeSlot = nil
    timers.free()
    files.free()
    jobs.deallocate()
    completions.deallocate()
    random.deallocate()
  }
}

extension UnsafeMutablePointer where Pointee == LoopState {
  func push(_ job: UnownedJob) {
    if jobCount == pointee.jobCapacity { growJobs() }
    let tail = pointee.jobTail
    (pointee.jobs + (tail & (pointee.jobCapacity - 1))).initialize(to: job)
    pointee.jobTail = tail + 1
  }

  func pop() -> UnownedJob {
    let head = pointee.jobHead
    pointee.jobHead = head + 1
    return pointee.jobs[head & (pointee.jobCapacity - 1)]
  }

  var jobCount: Int { pointee.jobTail - pointee.jobHead }

  @inline(never) private func growJobs() {
    let old = pointee.jobs
    let mask = pointee.jobCapacity - 1
    let fresh = UnsafeMutablePointer<UnownedJob>.allocate(capacity: pointee.jobCapacity * 2)
    let count = jobCount
    for index in 0..<count { (fresh + index).initialize(to: old[(pointee.jobHead + index) & mask]) }
    old.deallocate()
    pointee.jobs = fresh
    pointee.jobCapacity *= 2
    pointee.jobHead = 0
    pointee.jobTail = count
  }

  /// A slot for one operation; give it back when the kernel is done with it.
  func takeSlot() -> SlotPointer {
    if let slot = pointee.freeSlot {
      pointee.freeSlot = slot.pointee.next
      return slot
    }
    let slot = SlotPointer.allocate(capacity: 1)
    slot.initialize(to: OperationSlot())
    pointee.slots.append(slot)
    return slot
  }

  func giveBack(_ slot: SlotPointer) {
    slot.pointee.generation &+= 1
    slot.pointee.userData = 0
    slot.pointee.isCancelled = false
    slot.pointee.listener = -1
    slot.pointee.continuation = 0
    slot.pointee.next = pointee.freeSlot
    pointee.freeSlot = slot
  }
}

typealias SlotPointer = UnsafeMutablePointer<OperationSlot>

/// The memory of one operation that the kernel reads or writes after the call that submitted it, and
/// what is needed to cancel it. Never moves; reused, and freed with the loop.
struct OperationSlot {
  /// What the operation's completion will carry; 0 while none is under way.
  var userData: UInt64 = 0
  /// Rises at each reuse, so that a cancellation that comes too late hits nothing.
  var generation: UInt = 0
  var isCancelled = false
  /// For a flagged operation: who waits for it, and its completion's flags.
  var continuation: UInt64 = 0
  var flags: UInt32 = 0
  /// For a send without a copy: its task has taken the answer.
  var isAnswered = false
  /// For an accept that waits: at which listener.
  var listener: Int32 = -1
  /// For two linked operations: how many have not completed, and their results.
  var linkedLeft = 0
  var headResult: Int32 = 0
  var tailResult: Int32 = 0
  var next: SlotPointer?
  /// For a sleep: when it ends, in nanoseconds of the monotonic clock, and its place among others,
  /// -1 while it is not there.
  var deadline: Int64 = 0
  var timerSequence: UInt64 = 0
  var timerPlace = -1
  var time = __kernel_timespec()
  var address = sockaddr_storage()
  var addressLength: socklen_t = 0
  var message = msghdr()
  private(set) var vectors: UnsafeMutablePointer<iovec>?
  private var vectorCapacity = 0

  /// The kernel's bound on the vectors of one call (IOV_MAX).
  static let vectorLimit = 1024

  /// Points the vectors at what is left of `slices` after `skip` bytes.
  ///
  /// - Returns: how many vectors, at most `vectorLimit` and 1 GiB in all.
  mutating func gather(_ slices: [Slice], after skip: Int) -> Int {
    let needed = min(slices.count, Self.vectorLimit)
    if vectorCapacity < needed {
      vectors?.deallocate()
      vectorCapacity = max(16, needed)
      vectors = .allocate(capacity: vectorCapacity)
    }
    guard let vectors else { return 0 }
    var skip = skip
    var room = 1 << 30
    var count = 0
    for slice in slices {
      if skip >= slice.count {
        skip -= slice.count
        continue
      }
      if count == Self.vectorLimit || room == 0 { break }
      let length = min(slice.count - skip, room)
      (vectors + count).initialize(
        to: iovec(iov_base: slice.buffer.base + slice.offset + skip, iov_len: length))
      count += 1
      room -= length
      skip = 0
    }
    return count
  }

  mutating func free() {
    vectors?.deallocate()
    vectors = nil
  }
}
