import Foundation
import Ring
import TestSupport
import Testing

@testable import cairn

@Suite("the plan of a put")
struct PutPlanTests {
  @Test("a command that was interrupted does not look at the rest of the tree first")
  func interrupted() async throws {
    let folder = NSTemporaryDirectory() + "cairn-test-" + UUID().uuidString
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.createDirectory(
      atPath: folder + "/a/b", withIntermediateDirectories: true)
    func itemCount(isInterrupted: Bool) throws -> Int? {
      try EventLoop.run { driver in
        let planned = Outcome<Int>()
        let task = driver.spawn("plan") {
          do throws(Failure) {
            let context = Context(
              driver: driver, output: Output(driver: driver),
              arguments: try Arguments([], options: [], operands: 0...0))
            planned.value = try await planPut(
              sources: [folder], target: try Location("cairn://bucket/k"), recursive: true, context
            ).items.count
          } catch {}
        }
        if isInterrupted { task.cancel() }
        await task.wait()
        return planned.value
      }
    }
    #expect(try itemCount(isInterrupted: false) == 3)
    #expect(try itemCount(isInterrupted: true) == nil)
  }
}
