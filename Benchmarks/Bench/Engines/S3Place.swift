import Coding
import Gateway
import HTTP
import Ring
import Service
import Wire

/// Objects through a gateway, each request signed, its body not. Loop-confined.
final class S3Place: ObjectPlace, @unchecked Sendable {
  // Loop-confined.
  private let reach: BenchGateway.Reach
  private let client: HTTPClient
  private let signer: S3Signer
  private let driver: any Driver

  private static let deadline = Duration.seconds(60)

  /// - Parameters:
  ///   - connections: to keep open.
  ///   - largest: bytes of an object.
  init(_ reach: BenchGateway.Reach, connections: Int, largest: Int, on driver: any Driver) {
    self.reach = reach
    self.driver = driver
    signer = S3Signer(reach.key, region: reach.region)
    var limits = HTTPClient.Limits()
    limits.idle = connections
    limits.bodyByteCount = largest + (64 << 10)
    client = HTTPClient(
      driver: driver, endpoint: HTTPEndpoint(address: reach.address, isSecure: false), trust: nil,
      limits: limits)
  }

  func put(_ key: String, _ noise: NoiseSource) async throws(BenchError) {
    let body = driver.buffers.slice(Int(noise.byteCount!))
    _ = noise.fill(body)
    _ = try await send("PUT", "/" + key, body: [body])
  }

  func read(_ key: String, _ range: Range<UInt64>, of byteCount: UInt64) async throws(BenchError) {
    var fields = HTTPFields()
    if range.count < Int(byteCount) {
      fields.add("Range", "bytes=\(range.lowerBound)-\(range.upperBound - 1)")
    }
    let body = try await send("GET", "/" + key, fields)
    guard body.count == range.count else {
      throw .failed("GET: \(body.count) bytes came of \(range.count)")
    }
  }

  func delete(_ key: String) async throws(BenchError) { _ = try await send("DELETE", "/" + key) }

  func makeBucket() async throws(BenchError) { _ = try await send("PUT", "") }

  /// Empties the bucket and removes it. Requests that were given up may still be carried out: what they leave goes too.
  func removeBucket() async throws(BenchError) {
    for attempt in 1... {
      for key in try await keys() { try await delete(key) }
      do throws(BenchError) {
        _ = try await send("DELETE", "")
        return
      } catch {
        guard case .failed(let text) = error, text.contains("BucketNotEmpty"), attempt < 50,
          await driver.sleep(.milliseconds(100))
        else { throw error }
      }
    }
  }

  /// The first of the bucket; all are deleted before it is asked again. Ours need no escapes.
  private func keys() async throws(BenchError) -> [String] {
    let listing = String(decoding: try await send("GET", "?list-type=2"), as: UTF8.self)
    return listing.split(separator: "<Key>").dropFirst().map { part in
      String(part[..<(part.firstRange(of: "</Key>")?.lowerBound ?? part.endIndex)])
    }
  }

  /// - Parameter path: below the bucket.
  private func send(
    _ method: String, _ path: String, _ fields: HTTPFields = HTTPFields(), body: [Slice] = []
  ) async throws(BenchError) -> [UInt8] {
    let target = "/\(reach.bucket)\(path)"
    guard
      let signed = signer.fields(
        method, target, fields, host: reach.address.description, now: driver.wallClock)
    else { throw .failed("cannot sign with access key \(reach.key.name)") }
    var request = HTTPRequest(method, target, fields: signed, isRepeatable: true)
    request.pieces = body
    let answer: HTTPResponse
    do throws(HTTPError) {
      answer = try await client.send(request, deadline: Self.deadline)
    } catch {
      throw .failed("\(method) \(target): \(error)")
    }
    guard (200..<300).contains(answer.status) else {
      let text = String(decoding: answer.body.prefix(2048), as: UTF8.self)
      func element(_ name: String) -> Substring? {
        guard let start = text.firstRange(of: "<\(name)>"),
          let end = text.firstRange(of: "</\(name)>"), start.upperBound <= end.lowerBound
        else { return nil }
        return text[start.upperBound..<end.lowerBound]
      }
      let why = [element("Code"), element("Message")].compactMap(\.self).joined(separator: ": ")
      throw .failed("\(method) \(target) was answered \(answer.status) \(why)")
    }
    return answer.body
  }

  func close() async { await client.close() }
}
