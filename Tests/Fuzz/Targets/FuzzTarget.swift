/// What is fuzzed: readers of bytes that strangers send. Each takes any bytes and tells what is wrong with how they were read; a
/// trap is found too. The same functions go over the corpora in `CorpusTests.swift` and under libFuzzer in `Entry.swift`.
enum FuzzTarget: String, CaseIterable, Sendable {
  /// The head of a request or an answer, the framing of its body, the names in its target.
  case head
  /// Every document that a client may send.
  case xml
  /// Policies of users and of buckets, and what they decide.
  case policy
  /// The signature of a request, in its headers or its address.
  case signature
  /// A body in the chunked coding, by both of its readers.
  case chunked
  /// A body in `aws-chunked` pieces.
  case pieces
  /// A browser's form, and its policy.
  case form

  /// Nil when all is well.
  func complaint(_ bytes: [UInt8]) -> String? {
    switch self {
    case .head: HeadFuzz.complaint(bytes)
    case .xml: XMLFuzz.complaint(bytes)
    case .policy: PolicyFuzz.complaint(bytes)
    case .signature: SignatureFuzz.complaint(bytes)
    case .chunked: ChunkedFuzz.complaint(bytes)
    case .pieces: PiecesFuzz.complaint(bytes)
    case .form: FormFuzz.complaint(bytes)
    }
  }
}
