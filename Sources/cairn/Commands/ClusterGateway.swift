import Gateway
import HTTP
import Ring
import Service

/// The S3 gateway of a cluster directory and how it is reached.
struct ClusterGateway: Sendable {
  /// "http://127.0.0.1:20007"
  var endpoint: String
  var key: AccessKey

  /// Of the directory's first gateway; nil when there is none.
  init?(_ directory: ClusterDirectory, _ context: Context) async throws(Failure) {
    let daemon = directory.daemon(.gateway, 1)
    guard await context.driver.exists(daemon.configPath) else { return nil }
    guard let key = try await accessKeys(directory.accessKeysPath, context.driver).first else {
      return nil
    }
    endpoint = "http://\(await configuredAddress(daemon, context))"
    self.key = key
  }

  /// Makes a gateway's folder, with an access key that nobody can guess.
  static func create(
    _ directory: ClusterDirectory, _ address: SocketAddress, coordinators: String,
    security: String, _ driver: any Driver
  ) async throws(RingError) {
    let daemon = directory.daemon(.gateway, 1)
    try await driver.makeDirectories(daemon.folder)
    let key = AccessKey.make(driver)
    try await driver.replaceFile(
      directory.accessKeysPath,
      with: Array(
        "# Access keys of this cluster's gateway: name and secret.\n\(key.name) \(key.secret)\n"
          .utf8),
      mode: 0o600)
    let text = """
      # The S3 gateway of this cluster.
      name = "\(daemon.name)"
      listen = "\(address)"
      backend = "cluster"
      coordinators = [\(coordinators)]
      key_file = "../cluster.key"
      security = "\(security)"
      access_keys = "access-keys"
      region = "us-east-1"
      """
    try await driver.replaceFile(
      daemon.configPath, with: Array((text + "\n").utf8), mode: 0o644)
  }

  /// How clients are pointed here, for people to copy.
  var lines: [String] {
    let host = String(endpoint.dropFirst("http://".utf8.count))
    return [
      "  S3 endpoint \(endpoint)  region us-east-1",
      "  access key \(key.name)  secret \(key.secret)",
      "  export AWS_ENDPOINT_URL=\(endpoint) AWS_ACCESS_KEY_ID=\(key.name) AWS_SECRET_ACCESS_KEY=\(key.secret) AWS_DEFAULT_REGION=us-east-1",
      "  aws --endpoint-url \(endpoint) s3 ls",
      "  rclone lsd ':s3,provider=Other,endpoint=\"\(endpoint)\",access_key_id=\(key.name),secret_access_key=\(key.secret):'",
      "  s3cmd --no-ssl --host=\(host) --host-bucket=\(host) --access_key=\(key.name) --secret_key=\(key.secret) ls",
    ]
  }

  var json: JSON {
    .object([
      ("endpoint", .string(endpoint)), ("accessKey", .string(key.name)),
      ("secretKey", .string(key.secret)),
    ])
  }
}

/// Whether something that speaks HTTP and says it is ours answers there.
func isGatewayUp(_ address: SocketAddress, _ driver: any Driver) async -> Bool {
  let client = HTTPClient(
    driver: driver, endpoint: HTTPEndpoint(address: address, isSecure: false), trust: nil)
  let isUp: Bool
  do throws(HTTPError) {
    let answer = try await client.send(
      HTTPRequest("GET", "/", isRepeatable: true), deadline: .seconds(2))
    isUp = answer.head.fields["Server"] == "Cairn"
  } catch {
    isUp = false
  }
  await client.close()
  return isUp
}
