import HTTP
import Ring
import Service
import Simulation
import Wire

/// What etcd does of its HTTP/JSON gateway that an arbiter asks for, served on a machine "etcd" of the simulated world:
/// transactions over keys with revisions, and tokens. Linearizable; what can go wrong is the way to it, and what an
/// operator does to it.
final class EtcdModel: @unchecked Sendable {
  // Loop-confined.
  struct Value {
    var bytes: [UInt8]
    var revision: UInt64
  }
  struct Content {
    var values: [String: Value] = [:]
    var revision: UInt64 = 1
  }

  static let address = SocketAddress(host: "etcd", port: 2379)
  let world: SimulatedWorld
  private(set) var process: SimulatedProcess?
  /// Survives the process.
  var content = Content()
  private(set) var requests = 0
  /// Asked for when it is not nil: user and password.
  var user: (name: String, password: String)?
  private var tokens: Set<String> = []

  // Faults.
  /// Of a hundred requests, how many are lost, half of them after they took effect.
  var lossPercent: UInt64 = 0
  /// Each way takes up to so much longer.
  var slowness = Duration.zero
  /// Only on the way to and from these machines; when empty, to all.
  var slowHosts: Set<String> = []

  init(_ world: SimulatedWorld) { self.world = world }

  func start() async throws {
    let process = world.process("etcd")
    self.process = process
    tokens = []
    let listener = try await Listener.listen(on: Self.address, driver: process)
    process.spawn("accept") { [self] in
      while let connection = try? await listener.accept() {
        process.spawn("serve") { [self] in await serve(connection, process) }
      }
    }
  }

  func kill() { process?.kill() }

  private func serve(_ connection: Connection, _ process: SimulatedProcess) async {
    let stream = PlainStream(connection)
    let reader = HTTPReader(stream)
    do {
      while let head = try await reader.requestHead() {
        let body = try await reader.body(HTTPBodyFraming(request: head), limit: 4 << 20)
        await dawdle(connection.peer.host, process)
        let fate = process.random() % 200
        if fate < lossPercent { break }
        requests += 1
        let (status, answer) = answer(head, body)
        if fate < 2 * lossPercent { break }
        await dawdle(connection.peer.host, process)
        let bytes = Array(answer.text.utf8)
        let response = HTTPResponseHead(
          status: status, reason: "",
          fields: HTTPFields([.init("Content-Length", "\(bytes.count)")]))
        try await stream.send([Slice(copying: response.encoded + bytes, pool: process.buffers)])
      }
    } catch {}
    await connection.close()
  }

  private func dawdle(_ host: String, _ process: SimulatedProcess) async {
    guard slowness > .zero, slowHosts.isEmpty || slowHosts.contains(host) else { return }
    await process.sleep(slowness * Double(process.random() % 1024) / 1024)
  }

  private func answer(_ head: HTTPRequestHead, _ body: [UInt8]) -> (Int, JSON) {
    guard let json = try? JSON(parsing: body), head.method == "POST" else {
      return (400, .object([("error", .string("bad")), ("code", .number(3))]))
    }
    if head.target == "/v3/auth/authenticate" {
      guard let user, json["name"]?.string == user.name,
        json["password"]?.string == user.password
      else {
        return (400, .object([("error", .string("authentication failed")), ("code", .number(3))]))
      }
      let token = "token.\(tokens.count)"
      tokens.insert(token)
      return (200, .object([("token", .string(token))]))
    }
    if user != nil, !tokens.contains(head.fields["Authorization"] ?? "") {
      return (401, .object([("error", .string("invalid auth token")), ("code", .number(16))]))
    }
    guard head.target == "/v3/kv/txn" else {
      return (404, .object([("error", .string("Not Found")), ("code", .number(5))]))
    }
    return (200, transact(json))
  }

  private func key(_ json: JSON?) -> String {
    String(decoding: Base64.decode(json?["key"]?.string ?? "") ?? [], as: UTF8.self)
  }

  private func transact(_ json: JSON) -> JSON {
    let holds = (json["compare"]?.elements ?? []).allSatisfy {
      let found = content.values[key($0)]
      if $0["target"]?.string == "VALUE" {
        return found?.bytes == Base64.decode($0["value"]?.string ?? "")
      }
      return found?.revision ?? 0 == $0["mod_revision"]?.whole ?? 0
    }
    let steps = json[holds ? "success" : "failure"]?.elements ?? []
    if steps.contains(where: { $0["request_put"] != nil }) { content.revision += 1 }
    var responses: [JSON] = []
    for step in steps {
      if let put = step["request_put"] {
        content.values[key(put)] = Value(
          bytes: Base64.decode(put["value"]?.string ?? "") ?? [], revision: content.revision)
        responses.append(.object([("response_put", .object([]))]))
      } else {
        let name = key(step["request_range"])
        let pairs = content.values[name].map { value in
          JSON.object([
            ("key", .string(Base64.encode(Array(name.utf8)))),
            ("mod_revision", .string("\(value.revision)")),
            ("value", .string(Base64.encode(value.bytes))),
          ])
        }
        responses.append(
          .object([
            ("response_range", .object(pairs.map { [("kvs", .array([$0]))] } ?? []))
          ]))
      }
    }
    // As protocol buffers do, what is false is left out.
    var members: [(String, JSON)] = [
      ("header", .object([("revision", .string("\(content.revision)"))])),
      ("responses", .array(responses)),
    ]
    if holds { members.append(("succeeded", .bool(true))) }
    return .object(members)
  }
}
