package import Wire

/// A request type, its method number and its answer type. Numbers are never reused.
///
/// - `NodeCalls`: what nodes answer
/// - `Coordinator/`: what coordinators answer, 512 ... 767; questions about the state say how fresh it must be
package protocol Call: WireValue {
  associatedtype Answer: WireValue
  static var method: UInt16 { get }
}

/// An answer that says only "done".
package struct Done: WireValue, Equatable {
  package init() {}
  package func encode(into writer: inout ByteWriter) {}
  package init(from reader: inout ByteReader) throws(ValueError) {}
}

/// Why a daemon refused. The numbers are part of the protocol.
package enum RefusalCode: UInt16, Sendable {
  case unknownMethod = 1
  /// The request's bytes are no valid value.
  case malformed = 2
  /// Internal failure; the log of the daemon says more.
  case failed = 3
  /// This coordinator does not lead: another may (reason: the leader's address, what it waits for, or empty).
  case notLeader = 4
  /// Nothing can be said now; ask again.
  case unavailable = 5

  case noSuchBucket = 16
  /// (reason: a ``DeleteMarkerReason`` where the key was deleted and its versions are kept).
  case noSuchKey = 17
  case bucketExists = 18
  case bucketNotEmpty = 19
  case invalidName = 20
  case preconditionFailed = 21
  case noSuchUpload = 22
  case noSuchSession = 23
  /// The session's answer was dropped or the session expired: outcome unknown.
  case outcomeUnknown = 24
  /// A registration or write under a grant that has ended.
  case grantEnded = 25
  case tooFewDomains = 26
  case invalidRange = 27
  case noSuchContainer = 28
  /// What would be left could not do without it.
  case tooLittleLeft = 29
  case noSuchCheck = 30

  case noSuchClass = 31
  /// Bytes of one storage class where another's are: they would have to be written anew.
  case otherClass = 32

  /// A node that does not have this device (or another incarnation of it).
  case noSuchDevice = 40
  case noSuchBlock = 41
  /// The block is there but its bytes are wrong.
  case corrupt = 42
  /// The epoch is below the highest this node has seen (reason: that epoch in decimal).
  case staleEpoch = 43
  /// The same block with other bytes.
  case blockExists = 44
  case deviceFull = 45
  /// The device failed and is retired.
  case deviceFailed = 46
  /// The grant's signature is wrong.
  case badGrant = 47

  case noSuchMultipart = 60
  /// A part that is not there, or not the one that was meant any more.
  case noSuchPart = 61
  /// Parts that do not ascend.
  case partOrder = 62
  /// What was to be copied is another version by now.
  case sourceChanged = 63

  /// The version that is named is a delete marker: it has no bytes.
  case isDeleteMarker = 77
  case noSuchVersion = 78
  /// A retention or a legal hold keeps the version.
  case objectLocked = 79
  /// What the bucket is by now does not allow it.
  case bucketState = 80
  /// A lock in a bucket that has none.
  case noLocks = 81
  case noSuchUser = 73
  case userExists = 74
  /// None of that name, or one that is switched off.
  case noSuchAccessKey = 75
  case noSuchPolicy = 76

  case noSuchKeyDomain = 90
  case keyDomainExists = 91
  /// A master key that is wanted is not there, or no key provider is (reason: which, and what is to be done).
  case keyUnavailable = 92
  /// The key domain's key is its clients' alone (reason: which domain, and what is to be done).
  case keyIsClients = 93
}

extension Refusal {
  package init(_ code: RefusalCode, _ reason: String) {
    self.init(code: code.rawValue, reason: reason)
  }
  package var known: RefusalCode? { RefusalCode(rawValue: code) }
}

extension WireError {
  /// The refusal's code, when this is a refusal.
  package var refusalCode: RefusalCode? {
    if case .refused(let code, _) = self { RefusalCode(rawValue: code) } else { nil }
  }
}
