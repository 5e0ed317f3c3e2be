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
