import HTTP
package import Ring
package import Service
import Wire

/// S3 over HTTP on an object backend. Loop-confined.
///
/// - `S3/S3Service.swift`: from a request to its operation; `+Buckets`, `+Objects`, `+Listing` are the operations,
///   `+Parts` and `+PartListing` those of objects that come in parts
/// - `S3/S3Request`, `S3Error`, `XMLText`, `XMLTree`, `URLCoding`: what S3 reads and writes
/// - `S3/SignatureV4`, `ChunkedPayload`, `BodySource`: who asks, and whether the bytes are what was said
/// - `Access/Gatekeeper`: who may do what; `PolicyDocument`, `PolicyReader`, `PolicyPattern`, `PolicyCondition`: policies;
///   `S3Action`: which right each operation needs; `S3/S3Service+Access`, `+BucketAccess`: asked of each request, and set
/// - `Notifications/`: who is told of writes; `NotificationRules`: the rules of a bucket, `NotificationTarget` and
///   `NotificationJournal`: what waits to be delivered
/// - `Transitions/`: moves versions to the classes that rules say
/// - `Backends/`: where objects are kept
package final class S3Gateway: @unchecked Sendable {
  // Loop-confined.
  private let service: S3Service
  private let server: HTTPServer
  private let backend: any ObjectBackend
  private let configuration: GatewayConfiguration
  private let certificate: ServerCertificate?
  private let transitions: TransitionWorker?

  /// - Parameters:
  ///   - certificate: for HTTPS; nil for HTTP.
  ///   - targets: whom buckets may have told of writes; the gateway ends them.
  package init(
    _ configuration: GatewayConfiguration, backend: any ObjectBackend, driver: any Driver, log: Log,
    certificate: ServerCertificate? = nil, targets: [NotificationTarget] = []
  ) {
    self.certificate = certificate
    self.configuration = configuration
    self.backend = backend
    transitions =
      if let cluster = backend as? ClusterBackend, let rate = configuration.transitionRate {
        TransitionWorker(cluster, rate: rate, driver: driver, log: log)
      } else {
        nil
      }
    service = S3Service(configuration, backend: backend, driver: driver, log: log, targets: targets)
    var secure: (@Sendable (Connection) -> any ByteStream)?
    if let certificate { secure = { certificate.secure($0) } }
    server = HTTPServer(
      driver: driver, limits: configuration.server, handler: service, secure: secure)
  }

  /// - Returns: the address with its real port, where the configuration says 0.
  package func start() async throws(RingError) -> SocketAddress {
    let address = try await server.start(on: configuration.listen)
    certificate?.start()
    transitions?.start()
    return address
  }

  /// What a backend's error comes to, for people.
  package static func words(_ error: BackendError) -> String { S3Error(backend: error).message }

  /// Lets requests under way end, then the backend.
  package func stop() async {
    await server.stop()
    await transitions?.stop()
    await service.notifier.stop()
    await certificate?.stop()
    await backend.close()
  }
}
