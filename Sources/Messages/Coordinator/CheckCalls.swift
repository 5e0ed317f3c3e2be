package import Wire

/// What a check compares.
package struct CheckParts: OptionSet, Hashable, Sendable, WireValue {
  package let rawValue: UInt8
  package init(rawValue: UInt8) { self.rawValue = rawValue }
  /// Edges, counts and indexes of the state against objects, pages and directories.
  package static let state = CheckParts(rawValue: 1)
  /// What devices hold against the directories.
  package static let devices = CheckParts(rawValue: 2)
  /// Objects whose chunks cannot be read.
  package static let objects = CheckParts(rawValue: 4)

  package func encode(into writer: inout ByteWriter) { writer.fixed(rawValue) }
  package init(from reader: inout ByteReader) throws(ValueError) {
    rawValue = try reader.fixed()
    guard rawValue != 0, rawValue < 8 else { throw .invalid("parts of a check") }
  }
}

/// Has the leader compare what the cluster knows with what there is. Answered at once; ``CheckStatus`` says how it goes. One
/// at a time.
///
/// Refused: unavailable while another is under way.
package struct StartCheck: Call {
  package static let method: UInt16 = 530
  package var parts: CheckParts
  /// Whether what is safe to be mended is: what devices lack is written anew, what nothing names is deleted. Otherwise nothing
  /// is changed.
  package var repairs: Bool
  package init(parts: CheckParts, repairs: Bool) {
    self.parts = parts
    self.repairs = repairs
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(parts)
    writer.bool(repairs)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    parts = try reader.value()
    repairs = try reader.bool()
  }
  package struct Answer: Hashable, Sendable, WireValue {
    /// Its number, which only this leader knows.
    package var check: UInt64
    package init(check: UInt64) { self.check = check }
    package func encode(into writer: inout ByteWriter) { writer.varint(check) }
    package init(from reader: inout ByteReader) throws(ValueError) { check = try reader.varint() }
  }
}

/// How a check goes, and what it found. Refused: noSuchCheck when this leader did not begin it, or began another since.
package struct CheckStatus: Call {
  package static let method: UInt16 = 531
  /// Findings of one answer.
  package static let pageLimit = 256
  package var check: UInt64
  /// Findings that the caller has.
  package var after: UInt64
  package init(check: UInt64, after: UInt64) {
    self.check = check
    self.after = after
  }
  package func encode(into writer: inout ByteWriter) {
    writer.varint(check)
    writer.varint(after)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    check = try reader.varint()
    after = try reader.varint()
  }

  package struct Answer: Hashable, Sendable, WireValue {
    package var isDone: Bool
    /// Why it ended before its end; empty when it did not.
    package var failure: String
    /// What is being looked at, for people.
    package var phase: String
    /// Of the phase; the total is 0 while it is not known.
    package var done: UInt64
    package var total: UInt64
    /// Found so far; beyond some thousands they are only counted.
    package var findingCount: UInt64
    /// Those after the caller's, the first ``CheckStatus/pageLimit`` of them.
    package var findings: [Finding]
    package init(
      isDone: Bool, failure: String, phase: String, done: UInt64, total: UInt64,
      findingCount: UInt64, findings: [Finding]
    ) {
      self.isDone = isDone
      self.failure = failure
      self.phase = phase
      self.done = done
      self.total = total
      self.findingCount = findingCount
      self.findings = findings
    }
    package func encode(into writer: inout ByteWriter) {
      writer.bool(isDone)
      writer.string(failure)
      writer.string(phase)
      writer.varint(done)
      writer.varint(total)
      writer.varint(findingCount)
      writer.list(findings)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      isDone = try reader.bool()
      failure = try reader.string(limit: 4096)
      phase = try reader.string(limit: 256)
      done = try reader.varint()
      total = try reader.varint()
      findingCount = try reader.varint()
      findings = try reader.list(limit: CheckStatus.pageLimit)
    }
  }

  package struct Finding: Hashable, Sendable, WireValue {
    package enum Kind: UInt8, Sendable, CaseIterable {
      /// The state contradicts itself.
      case state = 0
      /// A device holds a shard that nothing names.
      case stray = 1
      /// A device holds blocks of a shard that no directory names.
      case unregistered = 2
      /// A device lacks blocks that a directory names.
      case missing = 3
      /// A device has blocks that it knows to be wrong.
      case damaged = 4
      /// The metadata log has too few copies.
      case log = 5
      /// What a device holds could not be looked at.
      case unchecked = 6
      /// An object cannot be read whole.
      case object = 7
    }
    package var kind: Kind
    /// A device, a container, an object.
    package var subject: String
    /// What is wrong, for people.
    package var text: String
    /// Whether it was mended, or is being.
    package var isRepaired: Bool
    package init(kind: Kind, subject: String, text: String, isRepaired: Bool) {
      self.kind = kind
      self.subject = subject
      self.text = text
      self.isRepaired = isRepaired
    }
    package func encode(into writer: inout ByteWriter) {
      writer.fixed(kind.rawValue)
      writer.string(subject)
      writer.string(text)
      writer.bool(isRepaired)
    }
    package init(from reader: inout ByteReader) throws(ValueError) {
      guard let known = Kind(rawValue: try reader.fixed()) else { throw .invalid("finding") }
      kind = known
      subject = try reader.string(limit: 4096)
      text = try reader.string(limit: 4096)
      isRepaired = try reader.bool()
    }
  }
}
