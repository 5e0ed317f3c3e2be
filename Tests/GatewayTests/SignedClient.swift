import Coding
import HTTP
import Messages
import Ring
import Service
import Simulation
import Wire

@testable import Gateway

/// Asks a gateway on a simulated machine, signing as a client does.
struct SignedClient {
  let driver: any Driver
  let client: HTTPClient
  /// Nil: does not sign.
  var key: AccessKey?

  struct Answer {
    var status: Int
    var text: String
    var fields: HTTPFields
    /// Of an error's document.
    var code: String? {
      guard let start = text.firstRange(of: "<Code>"), let end = text.firstRange(of: "</Code>")
      else { return nil }
      return String(text[start.upperBound..<end.lowerBound])
    }
  }

  func signing(_ key: AccessKey?) -> SignedClient {
    var copy = self
    copy.key = key
    return copy
  }

  func send(
    _ method: String, _ target: String, _ more: [(String, String)] = [], body: String = "",
    date: Duration? = nil
  ) async throws -> Answer {
    var fields = HTTPFields()
    for (name, value) in more { fields.add(name, value) }
    if let key {
      guard
        let signed = S3Signer(key, region: "us-east-1").fields(
          method, target, fields, host: client.endpoint.address.description,
          payload: hexText(RunningDigest.of(Array(body.utf8), .sha256)),
          now: date ?? driver.wallClock)
      else { throw HTTPError.cancelled }
      fields = signed
    }
    let answer = try await client.send(
      HTTPRequest(method, target, fields: fields, body: Array(body.utf8), isRepeatable: true),
      deadline: .seconds(60))
    return Answer(
      status: answer.status, text: String(decoding: answer.body, as: UTF8.self),
      fields: answer.head.fields)
  }

  /// The status, and the code where there is one: "200", "403 AccessDenied".
  func outcome(
    _ method: String, _ target: String, _ more: [(String, String)] = [], body: String = ""
  ) async throws -> String {
    let answer = try await send(method, target, more, body: body)
    return ([String(answer.status)] + (answer.code.map { [$0] } ?? [])).joined(separator: " ")
  }
}

/// A gateway in front of a backend, and one whose key is in its configuration.
enum TestGateway {
  static let root = AccessKey(name: "ROOTROOTROOTROOTROOT", secret: "root's secret")

  /// - Parameters:
  ///   - host: the name of its machine.
  ///   - targets: whom it may tell of writes.
  ///   - isSecure: by HTTPS; the machine is then called "gateway".
  static func start(
    _ world: SimulatedWorld, _ backend: any ObjectBackend, host: String = "s3",
    targets: [NotificationTarget.Configuration] = [], isSecure: Bool = false
  ) async throws -> (gateway: S3Gateway, root: SignedClient) {
    let process = world.process(host)
    let log = Log(driver: process, level: .error)
    var opened: [NotificationTarget] = []
    for target in targets {
      opened.append(try await NotificationTarget.open(target, on: process, log: log))
    }
    var certificate: ServerCertificate?
    if isSecure {
      let (chain, key) = TestCertificate.first
      try await process.replaceFile("/chain.pem", with: chain)
      try await process.replaceFile("/key.pem", with: key)
      certificate = try await ServerCertificate.load(
        chain: "/chain.pem", key: "/key.pem", on: process, log: log)
    }
    let gateway = S3Gateway(
      GatewayConfiguration(
        name: host, listen: SocketAddress(host: host, port: 9000), keys: [root]),
      backend: backend, driver: process, log: log, certificate: certificate,
      targets: opened)
    let address = try await gateway.start()
    let driver = world.process("client of \(host)")
    let client = HTTPClient(
      driver: driver, endpoint: HTTPEndpoint(address: address, isSecure: isSecure),
      trust: isSecure
        ? try TLSTrust(authorities: TestCertificate.first.chain, driver: driver) : nil)
    return (gateway, SignedClient(driver: driver, client: client, key: root))
  }
}
