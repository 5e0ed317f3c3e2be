import Glibc
package import Ring

/// An etcd of one member on loopback, as `scripts/install-deps` installs it. Its data is gone when the folder is.
package final class RealEtcd: @unchecked Sendable {
  // Loop-confined.
  package struct Failure: Error, CustomStringConvertible {
    package let description: String
    package init(description: String) { self.description = description }
  }

  private let driver: any Driver
  private let folder: String
  private let tls: [String]
  package let port: UInt16
  private let peerPort: UInt16
  private var pid: Int32?
  private let host: String

  /// - Parameters:
  ///   - folder: where its data and its log are.
  ///   - tls: options that make it a server with certificates.
  package init(driver: any Driver, folder: String, tls: [String] = []) async throws {
    self.driver = driver
    self.folder = folder
    self.tls = tls
    host = (tls.isEmpty ? "http" : "https") + "://127.0.0.1"
    port = try await Self.freePort(driver)
    peerPort = try await Self.freePort(driver)
    try await start()
  }

  /// Below the ports that the kernel gives to outgoing connections.
  private static func freePort(_ driver: any Driver) async throws -> UInt16 {
    for _ in 0..<100 {
      let port = UInt16(20_000 + driver.random() % 12_000)
      if let listener = try? await Listener.listen(
        on: SocketAddress(host: "127.0.0.1", port: port), driver: driver)
      {
        await listener.close()
        return port
      }
    }
    throw Failure(description: "no free port")
  }

  package func start() async throws {
    let path = ["/usr/bin/etcd", "/usr/local/bin/etcd"].first { (path: String) in
      access(path, X_OK) == 0
    }
    guard let path else {
      throw Failure(description: "etcd is not installed: scripts/install-deps does it")
    }
    let outcome = Outcome<Int32>()
    _ = try await driver.perform(
      .spawnProcess(
        ProcessLaunch(
          executable: path,
          arguments: [
            "--name", "e", "--data-dir", folder + "/etcd", "--listen-client-urls",
            "\(host):\(port)",
            "--advertise-client-urls", "\(host):\(port)",
            "--listen-peer-urls", "http://127.0.0.1:\(peerPort)",
            "--initial-advertise-peer-urls", "http://127.0.0.1:\(peerPort)",
            "--initial-cluster", "e=http://127.0.0.1:\(peerPort)", "--logger", "zap",
          ] + tls, logPath: folder + "/etcd.log"), outcome), "start", path)
    pid = outcome.value
    // It answers when it listens.
    for _ in 0..<1000 {
      if let connection = try? await Connection.connect(
        to: SocketAddress(host: "127.0.0.1", port: port), on: driver)
      {
        await connection.close()
        return
      }
      await driver.sleep(.milliseconds(20))
    }
    throw Failure(description: "etcd does not listen; see \(folder)/etcd.log")
  }

  package func signal(_ number: Int32) async {
    guard let pid else { return }
    _ = await driver.submit(.signalProcess(pid: pid, signal: number))
  }

  /// SIGKILL; returns when it is gone.
  package func kill() async {
    guard let pid else { return }
    await signal(SIGKILL)
    _ = await driver.submit(.waitForProcess(pid: pid))
    self.pid = nil
  }

  /// As if its disk was lost; it has to be killed before.
  package func wipe() {
    _ = rename(folder + "/etcd", folder + "/etcd.lost.\(driver.random())")
  }
}
