import TestSupport
import Testing

/// `Tests/Fuzz/corpus/TARGET/` holds one input a file: what the fuzzer found to be worth keeping, and what once was read wrongly.
private enum Corpus {
  static let folder = String(#filePath.dropLast("CorpusTests.swift".count)) + "corpus/"

  static func inputs(_ target: FuzzTarget) throws -> [(name: String, bytes: [UInt8])] {
    try files(below: folder + target.rawValue).map { ($0, try TestSupport.bytes(of: $0)) }
  }
}

@Suite("What was found by fuzzing")
struct CorpusTests {
  @Test("every input of the corpus is read as it should be", arguments: FuzzTarget.allCases)
  func replay(target: FuzzTarget) throws {
    let inputs = try Corpus.inputs(target)
    // An empty folder would pass whatever is wrong.
    #expect(inputs.count >= 5)
    for (name, bytes) in inputs {
      if let complaint = target.complaint(bytes) {
        Issue.record("\(name): \(complaint)")
      }
    }
  }

  @Test(
    "inputs of the corpus that are changed and mixed are read as they should be",
    arguments: FuzzTarget.allCases, Seed.several)
  func mutated(target: FuzzTarget, seed: Seed) throws {
    var random = seed.generator
    let inputs = try Corpus.inputs(target).map(\.bytes).filter { !$0.isEmpty }
    for _ in 0..<400 {
      var bytes = inputs.randomElement(using: &random)!
      for _ in 0..<Int.random(in: 1...4, using: &random) where !bytes.isEmpty {
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
        case 1: bytes.removeSubrange(place..<min(bytes.count, place + 8))
        case 2: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
        default:
          let other = inputs.randomElement(using: &random)!
          bytes.insert(
            contentsOf: other.dropFirst(Int.random(in: 0..<other.count, using: &random)).prefix(40),
            at: place)
        }
      }
      if let complaint = target.complaint(bytes) {
        Issue.record("\(target) \(bytes): \(complaint)")
        return
      }
    }
  }
}
