import Coding
import Glibc
import HTTP
import Metadata
import Ring
import Service
import TestSupport
import Testing
import Wire

@testable import Coordinator

/// The etcd that is installed, not a model of it.
@Suite("The etcd arbiter and a real etcd", .serialized)
struct RealEtcdTests {
  static let timing = LeaseTiming(
    duration: .milliseconds(1000), renewInterval: .milliseconds(300), margin: .milliseconds(150))

  static func endpoint(_ port: UInt16, isSecure: Bool = false) -> HTTPEndpoint {
    HTTPEndpoint(address: SocketAddress(host: "127.0.0.1", port: port), isSecure: isSecure)
  }

  static func contract(_ driver: any Driver, _ configuration: EtcdConfiguration) -> ArbiterContract
  {
    ArbiterContract(
      driver: driver, nodes: AgreeableNodes(count: 3), timing: timing,
      make: { EtcdArbiter($0, configuration) })
  }

  /// On a loop of its own, with a folder and an etcd that go afterwards.
  static func with(
    tls: [String] = [],
    _ body: @escaping @Sendable (any Driver, String, RealEtcd) async throws -> Void
  ) async throws {
    try await withTemporaryFolder { folder in
      try await onLoop { driver in
        await Result {
          let etcd = try await RealEtcd(driver: driver, folder: folder, tls: tls)
          do {
            try await body(driver, folder, etcd)
            await etcd.kill()
          } catch {
            await etcd.kill()
            throw error
          }
        }
      }.get()
    }
  }

  @Test("keeps what an arbiter promises")
  func contract() async throws {
    try await Self.with { driver, _, etcd in
      // The first endpoint is nobody's.
      try await Self.contract(
        driver,
        EtcdConfiguration(
          endpoints: [Self.endpoint(1), Self.endpoint(etcd.port)], prefix: "cairn/one")
      ).run()
    }
  }

  @Test(
    "is away for a while, and comes back empty: the lead is lost and won again, the root with it")
  func lost() async throws {
    try await Self.with { driver, _, etcd in
      let contract = Self.contract(
        driver, EtcdConfiguration(endpoints: [Self.endpoint(etcd.port)], prefix: "cairn"))
      let arbiter = contract.arbiter("a")
      let first = try await arbiter.acquire()
      try await arbiter.swap(in: first.epoch) { _ in contract.root(0) }
      try await arbiter.swap(in: first.epoch) { _ in contract.root(1) }
      let root = arbiter.root
      // It is slow, as one whose disk is: the lease lasts meanwhile, and no longer.
      await etcd.signal(SIGSTOP)
      #expect(arbiter.isHeld)
      #expect(await arbiter.waitForLoss() == .expired)
      await etcd.signal(SIGCONT)
      let second = try await arbiter.acquire()
      #expect(second.epoch > first.epoch && second.root == root)
      // Its disk is lost.
      await etcd.kill()
      etcd.wipe()
      #expect(await arbiter.waitForLoss() == .expired)
      let third = Promise<Term?>()
      driver.spawn("acquire") { third.fulfil(try? await arbiter.acquire()) }
      await driver.sleep(.milliseconds(300))
      #expect(arbiter.detail.contains("etcd cannot be asked"), "\(arbiter.detail)")
      try await etcd.start()
      let term = try #require(await third.get())
      #expect(term.epoch > second.epoch && term.root == root)
      try await arbiter.swap(in: term.epoch) { $0! }
      await arbiter.release()
    }
  }

  @Test("two clusters with one prefix: the second is refused")
  func foreign() async throws {
    try await Self.with { driver, _, etcd in
      let configuration = EtcdConfiguration(
        endpoints: [Self.endpoint(etcd.port)], prefix: "cairn")
      let contract = Self.contract(driver, configuration)
      let arbiter = contract.arbiter("a")
      _ = try await arbiter.acquire()
      let other = EtcdArbiter(contract.site("b", key: 2), configuration)
      let error = await #expect(throws: ArbiterError.self) { try await other.acquire() }
      guard case .foreign(let why) = error else { throw TestFailure("\(error!)") }
      #expect(why.contains("give each cluster a prefix of its own"))
      #expect(arbiter.isHeld)
      await arbiter.release()
    }
  }

  @Test("wants a user: the right password leads, a wrong one and none are told")
  func authentication() async throws {
    try await Self.with { driver, _, etcd in
      let admin = HTTPClient(driver: driver, endpoint: Self.endpoint(etcd.port), trust: nil)
      func post(_ path: String, _ body: String) async throws {
        let answer = try await admin.send(
          HTTPRequest("POST", path, body: Array(body.utf8), isRepeatable: true),
          deadline: .seconds(5))
        try #require(
          answer.status == 200, "\(path): \(String(decoding: answer.body, as: UTF8.self))")
      }
      let first = Base64.encode(Array("cairn/".utf8))
      let last = Base64.encode(Array("cairn0".utf8))
      for user in ["root", "cairn"] {
        try await post("/v3/auth/user/add", #"{"name":"\#(user)","password":"secret"}"#)
        try await post("/v3/auth/role/add", #"{"name":"\#(user)"}"#)
        try await post("/v3/auth/user/grant", #"{"user":"\#(user)","role":"\#(user)"}"#)
      }
      // Its own keys and no more.
      try await post(
        "/v3/auth/role/grant",
        #"{"name":"cairn","perm":{"permType":"READWRITE","key":"\#(first)","range_end":"\#(last)"}}"#
      )
      try await post("/v3/auth/enable", "{}")
      await admin.close()

      func configuration(_ user: String?, _ password: String?, _ prefix: String = "cairn")
        -> EtcdConfiguration
      {
        EtcdConfiguration(
          endpoints: [Self.endpoint(etcd.port)], prefix: prefix, user: user, password: password)
      }
      for (configuration, word) in [
        (configuration(nil, nil), "user name is empty"),
        (configuration("cairn", "wrong"), "authentication failed"),
        (configuration("cairn", "secret", "other"), "permission denied"),
      ] {
        let arbiter = Self.contract(driver, configuration).arbiter("x")
        driver.spawn("vain") { _ = try? await arbiter.acquire() }
        for _ in 0..<200 where !arbiter.detail.contains(word) {
          await driver.sleep(.milliseconds(20))
        }
        #expect(arbiter.detail.contains(word), "\(arbiter.detail)")
        await arbiter.release()
      }
      try await Self.contract(driver, configuration("cairn", "secret")).run()
    }
  }

  @Test("over TLS: its certificate is checked, and ours shown")
  func tls() async throws {
    try await withTemporaryFolder { folder in
      try await onLoop { driver in
        await Result {
          try await Self.makeCertificates(in: folder, driver)
        }
      }.get()
      try await Self.with(tls: [
        "--cert-file", folder + "/server.pem", "--key-file", folder + "/server.key",
        "--client-cert-auth", "--trusted-ca-file", folder + "/ca.pem",
      ]) { driver, _, etcd in
        func file(_ name: String) async throws -> [UInt8] {
          try await driver.readFile(folder + "/" + name, limit: 1 << 20)
        }
        func configuration(_ trust: TLSTrust) -> EtcdConfiguration {
          EtcdConfiguration(
            endpoints: [Self.endpoint(etcd.port, isSecure: true)], prefix: "cairn", trust: trust)
        }
        // One that another authority signed, and nothing to show.
        let (authority, stranger) = (try await file("ca.pem"), try await file("other.pem"))
        let (certificate, key) = (try await file("client.pem"), try await file("client.key"))
        for (trust, word) in [
          (
            try TLSTrust(
              authorities: stranger, certificate: certificate, key: key, driver: driver),
            "not to be trusted"
          ), (try TLSTrust(authorities: authority, driver: driver), "certificate"),
        ] {
          let arbiter = Self.contract(driver, configuration(trust)).arbiter("x")
          driver.spawn("vain") { _ = try? await arbiter.acquire() }
          for _ in 0..<200 where !arbiter.detail.contains(word) {
            await driver.sleep(.milliseconds(20))
          }
          #expect(arbiter.detail.contains(word), "\(arbiter.detail)")
          await arbiter.release()
        }
        #expect(throws: TLSTrust.Failure.self) {
          try TLSTrust(authorities: [1, 2, 3], driver: driver)
        }
        #expect(throws: TLSTrust.Failure.self) {
          try TLSTrust(
            authorities: authority, certificate: certificate, key: stranger, driver: driver)
        }
        let trust = try TLSTrust(
          authorities: authority, certificate: certificate, key: key, driver: driver)
        try await Self.contract(driver, configuration(trust)).run()
      }
    }
  }

  static func makeCertificates(in folder: String, _ driver: any Driver) async throws {
    func openssl(_ words: String...) async throws {
      let outcome = Outcome<Int32>()
      _ = try await driver.perform(
        .spawnProcess(
          ProcessLaunch(
            executable: "/usr/bin/openssl", arguments: words, logPath: folder + "/openssl.log"),
          outcome), "start", "openssl")
      let status = await driver.submit(.waitForProcess(pid: outcome.value!))
      try #require(status == 0, "openssl \(words): see \(folder)/openssl.log")
    }
    let key = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    for (name, subject) in [("ca", "/CN=ca"), ("other", "/CN=other")] {
      try await openssl(
        "req", "-x509", "-newkey", key[0], key[1], key[2], "-nodes", "-days", "2", "-subj", subject,
        "-keyout", "\(folder)/\(name).key", "-out", "\(folder)/\(name).pem")
    }
    for name in ["server", "client"] {
      try await openssl(
        "req", "-newkey", key[0], key[1], key[2], "-nodes", "-subj", "/CN=\(name)",
        "-keyout", "\(folder)/\(name).key", "-out", "\(folder)/\(name).csr")
      let extensions = "\(folder)/\(name).ext"
      try await driver.replaceFile(extensions, with: Array("subjectAltName=IP:127.0.0.1\n".utf8))
      try await openssl(
        "x509", "-req", "-in", "\(folder)/\(name).csr", "-CA", "\(folder)/ca.pem",
        "-CAkey", "\(folder)/ca.key", "-CAcreateserial", "-days", "2", "-extfile", extensions,
        "-out", "\(folder)/\(name).pem")
    }
  }
}

extension Result where Failure == any Error {
  /// As `init(catching:)`, of a body that waits.
  init(_ body: () async throws -> Success) async {
    do { self = .success(try await body()) } catch { self = .failure(error) }
  }
}
