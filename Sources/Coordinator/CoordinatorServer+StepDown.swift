import Messages
import Ring
import Service
import Wire

extension CoordinatorServer {
  /// How long what is under way may take; what takes longer fails, and is sent again to the next leader.
  private static let drainBound = Duration.seconds(5)

  /// Hands the lead over. Reads are answered to the last moment.
  func stepDown() async throws(Refusal) -> StepDown.Answer {
    let leadership = try leading()
    guard arbiter.canHandOver else {
      throw Refusal(.failed, "this cluster has one coordinator: there is none to hand over to")
    }
    log.info("handing over on request", ["epoch": leadership.epoch])
    leadership.isHandingOver = true
    let end = driver.now + Self.drainBound
    while leadership.commandsUnderWay > 0 && leadership.isLeading() && driver.now < end {
      guard await driver.sleep(.milliseconds(2)) else { break }
    }
    // A term of ours that came after is not the one that was asked to end.
    guard leadership.isLeading() else { throw Refusal(.unavailable, "the lead was lost meanwhile") }
    arbiter.lose(.handedOver)
    return StepDown.Answer(epoch: leadership.epoch)
  }
}
