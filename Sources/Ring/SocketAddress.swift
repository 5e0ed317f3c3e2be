/// A numeric IPv4 or IPv6 address, or a host name still to be resolved, and a TCP port.
package struct SocketAddress: Sendable, Hashable, CustomStringConvertible {
  package var host: String
  package var port: UInt16

  package init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Reads "host:port", "1.2.3.4:5" or "[::1]:5"; nil when it is neither.
  package init?(_ text: String) {
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("[") && host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty else { return nil }
    self.init(host: String(host), port: port)
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// 127.0.0.0/8 or ::1.
  package var isLoopback: Bool { host.hasPrefix("127.") || host == "::1" || host == "localhost" }
}
