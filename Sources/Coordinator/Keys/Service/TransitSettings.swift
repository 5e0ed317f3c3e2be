package import HTTP
package import Wire

/// Where a HashiCorp Vault or an OpenBao is, and which of its transit keys wraps.
package struct TransitSettings: Sendable {
  /// https.
  package var endpoint: HTTPEndpoint
  package var trust: TLSTrust
  /// A file that holds the token, read at each request; see ``Driver/readSecret(_:limit:)``.
  package var tokenFile: String
  package var namespace: String?
  /// The path at which the transit engine is mounted.
  package var mount: String
  package var key: String
  /// For all of a wrapping, attempts and pauses included.
  package var deadline = Duration.seconds(10)

  package init(
    endpoint: HTTPEndpoint, trust: TLSTrust, tokenFile: String, namespace: String? = nil,
    mount: String, key: String
  ) {
    precondition(endpoint.isSecure)
    self.endpoint = endpoint
    self.trust = trust
    self.tokenFile = tokenFile
    self.namespace = namespace
    self.mount = mount
    self.key = key
  }

  /// As ``KeyFile/isName(_:)``, and no dot or hyphen at an end: it is part of a path.
  package static func isKeyName(_ text: String) -> Bool {
    func isEnd(_ byte: UInt8?) -> Bool { byte == UInt8(ascii: ".") || byte == UInt8(ascii: "-") }
    return KeyFile.isName(text) && !isEnd(text.utf8.first) && !isEnd(text.utf8.last)
  }

  /// Names of that kind, with slashes between.
  package static func isPath(_ text: String) -> Bool {
    text.utf8.count <= 256
      && text.split(separator: "/", omittingEmptySubsequences: false).allSatisfy {
        isKeyName(String($0))
      }
  }
}
