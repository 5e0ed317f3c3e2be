import Coding
import Messages
import Ring
import Service

/// `cairn admin scheme [K+M]`: what scheme data get, and its change.
func adminScheme(_ context: Context) async throws(Failure) {
  var wanted: Scheme?
  if let text = context.arguments.operands.first {
    guard let scheme = Scheme(text) else {
      throw .usage("not a scheme, as 6+3 is: \(text)")
    }
    wanted = scheme
  }
  let asked = wanted
  try await Client.with(context) { client throws(Failure) in
    let subject = asked.map { "\($0)" } ?? "scheme"
    var answer = try await client.ask(ChangeScheme(scheme: asked), about: subject)
    // The log gets more copies first: a new link and a checkpoint, some ten seconds.
    let end = context.driver.now + .seconds(120)
    while let asked, answer.scheme != asked {
      guard context.driver.now < end, await context.driver.sleep(.seconds(1)) else {
        throw .failed(
          "the metadata log has \(answer.logCopies) copies and not yet \(asked.m + 1): ask again",
          subject)
      }
      answer = try await client.ask(ChangeScheme(scheme: asked), about: subject)
    }
    if context.arguments.has("--json") {
      try await client.output.line(
        JSON.object([
          ("scheme", .string(answer.scheme.description)),
          ("logCopies", .number(UInt64(answer.logCopies))),
          ("reencodeContainers", .number(answer.otherContainers)),
        ]).text)
    } else {
      try await client.output.line(
        "\(answer.scheme), \(answer.logCopies) copies of the metadata log")
      if answer.scheme.m == 0 { try await client.output.line(noParity) }
      if answer.otherContainers > 0 {
        let patience = Duration.milliseconds(Int64(clamping: answer.patienceMilliseconds)).text
        try await client.output.line(
          "\(counted(answer.otherContainers, "container")) of another scheme: written anew once there was room for it for \(patience); 'cairn admin repair status' says how far that is"
        )
      }
    }
    try await client.output.flush()
  }
}

/// What whoever asks for a scheme without parity is to know.
let noParity = "no parity: the loss of one device loses what is on it"
