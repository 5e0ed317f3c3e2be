import Foundation
import TestSupport
import Testing

/// Master keys that are not in a file, as an operator meets them.
@Suite(
  "master keys elsewhere than in a file", .serialized,
  .enabled(if: cairnPath != nil, "CAIRN_EXECUTABLE names the build (scripts/test)"))
struct MasterKeyTests {
  /// Another `master_keys` for the coordinator, which starts anew.
  private func configure(_ cluster: RealCluster, _ masterKeys: String) throws {
    try cluster.killDaemons { $0.role == "coordinator" }
    try write(cluster, masterKeys)
    try cluster.up()
  }

  private func write(_ cluster: RealCluster, _ masterKeys: String) throws {
    let path = cluster.directory + "/coordinator-1/config.toml"
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
      .prefix { !$0.hasPrefix("[master_keys") }.filter { !$0.hasPrefix("master_keys") }
    try (lines.joined(separator: "\n") + "\n" + masterKeys + "\n").write(
      toFile: path, atomically: true, encoding: .utf8)
  }

  private func restartAll(_ cluster: RealCluster) throws {
    try cluster.succeed("cluster", "down", "--dir", cluster.directory)
    try cluster.up()
  }

  /// That it is refused, in one line that says `words`.
  private func refuses(_ cluster: RealCluster, _ words: [String], _ text: String) throws {
    let refused = try cluster.run(words)
    #expect(refused.status == 1 && refused.errorLines.count == 1, "\(words): \(refused.error)")
    #expect(refused.error.contains(text), "\(words): \(refused.error)")
  }

  private func until(_ what: String, _ holds: () throws -> Bool) throws {
    let end = Date() + 30
    while try !holds() {
      try #require(Date() < end, "not \(what)")
      usleep(50_000)
    }
  }

  private func masterKey(_ cluster: RealCluster) throws -> String {
    let text = try cluster.succeed("admin", "key", "domain", "list").text
    return String(text.split(separator: " ").last ?? "").trimmingCharacters(in: .newlines)
  }

  @Test(
    "a cluster moves from a file to a PKCS#11 token without a byte written anew, rotates there, and says what is wrong when the token is not as it was",
    .enabled(if: SoftToken.isInstalled, "scripts/install-deps installs SoftHSM and pkcs11-tool"))
  func token() throws {
    let cluster = try RealCluster(nodes: 3)
    let token = try SoftToken(in: cluster.folder + "/hsm")
    setenv("SOFTHSM2_CONF", token.configuration, 1)
    defer { unsetenv("SOFTHSM2_CONF") }
    let pin = cluster.folder + "/pin"
    try writeSecret(SoftToken.pin + "\n", to: pin)
    func table(_ key: String, label: String = "cairn") -> String {
      """
      [master_keys]
      provider = "pkcs11"
      module = "\(SoftToken.module)"
      token = "\(label)"
      pin_file = "\(pin)"
      key = "\(key)"
      """
    }
    try cluster.succeed("admin", "key", "domain", "create", "finance")
    try cluster.succeed("mb", "--key-domain", "finance", "sealed")
    try cluster.succeed("put", "-", "cairn://sealed/k", input: Data("precious".utf8))
    let ofFile = try masterKey(cluster)

    // From the file to the token.
    try token.makeKey("m1")
    try configure(
      cluster, table("m1") + "\n[master_keys.old]\nprovider = \"file\"\npath = \"../master.keys\"")
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    #expect(try masterKey(cluster) == ofFile)
    #expect(try cluster.succeed("admin", "key", "rotate").text.hasPrefix("1 domain key"))
    #expect(try masterKey(cluster) == "m1")
    #expect(try cluster.succeed("admin", "key", "rotate").text.hasPrefix("0 domain keys"))
    try FileManager.default.removeItem(atPath: cluster.directory + "/master.keys")
    try write(cluster, table("m1"))
    try restartAll(cluster)
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    try cluster.succeed("put", "-", "cairn://sealed/l", input: Data("dear".utf8))
    try cluster.succeed("admin", "key", "domain", "rotate", "finance")

    // To the next key of the token.
    try configure(cluster, table("m2"))
    try refuses(cluster, ["admin", "key", "rotate"], "master key 'm2' is not there")
    try token.makeKey("m2")
    try until("noticed that there is a new key") {
      try cluster.run(["admin", "key", "rotate"]).text.hasPrefix("1 domain key")
    }
    #expect(try masterKey(cluster) == "m2")
    try token.deleteKey("m1")
    try restartAll(cluster)
    #expect(try cluster.succeed("cat", "cairn://sealed/l").text == "dear")

    // A token that is away while the coordinator runs: what is open stays so.
    let away = cluster.folder + "/away"
    try FileManager.default.moveItem(atPath: token.tokens, toPath: away)
    try FileManager.default.createDirectory(
      atPath: token.tokens, withIntermediateDirectories: false)
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    try until("noticed that the token is gone") {
      try cluster.run(["admin", "key", "rotate"]).error.contains(
        "there is no PKCS#11 token 'cairn'")
    }
    try FileManager.default.removeItem(atPath: token.tokens)
    try FileManager.default.moveItem(atPath: away, toPath: token.tokens)
    try until("noticed that it is back") {
      try cluster.run(["admin", "key", "rotate"]).status == 0
    }

    try writeSecret("4321\n", to: pin)
    try configure(cluster, table("m2"))
    try refuses(cluster, ["cat", "cairn://sealed/k"], "refuses the PIN in \(pin)")
    try writeSecret(SoftToken.pin, to: pin)
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")

    try configure(cluster, table("m2", label: "other"))
    try refuses(cluster, ["cat", "cairn://sealed/k"], "there is no PKCS#11 token 'other'")
    try token.deleteKey("m2")
    try configure(cluster, table("m2"))
    try refuses(cluster, ["cat", "cairn://sealed/k"], "master key 'm2' is not there")
  }

  private func run(_ words: String...) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = words
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }

  @Test(
    "a cluster moves from a file to a key service, goes on while that is sealed, and back to a file",
    .enabled(if: pythonHasCryptography, "scripts/install-deps installs python3-cryptography"))
  func service() throws {
    let cluster = try RealCluster(nodes: 3)
    let folder = cluster.folder + "/service"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    #expect(
      try run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-nodes", "-days", "2", "-subj", "/CN=service", "-addext", "subjectAltName=IP:127.0.0.1",
        "-keyout", folder + "/server.key", "-out", folder + "/server.pem") == 0)
    let server = Process()
    server.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    let modules =
      URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().path + "/Modules"
    server.arguments = ["python3", modules + "/transit-server.py", folder, "m1"]
    try server.run()
    defer {
      kill(server.processIdentifier, SIGKILL)
      server.waitUntilExit()
    }
    try until("listening") { FileManager.default.fileExists(atPath: folder + "/port") }
    let port = try String(contentsOfFile: folder + "/port", encoding: .utf8)
    try writeSecret("s.cairn\n", to: folder + "/token")
    let table = """
      provider = "vault"
      url = "https://127.0.0.1:\(port)"
      ca_file = "\(folder)/server.pem"
      token_file = "\(folder)/token"
      key = "m1"
      """
    let file = "provider = \"file\"\npath = \"../master.keys\""
    try cluster.succeed("admin", "key", "domain", "create", "finance")
    try cluster.succeed("mb", "--key-domain", "finance", "sealed")
    try cluster.succeed("put", "-", "cairn://sealed/k", input: Data("precious".utf8))
    let ofFile = try masterKey(cluster)
    try configure(cluster, "[master_keys]\n\(table)\n[master_keys.old]\n\(file)")
    #expect(try cluster.succeed("admin", "key", "rotate").text.hasPrefix("1 domain key"))
    #expect(try masterKey(cluster) == "m1")
    try write(cluster, "[master_keys]\n\(table)")
    try restartAll(cluster)
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    // What is open stays so; what is not says why.
    try Data("sealed".utf8).write(to: URL(fileURLWithPath: folder + "/fault"))
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
    try refuses(cluster, ["admin", "key", "rotate"], "HTTP 503: Vault is sealed")
    try configure(cluster, "[master_keys]\n\(table)")
    try refuses(
      cluster, ["cat", "cairn://sealed/k"], "key domain 'finance' is closed: key service")
    try FileManager.default.removeItem(atPath: folder + "/fault")
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")

    try configure(cluster, "[master_keys]\n\(file)\n[master_keys.old]\n\(table)")
    #expect(try cluster.succeed("admin", "key", "rotate").text.hasPrefix("1 domain key"))
    #expect(try masterKey(cluster) == ofFile)
    try configure(cluster, "master_keys = \"../master.keys\"")
    #expect(try cluster.succeed("cat", "cairn://sealed/k").text == "precious")
  }

  @Test(
    "a coordinator does not start with secrets that everybody may read, or a table that makes no sense"
  )
  func refusals() throws {
    let cluster = try RealCluster(nodes: 3)
    let secret = cluster.folder + "/secret"
    try writeSecret("1234", to: secret)
    let vault = "[master_keys]\nprovider = \"vault\"\ntoken_file = \"\(secret)\"\nkey = \"k\"\n"
    let pkcs11 = "[master_keys]\nprovider = \"pkcs11\"\npin_file = \"\(secret)\"\n"
    func start() throws -> Finished {
      try cluster.run([
        "coordinator", "--config", cluster.directory + "/coordinator-1/config.toml",
      ])
    }
    for (table, text) in [
      ("[master_keys]", "'master_keys.provider' is missing"),
      ("[master_keys]\nprovider = \"hsm\"", "'master_keys.provider' must be one of"),
      ("[master_keys]\nprovider = \"file\"", "'master_keys.path' is missing"),
      (
        "[master_keys]\nprovider = \"file\"\npath = \"x\"\nkey = \"m\"",
        "unknown key 'master_keys.key'"
      ),
      ("master_keys = 3", "'master_keys' must be a string"),
      (vault, "'master_keys.url' is missing"),
      (vault + "url = \"http://v:8200\"", "'master_keys.url' must begin with https://"),
      (vault + "url = \"https://v:8200/x\"", "'master_keys.url' must be an address"),
      (
        vault + "url = \"https://v:8200\"\nmount = \"../sys\"", "'master_keys.mount' must be a path"
      ),
      (
        vault + "url = \"https://v:8200\"\nnamespace = \"a\\r\\nb\"",
        "'master_keys.namespace' must be a path"
      ),
      (
        vault + "url = \"https://v:8200\"\nca_file = \"/nowhere\"",
        "cannot read the authorities of [master_keys]"
      ),
      (pkcs11 + "module = \"m\"\nkey = \"k\"", "'master_keys.token' is missing"),
      (pkcs11 + "token = \"t\"\nkey = \"k\"", "'master_keys.module' is missing"),
      (
        pkcs11 + "token = \"t\"\nmodule = \"m\"\nkey = \"a b\"", "'master_keys.key' must be 1 to 64"
      ),
      (
        pkcs11 + "token = \"t\"\nmodule = \"m\"\nkey = \"k\"\n[master_keys.old]",
        "'master_keys.old.provider' is missing"
      ),
    ] {
      try write(cluster, table)
      let refused = try start()
      #expect(refused.status == 1 && refused.errorLines.count == 1, "\(table): \(refused.error)")
      #expect(refused.error.contains(text), "\(table): \(refused.error)")
    }
    chmod(secret, 0o644)
    try write(cluster, pkcs11 + "token = \"t\"\nmodule = \"m\"\nkey = \"k\"")
    #expect(try start().error.contains("everybody on this machine can get at the token's PIN"))
    chmod(cluster.directory + "/master.keys", 0o604)
    for table in [
      "master_keys = \"../master.keys\"",
      "[master_keys]\nprovider = \"file\"\npath = \"../master.keys\"",
    ] {
      try write(cluster, table)
      let refused = try start()
      #expect(
        refused.status == 1
          && refused.error.contains("everybody on this machine can get at the master keys"),
        "\(refused.error)")
    }
    try refuses(
      cluster, ["admin", "key", "new", cluster.directory + "/master.keys"],
      "everybody on this machine can get at the master keys")
  }
}
