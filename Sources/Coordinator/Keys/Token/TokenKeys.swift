import Coding
package import Messages
import Ring
import Service

/// Where a PKCS#11 token is, and which of its keys wraps.
package struct TokenSettings: Sendable {
  /// The module's path, absolute.
  package var module: String
  package var token: TokenName
  /// A file that holds the user's PIN; see ``Driver/readSecret(_:limit:)``.
  package var pinFile: String
  /// The label of the AES-256 key that wraps now.
  package var key: String
  /// For all of a wrapping: loading the module, logging in.
  package var deadline = Duration.seconds(10)

  package init(module: String, token: TokenName, pinFile: String, key: String) {
    self.module = module
    self.token = token
    self.pinFile = pinFile
    self.key = key
  }
}

/// Master keys in a PKCS#11 token (version 2.40), which they never leave: AES-256 keys, found by their labels. Loop-confined.
///
/// A wrapped key has the format of ``KeyFile``'s: a key that is in both opens what either wrapped.
package final class TokenKeys: KeyProvider, @unchecked Sendable {
  // Loop-confined; `token` is used on the foreign lane alone.
  private let settings: TokenSettings
  private let driver: any Driver
  private let token: Token

  init(_ settings: TokenSettings, _ modules: TokenModules, on driver: any Driver) {
    self.settings = settings
    self.driver = driver
    token = Token(settings, modules)
  }

  /// - Throws: also when the token has no such key.
  package func currentKey() async throws(KeyProviderError) -> String {
    let name = settings.key
    _ = try await ask(about: name) { (session) throws(TokenError) in
      try session.key(named: name)
    }
    return name
  }

  package func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError)
    -> MasterWrap
  {
    let name = settings.key
    let nonce = driver.randomBytes(AES256GCM.nonceByteCount)
    let bytes = try await ask(about: name) { (session) throws(TokenError) in
      try session.seal(
        secret, key: try session.key(named: name), nonce: nonce, binding: binding)
    }
    return MasterWrap(masterKey: name, bytes: bytes)
  }

  package func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError)
    -> [UInt8]
  {
    try await ask(about: wrap.masterKey) { (session) throws(TokenError) in
      try session.open(
        wrap.bytes, key: try session.key(named: wrap.masterKey), binding: binding)
    }
  }

  private func ask<Value: Sendable>(
    about key: String,
    _ body: @escaping @Sendable (TokenSession) throws(TokenError) -> Value
  ) async throws(KeyProviderError) -> Value {
    let pin = await readPIN()
    let (token, now) = (token, driver.now)
    let outcome = await driver.offload(within: settings.deadline) {
      () -> Result<Value, TokenError> in
      do throws(TokenError) {
        return .success(try token.perform(pin: pin, now: now, body))
      } catch {
        return .failure(error)
      }
    }
    switch outcome {
    case nil:
      throw .unavailable(
        "PKCS#11 \(settings.token) did not answer within \(settings.deadline)"
      )
    case .success(let value): return value
    case .failure(.noSuchKey(let name)): throw .noSuchKey(name)
    case .failure(.notAuthentic): throw .notAuthentic(key)
    case .failure(let error):
      throw .unavailable(error.reason(token: "\(settings.token)", pinFile: settings.pinFile))
    }
  }

  private func readPIN() async -> Result<[UInt8], TokenError> {
    do throws(SecretFileError) {
      var pin = try await driver.readSecret(settings.pinFile, limit: 1024)
      // As editors leave it.
      while pin.last == 10 || pin.last == 13 { pin.removeLast() }
      return pin.isEmpty
        ? .failure(.unusable("\(settings.pinFile): no PIN in it")) : .success(pin)
    } catch {
      return .failure(.unusable("\(error.reason("the token's PIN")): \(settings.pinFile)"))
    }
  }
}

/// A token with its session, which lasts from one piece of work to the next, and is opened anew, once, when it does not.
private final class Token: @unchecked Sendable {
  // Confined to the foreign lane.
  private let settings: TokenSettings
  private let modules: TokenModules
  private var session: TokenSession?
  /// Not to be tried again.
  private var refusedPIN: [UInt8]?
  private var nextRestart = Duration.zero
  /// Between restarts of the module, each of which ends the sessions of all who use it.
  private static let restartPause = Duration.seconds(2)

  init(_ settings: TokenSettings, _ modules: TokenModules) {
    self.settings = settings
    self.modules = modules
  }

  func perform<Value>(
    pin: Result<[UInt8], TokenError>, now: Duration,
    _ body: (TokenSession) throws(TokenError) -> Value
  ) throws(TokenError) -> Value {
    let module = try modules.module(settings.module)
    if let session, session.isOpen {
      do throws(TokenError) {
        return try body(session)
      } catch {
        guard error.mayBeOfTheSession else { throw error }
        if case .noSuchKey = error, now < nextRestart { throw error }
        session.close()
        self.session = nil
        restart(module, now)
      }
    }
    let fresh = try open(module, pin, now)
    session = fresh
    do throws(TokenError) {
      return try body(fresh)
    } catch {
      // A key was found and the module would decrypt: what is left to be wrong is the tag.
      if case .refused(let code, TokenSession.decryption) = error, Self.failures.contains(code) {
        throw .notAuthentic
      }
      throw error
    }
  }

  /// CKR_GENERAL_ERROR and CKR_FUNCTION_FAILED.
  private static let failures: [UInt] = [5, 6]

  private func restart(_ module: TokenModule, _ now: Duration) {
    guard now >= nextRestart else { return }
    nextRestart = now + Self.restartPause
    module.finalize()
  }

  private func open(_ module: TokenModule, _ pin: Result<[UInt8], TokenError>, _ now: Duration)
    throws(TokenError) -> TokenSession
  {
    do throws(TokenError) {
      return try logIn(module, pin)
    } catch {
      switch error {
      // Too many logins lock a token.
      case .refused(_, TokenSession.login): throw error
      case .noSuchToken, .refused: break
      default: throw error
      }
      guard now >= nextRestart else { throw error }
      restart(module, now)
      return try logIn(module, pin)
    }
  }

  private func logIn(_ module: TokenModule, _ pin: Result<[UInt8], TokenError>)
    throws(TokenError) -> TokenSession
  {
    try module.initialize()
    let slot = try module.slot(settings.token)
    let pin = try pin.get()
    guard pin != refusedPIN else { throw .wrongPIN }
    do throws(TokenError) {
      return try TokenSession(on: slot, of: module, pin: pin)
    } catch {
      if case .wrongPIN = error { refusedPIN = pin }
      throw error
    }
  }
}
