import Coding
package import Ring
package import Service
import Wire

/// The gateway's certificate and key, from files that may be replaced while it runs: they are looked at every few seconds. Of a pair
/// that cannot be used the log has one line, and the one before stays. Loop-confined.
package final class ServerCertificate: @unchecked Sendable {
  // Loop-confined.
  package struct Failure: Error {
    package var reason: String
    package var path: String
  }

  private let driver: any Driver
  private let log: Log
  private let chainPath: String
  private let keyPath: String
  /// What connections that are accepted now are secured with.
  private(set) var current: TLSCertificate
  private var loaded: [UInt8]
  /// What the files had at the last look, when that was something else.
  private var seen: [UInt8]?
  private var hasComplained = false
  private var watch: SpawnedTask?

  static let interval = Duration.seconds(3)
  private static let fileByteLimit = 1 << 20

  private init(
    _ chainPath: String, _ keyPath: String, _ driver: any Driver, _ log: Log,
    _ current: TLSCertificate, _ loaded: [UInt8]
  ) {
    self.chainPath = chainPath
    self.keyPath = keyPath
    self.driver = driver
    self.log = log
    self.current = current
    self.loaded = loaded
  }

  /// - Parameters:
  ///   - chain: a file with PEM of the certificate and those up to its authority.
  ///   - key: a file with PEM of its key, not encrypted.
  package static func load(chain: String, key: String, on driver: any Driver, log: Log)
    async throws(Failure) -> ServerCertificate
  {
    let pair = try await read(chain, key, driver)
    let certificate = try make(pair, chain)
    return ServerCertificate(chain, key, driver, log, certificate, name(pair))
  }

  private typealias Pair = (chain: [UInt8], key: [UInt8])

  private static func read(_ chain: String, _ key: String, _ driver: any Driver)
    async throws(Failure) -> Pair
  {
    let found: [UInt8]
    do throws(RingError) {
      found = try await driver.readFile(chain, limit: fileByteLimit)
    } catch {
      throw Failure(reason: "cannot be read: \(error.reason)", path: chain)
    }
    do throws(SecretFileError) {
      return (found, try await driver.readSecret(key, limit: fileByteLimit))
    } catch {
      throw Failure(reason: error.reason("its key"), path: key)
    }
  }

  private static func make(_ pair: Pair, _ path: String) throws(Failure) -> TLSCertificate {
    do throws(TLSTrust.Failure) {
      return try TLSCertificate(chain: pair.chain, key: pair.key)
    } catch {
      throw Failure(reason: error.reason, path: path)
    }
  }

  /// Another one when either of them is.
  private static func name(_ pair: Pair) -> [UInt8] {
    Fingerprint(of: pair.chain).bytes + Fingerprint(of: pair.key).bytes
  }

  func secure(_ connection: Connection) -> any ByteStream {
    TLSStream(PlainStream(connection), context: current, pool: driver.buffers)
  }

  func start() {
    watch = driver.spawn("certificate") { [self] in
      while await driver.sleep(Self.interval) { await look() }
    }
  }

  func stop() async {
    watch?.cancel()
    await watch?.wait()
  }

  private func look() async {
    do throws(Failure) {
      let pair = try await Self.read(chainPath, keyPath, driver)
      let name = Self.name(pair)
      if name == loaded {
        seen = nil
        hasComplained = false
        return
      }
      // Both files at once they cannot be replaced: what counts is what stays.
      guard name == seen else {
        seen = name
        hasComplained = false
        return
      }
      if hasComplained { return }
      current = try Self.make(pair, chainPath)
      loaded = name
      seen = nil
      log.info("another certificate is used", ["file": chainPath])
    } catch {
      if hasComplained { return }
      hasComplained = true
      log.warning(
        "the new certificate cannot be used, the one before stays",
        ["file": error.path, "reason": error.reason])
    }
  }
}
