package import Ring
package import Wire

extension WireClient {
  /// A typed call: encodes, sends, decodes.
  ///
  /// - Parameters:
  ///   - body: bulk bytes beside the request.
  ///   - bodySums: their ``Packet/bodySums``, if known.
  /// - Returns: the answer, the bulk bytes beside it (empty slice list when there are none), and the CRC32C of each 4 KiB
  ///   of those.
  package func call<Request: Call>(
    _ request: Request, body: [Slice] = [], bodySums: [UInt32]? = nil, at address: SocketAddress,
    deadline: Duration
  ) async throws(WireError) -> (answer: Request.Answer, body: [Slice], bodySums: [UInt32]) {
    let packet = try await call(
      address, method: Request.method,
      Packet(message: request.encoded, body: body, bodySums: bodySums), deadline: deadline)
    do {
      return (try Request.Answer(decoding: packet.message), packet.body, packet.bodySums ?? [])
    } catch {
      throw .malformed("answer to method \(Request.method): \(error)")
    }
  }
}
