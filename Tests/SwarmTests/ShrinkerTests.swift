import Swarm
import TestSupport
import Testing

@Suite("Shrinking a failing trial")
struct ShrinkerTests {
  private typealias Candidate = Shrinker.Candidate

  private func shrink(
    _ start: Candidate, width: Int = 1, isOver: @escaping () -> Bool = { false },
    fails: @escaping (Candidate) -> Bool
  ) async -> (found: Candidate, tries: Int) {
    var tries = 0
    var steps: [Candidate] = []
    let shrinker = Shrinker(
      width: width,
      fails: { candidates in
        #expect(!candidates.isEmpty && candidates.count <= width)
        tries += candidates.count
        return candidates.map(fails)
      }, isOver: isOver, progress: { steps.append($0) })
    let found = await shrinker.shrink(start)
    #expect(steps.allSatisfy(fails), "a step that does not fail was taken")
    #expect(found == steps.last ?? start)
    return (found, tries)
  }

  @Test("what is needed stays, everything else goes", arguments: Seed.several, [1, 2, 5])
  func minimal(seed: Seed, width: Int) async {
    var random = seed.generator
    let faultCount = Int.random(in: 0...40, using: &random)
    let operationCount = Int.random(in: 0...300, using: &random)
    func some(of count: Int) -> Set<Int> {
      Set((0..<count).shuffled(using: &random).prefix(Int.random(in: 0...3, using: &random)))
    }
    let faults = some(of: faultCount)
    let operations = some(of: operationCount)
    let least = Int.random(in: 1...60, using: &random)
    let (found, _) = await shrink(
      Candidate(
        faults: Array(0..<faultCount), operations: Array(0..<operationCount), seconds: 60),
      width: width
    ) {
      faults.isSubset(of: $0.faults) && operations.isSubset(of: $0.operations)
        && $0.seconds >= least
    }
    #expect(found.faults == faults.sorted())
    #expect(found.operations == operations.sorted())
    #expect(found.seconds >= least && found.seconds < max(2 * least, 2))
  }

  @Test("one of two faults is enough, whichever is tried first")
  func either() async {
    let start = Candidate(faults: Array(0..<16), operations: [], seconds: 1)
    let (found, _) = await shrink(start) { $0.faults.contains(3) || $0.faults.contains(12) }
    #expect(found.faults == [3] || found.faults == [12])
  }

  @Test("a few hundred tries are enough for three among a thousand")
  func bounded() async {
    let start = Candidate(faults: [], operations: Array(0..<1000), seconds: 1)
    let (found, tries) = await shrink(start) {
      Set([7, 500, 998]).isSubset(of: $0.operations)
    }
    #expect(found.operations == [7, 500, 998])
    #expect(tries < 200, "\(tries) tries")
  }

  @Test("when the time is over the best so far is kept")
  func overTime() async {
    var asked = 0
    let start = Candidate(faults: Array(0..<64), operations: Array(0..<64), seconds: 8)
    let (found, _) = await shrink(
      start,
      isOver: {
        asked += 1
        return asked > 6
      }, fails: { $0.faults.contains(5) })
    #expect(found.faults.contains(5))
    #expect(found.faults.count > 1 && found.faults.count < 64)
  }
}
