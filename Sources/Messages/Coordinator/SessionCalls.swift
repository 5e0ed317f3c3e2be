package import Wire

/// Opens a session for commands. It lives while it is used or kept; the leader expires it after `lifetimeMilliseconds` of silence.
package struct OpenSession: Call {
  package static let method: UInt16 = 513
  /// What the client calls itself, for people.
  package var client: String

  package init(client: String) {
    self.client = client
  }
  package func encode(into writer: inout ByteWriter) {
    writer.string(client)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    client = try reader.string()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    package var session: UInt64
    package var lifetimeMilliseconds: UInt32

    package init(session: UInt64, lifetimeMilliseconds: UInt32) {
      self.session = session
      self.lifetimeMilliseconds = lifetimeMilliseconds
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(session)
      writer.varint(lifetimeMilliseconds)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      session = try reader.varint()
      lifetimeMilliseconds = try reader.varint32()
    }
  }
}

/// Refused: noSuchSession.
package struct KeepSession: Call {
  package static let method: UInt16 = 514
  package typealias Answer = Done
  package var session: UInt64

  package init(session: UInt64) {
    self.session = session
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
  }
}

/// Carries out one command exactly once, however often it is sent. At most 1,024 may be unanswered.
/// Refused: noSuchSession, outcomeUnknown, notLeader, unavailable.
package struct Execute: Call {
  package static let method: UInt16 = 515
  package var session: UInt64
  /// Counts up from 1 in a session.
  package var sequence: UInt64
  /// Outcomes below this sequence number may be forgotten.
  package var lowestUnanswered: UInt64
  package var command: ClientCommand

  package init(session: UInt64, sequence: UInt64, lowestUnanswered: UInt64, command: ClientCommand)
  {
    self.session = session
    self.sequence = sequence
    self.lowestUnanswered = lowestUnanswered
    self.command = command
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
    writer.varint(sequence)
    writer.varint(lowestUnanswered)
    writer.value(command)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
    sequence = try reader.varint()
    lowestUnanswered = try reader.varint()
    command = try reader.value()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// The log position after which the effect is seen.
    package var position: UInt64
    package var outcome: CommandOutcome

    package init(position: UInt64, outcome: CommandOutcome) {
      self.position = position
      self.outcome = outcome
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(position)
      writer.value(outcome)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      position = try reader.varint()
      outcome = try reader.value()
    }
  }
}

/// Carries out several commands of a session, each exactly once and as ``Execute`` does, in any order, and answers when all have
/// their outcomes. What is refused of one says nothing of the others.
/// Refused: noSuchSession, notLeader; then none was carried out for this request.
package struct ExecuteAll: Call {
  package static let method: UInt16 = 560
  package static let limit = 256
  package var session: UInt64
  package var lowestUnanswered: UInt64
  package var commands: [Numbered]

  package struct Numbered: Hashable, Sendable, WireValue {
    package var sequence: UInt64
    package var command: ClientCommand

    package init(sequence: UInt64, command: ClientCommand) {
      self.sequence = sequence
      self.command = command
    }
    package func encode(into writer: inout ByteWriter) {
      writer.varint(sequence)
      writer.value(command)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      sequence = try reader.varint()
      command = try reader.value()
    }
  }

  /// - Parameter commands: at most ``limit``.
  package init(session: UInt64, lowestUnanswered: UInt64, commands: [Numbered]) {
    self.session = session
    self.lowestUnanswered = lowestUnanswered
    self.commands = commands
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
    writer.varint(lowestUnanswered)
    writer.list(commands)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
    lowestUnanswered = try reader.varint()
    commands = try reader.list(limit: Self.limit)
  }

  /// Each command as a request of its own.
  package var each: [Execute] {
    commands.map {
      Execute(
        session: session, sequence: $0.sequence, lowestUnanswered: lowestUnanswered,
        command: $0.command)
    }
  }

  package enum Outcome: Hashable, Sendable, WireValue {
    case answered(Execute.Answer)
    /// As the call would be refused for this command alone.
    case refused(code: UInt16, reason: String)

    package func encode(into writer: inout ByteWriter) {
      switch self {
      case .answered(let answer):
        writer.fixed(UInt8(0))
        writer.value(answer)
      case .refused(let code, let reason):
        writer.fixed(UInt8(1))
        writer.fixed(code)
        writer.string(reason)
      }
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      switch try reader.fixed(UInt8.self) {
      case 0: self = .answered(try reader.value())
      case 1: self = .refused(code: try reader.fixed(), reason: try reader.string())
      default: throw .invalid("outcome of a command")
      }
    }
  }

  package struct Answer: Hashable, Sendable, WireValue {
    /// One for each command, in their order.
    package var outcomes: [Outcome]

    package init(outcomes: [Outcome]) { self.outcomes = outcomes }
    package func encode(into writer: inout ByteWriter) { writer.list(outcomes) }
    package init(from reader: inout ByteReader) throws(ValueError) {
      outcomes = try reader.list(limit: ExecuteAll.limit)
    }
  }
}

/// Ends a session, its uploads and grants with it.
package struct CloseSession: Call {
  package static let method: UInt16 = 516
  package typealias Answer = Done
  package var session: UInt64

  package init(session: UInt64) {
    self.session = session
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(session)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    session = try reader.varint()
  }
}
