import DataPath
import Messages
import Ring
import Service

/// What opens buckets that the client encrypts: `--ask-passphrase`, `--passphrase-file`, `CAIRN_PASSPHRASE_FILE` or what is
/// configured, the first of these that is there; nil without any.
///
/// - Parameter configured: a path.
func passphrase(_ context: Context, configured: String?) async throws(Failure) -> [UInt8]? {
  let arguments = context.arguments
  let named = arguments["--passphrase-file"]
  if arguments.has("--ask-passphrase") {
    if named != nil { throw .usage("--ask-passphrase or --passphrase-file, not both") }
    // `mb --encrypt`, not `put --encrypt`: one that is new is typed twice.
    let isNew = arguments.has("--encrypt") && arguments.operands.count == 1
    return try askedPassphrase("passphrase", twice: isNew)
  }
  let found = named ?? HostProcess.environment("CAIRN_PASSPHRASE_FILE") ?? configured
  guard let path = found, !path.isEmpty else { return nil }
  return try await passphrase(in: path, on: context.driver)
}

/// The first line of a file, which others may not read.
func passphrase(in path: String, on driver: any Driver) async throws(Failure) -> [UInt8] {
  let bytes = try await secret("the passphrase", in: path, limit: 4096, on: driver)
  let line = bytes.prefix { $0 != UInt8(ascii: "\n") && $0 != UInt8(ascii: "\r") }
  guard bytes.dropFirst(line.count).allSatisfy({ $0 == 10 || $0 == 13 }) else {
    throw .failed("a passphrase is one line, and there are more", path)
  }
  if line.isEmpty { throw .failed("no passphrase in it", path) }
  return Array(line)
}

func askedPassphrase(_ what: String, twice: Bool) throws(Failure) -> [UInt8] {
  guard let first = HostProcess.askSecretly("\(what): ") else {
    throw .failed("no \(what) was given on a terminal")
  }
  if first.isEmpty { throw .failed("the \(what) is empty") }
  if twice, HostProcess.askSecretly("\(what) again: ") != first {
    throw .failed("the two are not the same")
  }
  return first
}

/// `cairn mb --encrypt`: the domain that the bucket is to be in, made unless it is there and this passphrase opens it.
func clientDomain(_ context: Context, of bucket: String) throws(Failure) -> String {
  if let name = context.arguments["--key-domain"] { return name }
  guard KeyDomainRules.brokenRule(name: bucket) == nil else {
    throw .usage(
      "a key domain cannot be called as the bucket is; name one with --key-domain: \(bucket)")
  }
  return bucket
}

extension Client {
  /// From here on names and bytes of buckets that this passphrase encrypts are in plain on this side.
  func unlock(with passphrase: [UInt8]) {
    access.keys.passphrase = passphrase
    coordinator.names = SealedNames(access)
  }

  /// For `put --encrypt`: refuses a bucket that the cluster can read.
  func checkSealed(_ bucket: String) async throws(Failure) {
    guard let names = coordinator.names else {
      throw .usage("--encrypt wants --passphrase-file or --ask-passphrase")
    }
    do throws(DataPathError) {
      if try await names.areSealed(in: bucket) { return }
    } catch {
      throw failure(error, bucket)
    }
    throw .failed("no passphrase encrypts this bucket; 'cairn mb --encrypt' makes one", bucket)
  }

  func makeDomain(_ name: String) async throws(Failure) {
    guard let passphrase = access.keys.passphrase else {
      throw .usage("--encrypt wants --passphrase-file or --ask-passphrase")
    }
    do throws(DataPathError) {
      try await access.keys.makeDomain(name, passphrase: passphrase)
    } catch {
      guard error.refusalCode == .keyDomainExists else { throw failure(error, name) }
      try await checkDomain(name)
    }
  }

  /// That a domain which is there is a client's, and that the passphrase opens it.
  private func checkDomain(_ name: String) async throws(Failure) {
    let id = try await clientDomain(named: name)
    do throws(DataPathError) {
      _ = try await access.keys.domain(id)
    } catch {
      throw failure(error, "")
    }
  }

  /// The number of a domain that a passphrase opens.
  func clientDomain(named name: String) async throws(Failure) -> KeyDomainID {
    let all = try await ask(ListKeyDomains(level: .strong), about: name).domains
    guard let found = all.first(where: { $0.name == name }) else {
      throw .failed("no such key domain", name)
    }
    guard found.keys.allSatisfy({ $0.masterKey == PassphraseWrap.name }) else {
      throw .failed("no passphrase opens this key domain: its keys are the cluster's", name)
    }
    return found.id
  }
}
