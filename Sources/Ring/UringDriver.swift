import CKernel
import CURing
import Glibc

/// The driver of the real world: io_uring where the kernel has an operation for it, plain calls where
/// they cannot block, threads for the rest.
///
/// Beyond what ``Driver`` promises, a read or write of a stream (offset `.max`) is cancelled with its
/// task like the socket operations.
package final class UringDriver: Driver {
  package let loop: EventLoop

  init(_ loop: EventLoop) { self.loop = loop }

  package var buffers: BufferPool { loop.buffers }
  package var features: String { loop.features.description }

  @inlinable package func meets(_ point: InjectionPoint) -> Bool { false }

  package var now: Duration { Self.clock(CLOCK_MONOTONIC) }
  package var wallClock: Duration { Self.clock(CLOCK_REALTIME) }

  private static func clock(_ which: clockid_t) -> Duration {
    var time = timespec()
    clock_gettime(which, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
  }

  /// Straight from the kernel's generator, fit for keys.
  package func random() -> UInt64 {
    let state = loop.state
    if state.pointee.randomLeft == 0 {
      let failure = cairn_random(state.pointee.random, LoopState.randomBatch * 8)
      precondition(failure == 0, "the kernel gives no random bytes")
      state.pointee.randomLeft = LoopState.randomBatch
    }
    state.pointee.randomLeft -= 1
    let place = state.pointee.random + state.pointee.randomLeft
    let word = place.pointee
    // Given out once: what a later look at this memory finds is of no use.
    place.pointee = 0
    return word
  }

  package func offload<Value: Sendable>(lane: Int, _ work: @escaping @Sendable () -> Value) async
    -> Value
  {
    precondition((0..<4).contains(lane))
    return await loop.offload(lane: lane, work)
  }

  package func offload<Value: Sendable>(
    within limit: Duration, _ work: @escaping @Sendable () -> Value
  ) async -> Value? {
    let loop = loop
    let answer = await withDeadline(limit) {
      await loop.abandonableOffload(lane: EventLoop.foreignLane, work)
    }
    return answer ?? nil
  }

  @discardableResult
  package func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) -> SpawnedTask {
    let loop = loop
    loop.checkIsolated()
    let number = loop.state.pointee.nextSpawn
    loop.state.pointee.nextSpawn += 1
    let task = Task(name: name, executorPreference: loop) {
      await body()
      loop.state.pointee.spawned[number] = nil
    }
    loop.state.pointee.spawned[number] = task
    if loop.state.pointee.isStopping { task.cancel() }
    return SpawnedTask(task)
  }

  package func onOwnLoop<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable (any Driver) async -> Value
  ) async throws(RingError) -> Value {
    try await loop.runBeside(name, EventLoop.Options(), body).get()
  }

  package func usage(of scope: UsageScope) -> ResourceUsage { ResourceUsage(scope) }

  package func submit(_ operation: RingOperation) async -> Int32 {
    // Keeps the buffers until the kernel is done with them.
    defer { extendLifetime(operation) }
    switch operation {
    case .read(let descriptor, let slice, let offset):
      return await read(descriptor, slice, offset)
    case .write(let descriptor, let slices, let offset):
      return await write(descriptor, slices, offset)
    case .writeDurably(let descriptor, let slices, let offset):
      return await writeDurably(descriptor, slices, offset)
    case .receive(let descriptor, let slice, let waitForAll):
      return await receive(descriptor, slice, waitForAll)
    case .receiveAny(let descriptor, let outcome): return await receiveAny(descriptor, outcome)
    case .send(let descriptor, let slices):
      return await send(descriptor, slices)
    case .sleep(let duration): return await sleep(duration)
    case .synchronize(let descriptor, let dataOnly):
      return await synchronize(descriptor, dataOnly)
    default: return await submitRare(operation)
    }
  }

  /// Apart from the others, which are under way by the thousand: a task's memory is taken for all that its calls may need.
  @inline(never)
  private func submitRare(_ operation: RingOperation) async -> Int32 {
    switch operation {
    case .read, .write, .writeDurably, .receive, .receiveAny, .send, .sleep, .synchronize:
      preconditionFailure("not rare")
    case .open(let path, let flags, let mode): return await open(path, flags, mode)
    case .close(let descriptor): return await close(descriptor)
    case .allocate(let descriptor, let mode, let offset, let byteCount):
      guard let offset = off_t(exactly: offset), let byteCount = off_t(exactly: byteCount) else {
        return -EINVAL
      }
      return await repeated { io_uring_prep_fallocate($0, descriptor, mode, offset, byteCount) }
    case .truncate(let descriptor, let byteCount): return await truncate(descriptor, byteCount)
    case .lock(let descriptor):
      return flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno
    case .status(let path, let followLinks, let outcome):
      return await status(path, followLinks, outcome)
    case .fileStatus(let descriptor, let outcome): return fileStatus(descriptor, outcome)
    case .list(let path, let withStatus, let outcome):
      return await list(path, withStatus, outcome)
    case .makeDirectory(let path, let mode):
      return await withPath(path) { path in
        await repeated { io_uring_prep_mkdirat($0, AT_FDCWD, path, mode) }
      }
    case .remove(let path, let isDirectory):
      return await withPath(path) { path in
        await repeated {
          io_uring_prep_unlinkat($0, AT_FDCWD, path, isDirectory ? AT_REMOVEDIR : 0)
        }
      }
    case .rename(let from, let to, let exclusive):
      return await withPath(from) { from in
        await withPath(to) { to in
          await repeated {
            io_uring_prep_renameat($0, AT_FDCWD, from, AT_FDCWD, to, exclusive ? 1 : 0)
          }
        }
      }
    case .makeSymbolicLink(let path, let target):
      guard !target.contains(0) else { return -EINVAL }
      let text = Self.copy(target)
      defer { free(text) }
      return await withPath(path) { path in
        await repeated { io_uring_prep_symlinkat($0, text, AT_FDCWD, path) }
      }
    case .readSymbolicLink(let path, let outcome):
      return await readSymbolicLink(path, outcome)
    case .setAttributes(let path, let mode, let modified):
      return await setAttributes(path, mode, modified)
    case .space(let path, let outcome): return await space(path, outcome)
    case .fileSystem(let path, let outcome): return await fileSystem(path, outcome)
    case .listen(let address, let backlog, let outcome):
      return await listen(address, backlog, outcome)
    case .accept(let descriptor, let outcome): return await accept(descriptor, outcome)
    case .connect(let address): return await connect(address)
    case .shutdown(let descriptor):
      return Glibc.shutdown(descriptor, Int32(SHUT_RDWR)) == 0 ? 0 : -errno
    case .spawnProcess(let launch, let outcome): return await spawnProcess(launch, outcome)
    case .signalProcess(let pid, let signal): return kill(pid, signal) == 0 ? 0 : -errno
    case .waitForProcess(let pid): return await waitForProcess(pid)
    case .waitForSignal(let signals): return await waitForSignal(signals)
    }
  }

  /// Again when a signal cut it short before it did anything.
  @inline(__always)
  func repeated(_ prepare: (Entry) -> Void) async -> Int32 {
    while true {
      let result = await loop.operate(prepare)
      if result != -EINTR { return result }
    }
  }

  /// Waits, unless cancelled, until the descriptor is ready for `events`.
  func poll(_ slot: SlotPointer, _ descriptor: Int32, _ events: Int32) async -> Int32 {
    while true {
      let result = await loop.interruptible(slot) {
        io_uring_prep_poll_add($0, descriptor, UInt32(events))
      }
      if result != -EINTR { return result }
    }
  }

  private func sleep(_ duration: Duration) async -> Int32 {
    if duration <= .zero {
      // Others have their turn, and that is all that was asked for.
      await Task.yield()
      return Task.isCancelled ? -ECANCELED : 0
    }
    // Centuries are enough, and their nanoseconds fit.
    let (seconds, attoseconds) = min(duration, .seconds(1 << 33)).components
    let nanoseconds = seconds * 1_000_000_000 + (attoseconds + 999_999_999) / 1_000_000_000
    return await loop.sleep(until: EventLoop.nanoseconds() + nanoseconds)
  }
}
