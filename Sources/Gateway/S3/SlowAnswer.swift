import HTTP
import Ring

/// A document that may take long: when it does, the answer is begun with 200 and kept alive with white space, as S3 does, and what
/// became of it stands in the document alone. Loop-confined.
final class SlowAnswer: @unchecked Sendable {
  // Loop-confined.
  private let call: S3Service.Call
  private let driver: any Driver
  private var ticker: SpawnedTask?
  private var isBroken = false

  private static let interval = Duration.seconds(5)

  init(_ call: S3Service.Call, _ driver: any Driver) {
    self.call = call
    self.driver = driver
    ticker = driver.spawn("slow answer") { [self] in
      while await driver.sleep(Self.interval) { await tick() }
    }
  }

  private func tick() async {
    if call.exchange.hasBegun {
      await send(" ")
    } else {
      call.exchange.beginStream(200, call.fields([.init("Content-Type", "application/xml")]))
      await send(XMLText.declaration)
    }
  }

  private func send(_ text: String) async {
    guard !isBroken else { return }
    do throws(HTTPError) {
      try await call.exchange.sendStream([Slice(copying: Array(text.utf8), pool: driver.buffers)])
    } catch {
      isBroken = true
    }
  }

  private func endTicks() async {
    ticker?.cancel()
    await ticker?.wait()
    ticker = nil
  }

  /// Whether it is too late for a status. No more is sent from here on.
  func hasBegun() async -> Bool {
    await endTicks()
    return call.exchange.hasBegun
  }

  /// - Parameter fields: for the head, when it is not too late for it.
  func finish(_ document: XMLText, _ fields: [HTTPFields.Line] = []) async {
    var document = document
    if await hasBegun() {
      await end(document.finish())
    } else {
      await call.answer(xml: document.finish(), fields)
    }
  }

  func finish(_ error: S3Error, resource: String) async {
    await end(error.document(resource: resource, requestID: call.requestID))
  }

  /// - Parameter document: with its declaration, which was sent already.
  private func end(_ document: [UInt8]) async {
    let text = String(decoding: document, as: UTF8.self)
    await send(
      text.hasPrefix(XMLText.declaration)
        ? String(text.dropFirst(XMLText.declaration.count)) : text)
    guard !isBroken else { return }
    do throws(HTTPError) {
      try await call.exchange.endStream()
    } catch {
      // The client is gone.
    }
  }
}
