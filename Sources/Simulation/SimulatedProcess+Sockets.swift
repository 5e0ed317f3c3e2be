import Glibc
internal import Ring

extension SimulatedProcess {
  private func endpoint(_ descriptor: Int32) throws(Refusal) -> Endpoint {
    switch descriptors[descriptor] {
    case .endpoint(let endpoint): return endpoint
    case .none: throw Refusal(EBADF)
    default: throw Refusal(ENOTSOCK)
    }
  }

  func listen(
    _ pending: PendingOperation, _ address: SocketAddress, _ backlog: Int32,
    _ outcome: Outcome<SocketAddress>
  ) {
    let delay = chance.within(2_000...20_000)
    do throws(Refusal) {
      let listener = try world.network.listen(self, address, backlog: Int(backlog))
      outcome.value = SocketAddress(host: address.host, port: listener.port)
      pending.decide(addDescriptor(.listener(listener)), after: delay)
    } catch {
      pending.decide(-error.errno, after: delay)
    }
  }

  func accept(
    _ pending: PendingOperation, _ descriptor: Int32, _ outcome: Outcome<SocketAddress>
  ) {
    switch descriptors[descriptor] {
    case .listener(let listener): listener.accept(pending, outcome)
    case .endpoint: pending.decide(-EINVAL)
    case .file: pending.decide(-ENOTSOCK)
    case nil: pending.decide(-EBADF)
    }
  }

  func receive(_ pending: PendingOperation, _ descriptor: Int32, _ slice: Slice, _ all: Bool) {
    do throws(Refusal) {
      try endpoint(descriptor).receive(pending, slice, waitForAll: all)
    } catch {
      pending.decide(-error.errno)
    }
  }

  func receiveAny(
    _ pending: PendingOperation, _ descriptor: Int32, _ outcome: Outcome<Slice>
  ) {
    do throws(Refusal) {
      try endpoint(descriptor).receive(pending, buffers.slice(4096), waitForAll: false, outcome)
    } catch {
      pending.decide(-error.errno)
    }
  }

  func send(_ pending: PendingOperation, _ descriptor: Int32, _ slices: [Slice]) {
    do throws(Refusal) {
      try endpoint(descriptor).send(pending, slices)
    } catch {
      pending.decide(-error.errno)
    }
  }

  func shutdown(_ pending: PendingOperation, _ descriptor: Int32) {
    switch descriptors[descriptor] {
    case .endpoint(let endpoint): pending.decide(endpoint.shutdown())
    case .listener(let listener):
      listener.shutdown()
      pending.decide(0)
    case .file: pending.decide(-ENOTSOCK)
    case nil: pending.decide(-EBADF)
    }
  }
}
