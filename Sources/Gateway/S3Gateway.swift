import HTTP
package import Ring
package import Service

/// S3 over HTTP on an object backend. Loop-confined.
///
/// - `S3/S3Service.swift`: from a request to its operation; `+Buckets`, `+Objects`, `+Listing` are the operations,
///   `+Parts` and `+PartListing` those of objects that come in parts
/// - `S3/S3Request`, `S3Error`, `XMLText`, `XMLTree`, `URLCoding`: what S3 reads and writes
/// - `S3/SignatureV4`, `ChunkedPayload`, `BodySource`: who asks, and whether the bytes are what was said
/// - `Backends/`: where objects are kept
package final class S3Gateway: @unchecked Sendable {
  // Loop-confined.
  private let service: S3Service
  private let server: HTTPServer
  private let backend: any ObjectBackend
  private let configuration: GatewayConfiguration

  package init(
    _ configuration: GatewayConfiguration, backend: any ObjectBackend, driver: any Driver, log: Log
  ) {
    self.configuration = configuration
    self.backend = backend
    service = S3Service(configuration, backend: backend, driver: driver, log: log)
    server = HTTPServer(driver: driver, limits: configuration.server, handler: service)
  }

  /// - Returns: the address with its real port, where the configuration says 0.
  package func start() async throws(RingError) -> SocketAddress {
    try await server.start(on: configuration.listen)
  }

  /// Lets requests under way end, then the backend.
  package func stop() async {
    await server.stop()
    await backend.close()
  }
}
