import Glibc
internal import Ring

extension SimulatedProcess {
  /// Sends an operation to the part of the world that it is about.
  func dispatch(_ pending: PendingOperation) {
    switch pending.operation {
    case .sleep(let duration):
      let span = toWorld(max(0, duration.saturatedNanoseconds))
      pending.event = world.schedule(after: span) { pending.finish(0) }
    case .close(let descriptor): close(pending, descriptor)
    case .listen(let address, let backlog, let outcome):
      listen(pending, address, backlog, outcome)
    case .accept(let descriptor, let outcome): accept(pending, descriptor, outcome)
    case .connect(let address): world.network.connect(pending, to: address)
    case .receive(let descriptor, let slice, let waitForAll):
      receive(pending, descriptor, slice, waitForAll)
    case .receiveAny(let descriptor, let outcome): receiveAny(pending, descriptor, outcome)
    case .send(let descriptor, let slices): send(pending, descriptor, slices)
    case .shutdown(let descriptor): shutdown(pending, descriptor)
    case .waitForSignal:
      // No signal ever comes; only cancelling ends it.
      return
    case .open, .read, .write, .writeDurably, .synchronize, .allocate, .truncate, .lock, .status,
      .fileStatus, .list,
      .makeDirectory, .remove, .rename, .makeSymbolicLink, .readSymbolicLink, .setAttributes,
      .space, .fileSystem:
      dispatchToDisk(pending)
    default: refuseUnknown(pending)
    }
  }

  /// The simulation has no such thing: never a silent success.
  func refuseUnknown(_ pending: PendingOperation) {
    world.noteUnsupported(pending.operation.name)
    pending.decide(-ENOSYS)
  }

  private func close(_ pending: PendingOperation, _ descriptor: Int32) {
    guard let open = descriptors.remove(descriptor) else {
      return pending.decide(-EBADF)
    }
    switch open {
    case .file(let file): file.close()
    case .listener(let listener): listener.close()
    case .endpoint(let endpoint): endpoint.close()
    }
    pending.decide(0, after: chance.within(500...5_000))
  }
}
