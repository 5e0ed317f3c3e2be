package import Ring
package import Wire

extension WireClient {
  /// A typed call: encodes, sends, decodes.
  ///
  /// - Parameter body: bulk bytes beside the request.
  /// - Returns: the answer and the bulk bytes beside it (empty slice list when there are none).
  package func call<Request: Call>(
    _ request: Request, body: [Slice] = [], at address: SocketAddress, deadline: Duration
  ) async throws(WireError) -> (answer: Request.Answer, body: [Slice]) {
    let packet = try await call(
      address, method: Request.method, Packet(message: request.encoded, body: body),
      deadline: deadline)
    do {
      return (try Request.Answer(decoding: packet.message), packet.body)
    } catch {
      throw .malformed("answer to method \(Request.method): \(error)")
    }
  }
}
