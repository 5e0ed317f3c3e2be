import HTTP
import Messages
import Ring
import Service
import Simulation
import TestSupport
import Testing
import Wire

@testable import Gateway

/// Two certificates for "gateway", each its own authority, from 2020 to 2120.
enum TestCertificate {
  static let first = (
    chain: """
    -----BEGIN CERTIFICATE-----
    MIIBXTCCAQOgAwIBAgIUY9NObyjpv+g6iMDw5JTnkrYUwQMwCgYIKoZIzj0EAwIw
    EjEQMA4GA1UEAwwHZ2F0ZXdheTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAw
    MDAwMFowEjEQMA4GA1UEAwwHZ2F0ZXdheTBZMBMGByqGSM49AgEGCCqGSM49AwEH
    A0IABF8F+oqlEJ9P1rHlOvGcR8Nj41VFw1dn4YkBCvQBXqCRmgRbB5OhQpktzhDr
    IiknRwBOKU89BPy+oX42+dk0Q5ejNTAzMBIGA1UdEQQLMAmCB2dhdGV3YXkwHQYD
    VR0OBBYEFNjRxhzfv3bBkpPLAPVNMmmcvUlsMAoGCCqGSM49BAMCA0gAMEUCIQCx
    Y6+QUY6wcU3L9t11D8xusigayZQGrj3ZwpriwnJ5vAIgM5ZUg7Bsic42m/cXvk8O
    JL/a2blehFw3PF/q2NykaVk=
    -----END CERTIFICATE-----

    """.bytes,
    key: """
    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgQKFC8bkB/rg0xqyK
    GtYcErNV9SeVEXyjESwKHzVmIQGhRANCAARfBfqKpRCfT9ax5TrxnEfDY+NVRcNX
    Z+GJAQr0AV6gkZoEWweToUKZLc4Q6yIpJ0cATilPPQT8vqF+NvnZNEOX
    -----END PRIVATE KEY-----

    """.bytes
  )
  static let second = (
    chain: """
    -----BEGIN CERTIFICATE-----
    MIIBXDCCAQOgAwIBAgIUU0J7wQB+1F9BZtE0Y8Y64Riov74wCgYIKoZIzj0EAwIw
    EjEQMA4GA1UEAwwHZ2F0ZXdheTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAw
    MDAwMFowEjEQMA4GA1UEAwwHZ2F0ZXdheTBZMBMGByqGSM49AgEGCCqGSM49AwEH
    A0IABGlggTCuuIe1gWRfcgOR1XiOo91eRWJkuZduYcLG/Sg2X0q/XbMvc1FhsDKO
    lHX2zgnUAq7m6UphlJxIji/ei7ajNTAzMBIGA1UdEQQLMAmCB2dhdGV3YXkwHQYD
    VR0OBBYEFLZt1I3vRXGv93SyhrmuSL/Lmkh7MAoGCCqGSM49BAMCA0cAMEQCIDh7
    W5W+VcazhuUBL/tH+KUzFdu8Xnb/2l/aeiihN/OpAiBRwqjT/voAaxysDj/KTtGa
    VTqL0+q5ajDeoUPAvxooXA==
    -----END CERTIFICATE-----

    """.bytes,
    key: """
    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgC25J90Nji8q1zBAV
    LkZXBjWs34umCg3ikLTB/QVLmYOhRANCAARpYIEwrriHtYFkX3IDkdV4jqPdXkVi
    ZLmXbmHCxv0oNl9Kv12zL3NRYbAyjpR19s4J1AKu5ulKYZScSI4v3ou2
    -----END PRIVATE KEY-----

    """.bytes
  )
}

extension String {
  fileprivate var bytes: [UInt8] { Array(utf8) }
}

@Suite("TLS at the gateway") struct CertificateTests {
  private static let chain = "/etc/chain.pem"
  private static let key = "/etc/key.pem"

  /// A gateway with the first pair, and a client's way to ask it that believes `authority`.
  private func run(
    _ body:
      @escaping @Sendable (
        SimulatedProcess, @escaping @Sendable (_ authority: [UInt8]) async -> Int?
      ) async throws -> Void
  ) throws {
    try SimulatedWorld.run(seed: 1) { world in
      let process = world.process("gateway")
      try await process.makeDirectories("/etc")
      try await process.replaceFile(Self.chain, with: TestCertificate.first.chain)
      try await process.replaceFile(Self.key, with: TestCertificate.first.key)
      let log = Log(driver: process, level: .error)
      let certificate = try await ServerCertificate.load(
        chain: Self.chain, key: Self.key, on: process, log: log)
      let gateway = S3Gateway(
        GatewayConfiguration(
          name: "gateway", listen: SocketAddress(host: "gateway", port: 9000),
          keys: [TestGateway.root]),
        backend: try await FilesystemBackend.open("/base", on: process), driver: process, log: log,
        certificate: certificate)
      let address = try await gateway.start()
      let driver = world.process("client")
      try await body(process) { authority in
        let client = HTTPClient(
          driver: driver, endpoint: HTTPEndpoint(address: address, isSecure: true),
          trust: try? TLSTrust(authorities: authority, driver: driver))
        let status = try? await client.send(
          HTTPRequest("GET", "/", isRepeatable: true), deadline: .seconds(10)
        ).status
        await client.close()
        return status
      }
      await gateway.stop()
    }
  }

  @Test("clients that believe its certificate are answered, others are not")
  func trust() throws {
    try run { _, ask in
      #expect(await ask(TestCertificate.first.chain) == 403)
      #expect(await ask(TestCertificate.second.chain) == nil)
    }
  }

  @Test("another pair is taken without a restart; half of one, or none, leaves what there was")
  func reload() throws {
    try run { process, ask in
      let looks = ServerCertificate.interval * 3
      try await process.replaceFile(Self.chain, with: TestCertificate.second.chain)
      await process.sleep(looks)
      #expect(await ask(TestCertificate.first.chain) == 403)
      try await process.replaceFile(Self.key, with: "nothing".bytes)
      await process.sleep(looks)
      #expect(await ask(TestCertificate.first.chain) == 403)
      try await process.remove(Self.key)
      await process.sleep(looks)
      #expect(await ask(TestCertificate.first.chain) == 403)
      try await process.replaceFile(Self.key, with: TestCertificate.second.key)
      await process.sleep(looks)
      #expect(await ask(TestCertificate.second.chain) == 403)
      #expect(await ask(TestCertificate.first.chain) == nil)
    }
  }

  @Test("who is slow with the handshake, or speaks something else, is cut off")
  func slow() throws {
    try run { process, ask in
      for greeting in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n".bytes, [22, 3, 1],
        [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3],
      ] {
        let connection = try await Connection.connect(
          to: SocketAddress(host: "gateway", port: 9000), on: process)
        let stream = PlainStream(connection)
        try await stream.send([Slice(copying: greeting)])
        let begun = process.now
        // An alert may come first; then the end.
        while let count = try? await stream.receive().count, count > 0 {}
        #expect(process.now - begun < .seconds(25))
        await connection.close()
      }
      #expect(await ask(TestCertificate.first.chain) == 403)
    }
  }
}
