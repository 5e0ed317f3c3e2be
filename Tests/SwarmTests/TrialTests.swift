import Swarm
import TestSupport
import Testing

@Suite("Trials")
struct TrialTests {
  @Test("the same seed gives the same report", arguments: Seed.several)
  func replay(seed: Seed) {
    let first = Trial.run(seed: seed.value)
    let second = Trial.run(seed: seed.value)
    #expect(first.failure == nil, "\(String(describing: first.failure))")
    #expect(first.eventHash == second.eventHash)
    #expect(first.simulated == second.simulated)
  }
}
