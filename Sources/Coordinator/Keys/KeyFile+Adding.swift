import Glibc
package import Ring
import Service

/// A new master key in a file that others may be reading, or adding to.
extension KeyFile {
  /// Adds a key to the end of a file, one process at a time, and syncs it. The file is made, with mode 0600, when it is not
  /// there; it is reached through links and stays whose it is, so that who can read it still can.
  ///
  /// - Throws: also when the file is none of keys, has one of that name, or everybody may read it; then nothing is added.
  package static func add(
    _ name: String, _ secret: [UInt8], to path: String, on driver: any Driver
  ) async throws(KeyProviderError) {
    let outcome: Result<Void, KeyProviderError>
    do throws(RingError) {
      let file = try await File.open(path, O_RDWR | O_CREAT, mode: 0o600, on: driver)
      do throws(RingError) {
        outcome = try await add(name, secret, to: file)
        await file.close()
      } catch {
        await file.close()
        throw error
      }
    } catch {
      throw .unavailable("\(path): \(error.reason)")
    }
    try outcome.get()
  }

  private static func add(_ name: String, _ secret: [UInt8], to file: File)
    async throws(RingError) -> Result<Void, KeyProviderError>
  {
    let driver = file.driver
    var attempts = 0
    while try await !file.lock() {
      attempts += 1
      guard attempts < 500, await driver.sleep(.milliseconds(10)) else {
        return .failure(.unavailable("\(file.path): another process adds a key"))
      }
    }
    let held: [UInt8]
    do throws(SecretFileError) {
      held = try await driver.readSecret(file.path, limit: byteLimit)
    } catch {
      return .failure(.unavailable("\(error.reason("the master keys")): \(file.path)"))
    }
    var added = Array(line(name, secret).utf8)
    if let last = held.last, last != UInt8(ascii: "\n") { added.insert(UInt8(ascii: "\n"), at: 0) }
    do throws(KeyProviderError) {
      _ = try parse(held + added, file.path)
    } catch {
      return .failure(error)
    }
    try await file.write([Slice(copying: added)], at: UInt64(held.count))
    try await file.synchronize(dataOnly: false)
    if held.isEmpty { try await driver.synchronizeEntry(of: file.path) }
    return .success(())
  }
}
