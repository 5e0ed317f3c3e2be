import Cluster
import TestSupport
import Testing
import Wire

@Suite("Stripe tallies")
struct StripeTallyTests {
  @Test(
    "the same stripes have the same tally in any order; another in the place of one has not",
    arguments: Seed.several)
  func tallies(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<200 {
      let stripes = Set(
        (0..<Int.random(in: 1...60, using: &random)).map { _ in
          UInt64.random(in: 0..<8192, using: &random)
        })
      let tally = StripeTally(stripes)
      #expect(StripeTally(stripes.shuffled(using: &random)) == tally)
      #expect(tally.count == UInt64(stripes.count))
      #expect(try StripeTally(decoding: tally.encoded) == tally)
      var others = stripes
      others.remove(others.randomElement(using: &random)!)
      #expect(StripeTally(others) != tally)
      others.insert(8192)
      #expect(StripeTally(others) != tally)
    }
  }
}
