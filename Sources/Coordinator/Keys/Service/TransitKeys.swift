import HTTP
package import Messages
import Ring
import Service

/// Master keys in the transit engine of a HashiCorp Vault or an OpenBao, which they never leave. Loop-confined.
///
/// A key's versions are the service's business: what it seals says which one did, so a rotation there needs nothing here. What
/// ``MasterWrap/bytes`` holds is its `ciphertext`, `vault:v1:` and so on, as text.
///
/// Both requests may be carried out twice; they are sent again when the service fails or is not reached, and never when it
/// refuses.
///
/// - Source: the transit secrets engine's HTTP API, `POST /v1/transit/encrypt/:name` and `/decrypt/:name`.
package final class TransitKeys: KeyProvider, @unchecked Sendable {
  // Loop-confined.
  private let settings: TransitSettings
  private let driver: any Driver
  private let client: HTTPClient

  private static let attempts = 3
  private static let answerLimit = 64 << 10
  private static let tokenLimit = 8 << 10

  init(_ settings: TransitSettings, on driver: any Driver) {
    self.settings = settings
    self.driver = driver
    var limits = HTTPClient.Limits()
    limits.bodyByteCount = Self.answerLimit
    client = HTTPClient(
      driver: driver, endpoint: settings.endpoint, trust: settings.trust, limits: limits)
  }

  /// Nothing is asked: a right to wrap and unwrap is all that is needed.
  package func currentKey() async throws(KeyProviderError) -> String { settings.key }

  /// Always false: a newer version of the same key may be what the operator wants to see wrap.
  package func isCurrent(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError)
    -> Bool
  { false }

  package func wrap(_ secret: [UInt8], binding: [UInt8]) async throws(KeyProviderError)
    -> MasterWrap
  {
    let data = try await ask(
      "encrypt", settings.key,
      [
        ("plaintext", .string(Base64.encode(secret))),
        ("associated_data", .string(Base64.encode(binding))),
      ])
    guard let text = data["ciphertext"]?.string, Self.isCiphertext(text) else {
      throw unavailable("its answer holds no ciphertext")
    }
    let wrap = MasterWrap(masterKey: settings.key, bytes: Array(text.utf8))
    try await refuseUnbound(wrap, binding)
    return wrap
  }

  /// A service that does not know associated data passes over it: then what is wrapped would belong to any domain.
  private func refuseUnbound(_ wrap: MasterWrap, _ binding: [UInt8]) async throws(KeyProviderError)
  {
    do throws(KeyProviderError) {
      _ = try await unwrap(wrap, binding: binding + [0])
    } catch {
      if case .notAuthentic = error { return }
      throw error
    }
    throw unavailable("it passes over associated_data, so what it wraps is bound to nothing")
  }

  package func unwrap(_ wrap: MasterWrap, binding: [UInt8]) async throws(KeyProviderError)
    -> [UInt8]
  {
    // The name becomes part of a path, and comes from the metadata.
    guard TransitSettings.isKeyName(wrap.masterKey) else { throw .noSuchKey(wrap.masterKey) }
    guard let text = String(validating: wrap.bytes, as: UTF8.self), Self.isCiphertext(text) else {
      throw .notAuthentic(wrap.masterKey)
    }
    let data = try await ask(
      "decrypt", wrap.masterKey,
      [
        ("ciphertext", .string(text)), ("associated_data", .string(Base64.encode(binding))),
      ])
    guard let secret = data["plaintext"]?.string.flatMap(Base64.decode) else {
      throw unavailable("its answer holds no plaintext")
    }
    return secret
  }

  private static func isCiphertext(_ text: String) -> Bool {
    (1...KeyDomainRules.wrappedByteLimit).contains(text.utf8.count) && text.hasPrefix("vault:v")
      && text.utf8.allSatisfy { $0 > 32 && $0 < 127 }
  }

  // MARK: Asking

  /// - Returns: the answer's `data`.
  private func ask(_ verb: String, _ key: String, _ members: [(String, JSON)])
    async throws(KeyProviderError) -> JSON
  {
    // Read each time: who renews a token leaves the new one there.
    let request = HTTPRequest(
      "POST", "/v1/\(settings.mount)/\(verb)/\(key)", fields: try await fields(),
      body: Array(JSON.object(members).text.utf8), isRepeatable: true)
    let end = driver.now + settings.deadline
    var failure = KeyProviderError.unavailable("")
    for attempt in 0..<Self.attempts {
      if attempt > 0 {
        // Twice as long each time, and never the same for two.
        let whole = Duration.milliseconds(200 << attempt)
        let pause = whole / 2 + .milliseconds(Int64(driver.random() % UInt64(100 << attempt)))
        guard driver.now + pause < end, await driver.sleep(pause) else { break }
      }
      let answer: HTTPResponse
      do throws(HTTPError) {
        answer = try await client.send(request, deadline: end - driver.now)
      } catch {
        switch error {
        case .unreachable, .lost:
          failure = unavailable("\(error)")
          continue
        case .malformed, .cancelled: throw unavailable("\(error)")
        }
      }
      switch answer.status {
      case 200: return try data(answer.body)
      case 500...599: failure = unavailable(reason(answer))
      default: throw refusal(answer, key)
      }
    }
    throw failure
  }

  private func fields() async throws(KeyProviderError) -> HTTPFields {
    let token: [UInt8]
    do throws(SecretFileError) {
      var bytes = try await driver.readSecret(settings.tokenFile, limit: Self.tokenLimit)
      // As editors leave it.
      while bytes.last == 10 || bytes.last == 13 { bytes.removeLast() }
      token = bytes
    } catch {
      throw .unavailable("\(error.reason("the key service's token")): \(settings.tokenFile)")
    }
    guard !token.isEmpty, token.allSatisfy({ $0 > 32 && $0 < 127 }) else {
      throw .unavailable("\(settings.tokenFile): a token of printable ASCII characters is wanted")
    }
    var fields = HTTPFields([
      .init("Content-Type", "application/json"), .init("User-Agent", "Cairn"),
      // Agents in between may want it.
      .init("X-Vault-Request", "true"),
      .init("X-Vault-Token", String(decoding: token, as: UTF8.self)),
    ])
    if let namespace = settings.namespace { fields.add("X-Vault-Namespace", namespace) }
    return fields
  }

  private func data(_ body: [UInt8]) throws(KeyProviderError) -> JSON {
    do throws(JSONError) {
      if let data = try JSON(parsing: body)["data"] { return data }
    } catch {
      throw unavailable("its answer is no JSON: \(error)")
    }
    throw unavailable("its answer holds no data")
  }

  private func unavailable(_ why: String) -> KeyProviderError {
    .unavailable("key service \(settings.endpoint): \(why)")
  }

  // MARK: Refusals

  /// Of `{"errors": ["…"]}`, for people: the first, cut where it is long, without what would break a line.
  private func reason(_ answer: HTTPResponse) -> String {
    var text = ""
    if let json = try? JSON(parsing: answer.body), let first = json["errors"]?.elements?.first {
      text = String(
        String.UnicodeScalarView(
          (first.string ?? "").unicodeScalars.prefix(200).map { $0.value < 32 ? " " : $0 }))
    }
    return text.isEmpty ? "HTTP \(answer.status)" : "HTTP \(answer.status): \(text)"
  }

  /// One status stands for many things; what is told apart by its words would else be told as it stands.
  private func refusal(_ answer: HTTPResponse, _ key: String) -> KeyProviderError {
    let reason = reason(answer)
    switch answer.status {
    case 400 where reason.contains("key not found"): return .noSuchKey(key)
    case 400
    where reason.contains("message authentication failed") || reason.contains("invalid ciphertext"):
      return .notAuthentic(key)
    case 300...399:
      return unavailable("\(reason): it is a standby that names another; give the active one")
    case 403: return unavailable("\(reason): the token in \(settings.tokenFile) may not")
    case 404: return unavailable("\(reason): is the engine mounted at '\(settings.mount)'?")
    default: return unavailable(reason)
    }
  }
}
