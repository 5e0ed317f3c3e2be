import Glibc

/// A TCP connection. Loop-confined. Close it once, after which nobody may use it.
package final class Connection: Sendable {
  package let driver: any Driver
  package let descriptor: Int32
  package let peer: SocketAddress

  package init(driver: any Driver, descriptor: Int32, peer: SocketAddress) {
    self.driver = driver
    self.descriptor = descriptor
    self.peer = peer
  }

  package static func connect(to address: SocketAddress, on driver: any Driver)
    async throws(RingError) -> Connection
  {
    let descriptor = try await driver.perform(.connect(address), "connect", address.description)
    return Connection(driver: driver, descriptor: Int32(descriptor), peer: address)
  }

  /// Up to `slice.count` bytes, or all of them when `waitForAll`; fewer only at the stream's end.
  package func receive(into slice: Slice, waitForAll: Bool = false) async throws(RingError) -> Int {
    var done = 0
    while done < slice.count {
      let count = try await driver.perform(
        .receive(
          descriptor: descriptor, into: slice[done..<slice.count], waitForAll: waitForAll),
        "receive", peer.description)
      done += count
      if count == 0 || !waitForAll { break }
    }
    return done
  }

  /// What has come, at most 4 KiB; empty at the stream's end. Holds no memory while it waits.
  package func receive() async throws(RingError) -> Slice {
    let outcome = Outcome<Slice>()
    try await driver.perform(
      .receiveAny(descriptor: descriptor, outcome), "receive", peer.description)
    return outcome.value ?? .none
  }

  /// Sends all of `slices`, in order.
  package func send(_ slices: [Slice]) async throws(RingError) {
    var rest = slices.filter { $0.count > 0 }
    while !rest.isEmpty {
      var count = try await driver.perform(
        .send(descriptor: descriptor, from: rest), "send", peer.description)
      while let first = rest.first, count >= first.count {
        count -= first.count
        rest.removeFirst()
      }
      if count > 0, let first = rest.first { rest[0] = first[count..<first.count] }
    }
  }

  /// Ends both directions and wakes whoever waits, who then sees the end of the stream or an error.
  package func shutdown() async { _ = await driver.submit(.shutdown(descriptor: descriptor)) }
  package func close() async { _ = await driver.submit(.close(descriptor: descriptor)) }
}

/// A listening TCP socket.
package final class Listener: Sendable {
  package let driver: any Driver
  package let descriptor: Int32
  /// Where it really listens: port 0 has become a real one.
  package let address: SocketAddress

  private init(driver: any Driver, descriptor: Int32, address: SocketAddress) {
    self.driver = driver
    self.descriptor = descriptor
    self.address = address
  }

  package static func listen(on address: SocketAddress, backlog: Int32 = 1024, driver: any Driver)
    async throws(RingError) -> Listener
  {
    let outcome = Outcome<SocketAddress>()
    let descriptor = try await driver.perform(
      .listen(address, backlog: backlog, outcome), "listen", address.description)
    return Listener(
      driver: driver, descriptor: Int32(descriptor), address: outcome.value ?? address)
  }

  package func accept() async throws(RingError) -> Connection {
    let outcome = Outcome<SocketAddress>()
    let accepted = try await driver.perform(
      .accept(descriptor: descriptor, outcome), "accept", address.description)
    return Connection(driver: driver, descriptor: Int32(accepted), peer: outcome.value ?? address)
  }

  package func close() async { _ = await driver.submit(.close(descriptor: descriptor)) }
}
