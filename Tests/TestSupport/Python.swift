import Foundation

/// Whether Python has AES-GCM: `scripts/install-deps` installs it, for servers that tests ask.
package let pythonHasCryptography = { () -> Bool in
  let python = Process()
  python.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  python.arguments = ["python3", "-c", "import cryptography"]
  python.standardError = FileHandle.nullDevice
  guard (try? python.run()) != nil else { return false }
  python.waitUntilExit()
  return python.terminationStatus == 0
}()
