internal import Coding
package import HTTP
import Ring
import Service
package import Wire

/// Where etcd is and who we are to it.
package struct EtcdConfiguration: Sendable {
  /// At least one; the next is tried when one does not answer.
  package var endpoints: [HTTPEndpoint]
  /// All keys begin with it: one for each cluster.
  package var prefix: String
  /// For endpoints that are secure.
  package var trust: TLSTrust?
  package var user: String?
  package var password: String?
  /// How long one member may take before the next is asked.
  package var attempt = Duration.seconds(1)

  package init(
    endpoints: [HTTPEndpoint], prefix: String, trust: TLSTrust? = nil, user: String? = nil,
    password: String? = nil
  ) {
    precondition(!endpoints.isEmpty)
    self.endpoints = endpoints
    self.prefix = prefix
    self.trust = trust
    self.user = user
    self.password = password
  }
}

/// Why etcd did not do as asked.
enum EtcdError: Error, Equatable {
  /// No member answered, or none could: whether it was carried out is unknown.
  case unavailable(String)
  /// It will not, and nothing was changed: rights, a full database, something that is no etcd.
  case refused(String)

  var reason: String {
    switch self {
    case .unavailable(let reason), .refused(let reason): reason
    }
  }
}

/// A transaction: when all of `compares` hold, `success` is done, else `failure`; in one step.
struct EtcdTransaction: Sendable {
  var compares: [Compare] = []
  var success: [Step] = []
  var failure: [Step] = []

  enum Compare: Sendable {
    /// Nil: there is no such key.
    case value(String, [UInt8]?)
    /// The one that wrote the key last; 0 when there is no such key. An etcd that was emptied counts anew from one, so this
    /// alone says nothing.
    case revision(String, UInt64)
  }

  enum Step: Sendable {
    case get(String)
    case put(String, [UInt8])
  }

  struct Value: Sendable, Equatable {
    /// Without its signature.
    var bytes: [UInt8]
    /// Whether it is signed, under its key, with the cluster's.
    var isGenuine = true
    /// That wrote it.
    var revision: UInt64
  }

  struct Answer: Sendable {
    var succeeded: Bool
    /// Of the store after it: that of all its puts.
    var revision: UInt64
    /// What was got, by key.
    var values: [String: Value]
  }
}

/// etcd 3.4 and later over its HTTP/JSON gateway: the few requests an arbiter needs, all of which may be carried out
/// twice. Loop-confined.
final class EtcdClient: @unchecked Sendable {
  private let driver: any Driver
  private let configuration: EtcdConfiguration
  private let clients: [HTTPClient]
  /// The member that answered last.
  private var current = 0
  private var token: String?
  private let signingKey: [UInt8]
  private static let signatureByteCount = 32

  /// - Parameter signingKey: each value is kept with its HMAC-SHA256 under this key and its own: whoever can write to etcd
  ///   cannot make one up. What was signed once may come again.
  init(driver: any Driver, configuration: EtcdConfiguration, signingKey: [UInt8]) {
    self.driver = driver
    self.signingKey = signingKey
    self.configuration = configuration
    clients = configuration.endpoints.map {
      HTTPClient(driver: driver, endpoint: $0, trust: configuration.trust)
    }
  }

  func close() async { for client in clients { await client.close() } }

  /// - Parameter deadline: for all of it, however many members are asked.
  func perform(_ transaction: EtcdTransaction, deadline: Duration) async throws(EtcdError)
    -> EtcdTransaction.Answer
  {
    let body = JSON.object([
      (
        "compare",
        .array(
          transaction.compares.map(encode))
      ),
      ("success", .array(transaction.success.map(encode))),
      ("failure", .array(transaction.failure.map(encode))),
    ])
    return try answer(try await call("/v3/kv/txn", body, deadline: deadline))
  }

  private func signature(_ key: String, _ bytes: [UInt8]) -> [UInt8] {
    HMACSHA256.authenticate(Array(key.utf8) + [0] + bytes, key: signingKey)
  }

  private static func encode(_ key: String) -> JSON { .string(Base64.encode(Array(key.utf8))) }

  private func encode(_ compare: EtcdTransaction.Compare) -> JSON {
    func equal(_ key: String, _ target: String, _ name: String, _ value: String) -> JSON {
      .object([
        ("key", Self.encode(key)), ("target", .string(target)), ("result", .string("EQUAL")),
        (name, .string(value)),
      ])
    }
    return switch compare {
    case .value(let key, let value?):
      equal(key, "VALUE", "value", Base64.encode(value + signature(key, value)))
    case .value(let key, nil): equal(key, "MOD", "mod_revision", "0")
    case .revision(let key, let revision): equal(key, "MOD", "mod_revision", String(revision))
    }
  }

  private func encode(_ step: EtcdTransaction.Step) -> JSON {
    switch step {
    case .get(let key): .object([("request_range", .object([("key", Self.encode(key))]))])
    case .put(let key, let value):
      .object([
        (
          "request_put",
          .object([
            ("key", Self.encode(key)),
            ("value", .string(Base64.encode(value + signature(key, value)))),
          ])
        )
      ])
    }
  }

  /// What protocol buffers leave out is zero, false or empty.
  private func answer(_ json: JSON) throws(EtcdError) -> EtcdTransaction.Answer {
    guard let revision = json["header"]?["revision"]?.whole else {
      throw .unavailable("etcd's answer has no revision")
    }
    var values: [String: EtcdTransaction.Value] = [:]
    for response in json["responses"]?.elements ?? [] {
      for pair in response["response_range"]?["kvs"]?.elements ?? [] {
        guard let key = pair["key"]?.string.flatMap(Base64.decode),
          let bytes = Base64.decode(pair["value"]?.string ?? ""),
          let revision = pair["mod_revision"]?.whole
        else { throw .unavailable("etcd's answer cannot be read") }
        let name = String(decoding: key, as: UTF8.self)
        let content = Array(bytes.dropLast(Self.signatureByteCount))
        values[name] = .init(
          bytes: content,
          isGenuine: HMACSHA256.isValid(
            Array(bytes.suffix(Self.signatureByteCount)),
            for: Array(name.utf8) + [0] + content, key: signingKey), revision: revision)
      }
    }
    return EtcdTransaction.Answer(
      succeeded: json["succeeded"]?.bool ?? false, revision: revision, values: values)
  }

  /// Asks one member after the other, each once, until one answers.
  private func call(_ target: String, _ body: JSON, deadline: Duration) async throws(EtcdError)
    -> JSON
  {
    let end = driver.now + deadline
    var reasons: [String] = []
    var mayRenew = true
    var asked = 0
    while asked < clients.count {
      let left = end - driver.now
      if left <= .zero || Task.isCancelled { break }
      let index = current
      let client = clients[index]
      do throws(EtcdError) {
        return try await ask(client, target, body, deadline: min(left, configuration.attempt))
      } catch {
        switch error {
        case .unavailable(let reason):
          reasons.append(reason)
          // Another request may have gone on to the next already.
          if current == index { current = (current + 1) % clients.count }
          asked += 1
        case .refused:
          // Tokens end with time, and with a member's memory.
          guard token == nil, configuration.user != nil, mayRenew else { throw error }
          mayRenew = false
        }
      }
    }
    throw .unavailable(
      reasons.isEmpty ? "etcd does not answer in time" : reasons.joined(separator: "; "))
  }

  private func ask(_ client: HTTPClient, _ target: String, _ body: JSON, deadline: Duration)
    async throws(EtcdError) -> JSON
  {
    let end = driver.now + deadline
    if token == nil, let user = configuration.user {
      let answer = try await post(
        client, "/v3/auth/authenticate",
        .object([("name", .string(user)), ("password", .string(configuration.password ?? ""))]),
        deadline: deadline)
      guard let fresh = answer["token"]?.string,
        fresh.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
      else { throw .refused("\(client.endpoint) gives no token") }
      token = fresh
    }
    return try await post(client, target, body, deadline: end - driver.now)
  }

  private func post(_ client: HTTPClient, _ target: String, _ body: JSON, deadline: Duration)
    async throws(EtcdError) -> JSON
  {
    var fields = HTTPFields([.init("Content-Type", "application/json")])
    if let token { fields.add("Authorization", token) }
    let response: HTTPResponse
    do throws(HTTPError) {
      response = try await client.send(
        HTTPRequest(
          "POST", target, fields: fields, body: Array(body.text.utf8), isRepeatable: true),
        deadline: deadline)
    } catch {
      throw .unavailable(error.description)
    }
    let answer: JSON?
    do throws(JSONError) { answer = try JSON(parsing: response.body) } catch { answer = nil }
    if response.status == 200, let answer { return answer }
    guard let answer, let code = answer["code"]?.whole, let said = answer["error"]?.string else {
      throw response.status >= 500
        ? .unavailable("HTTP \(response.status): \(client.endpoint)")
        : .refused("HTTP \(response.status), not etcd 3.4 or later: \(client.endpoint)")
    }
    let words = "\(said): \(client.endpoint)"
    switch code {
    // gRPC: cancelled, unknown, deadline exceeded, aborted, internal, unavailable.
    case 1, 2, 4, 10, 13, 14: throw .unavailable(words)
    default:
      if code == 16 || said.contains("auth store") { token = nil }
      throw .refused(words)
    }
  }
}
