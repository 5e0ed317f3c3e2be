import Messages
import Testing

@testable import Swarm

@Suite struct HistoryCheckerTests {
  // MARK: One key

  @Test("reads see the last write, or one that overlaps them")
  func sequential() {
    var story = Story()
    story.did(look("x"), .noSuchKey)
    story.did(put("x", "a"), written(1))
    story.did(look("x"), seen("a", 1))
    let overwrite = story.begin(put("x", "b"))
    story.did(look("x"), seen("a", 1))
    story.did(look("x"), seen("b", 2))
    story.did(look("x"), seen("b", 2))
    story.end(overwrite, written(2))
    story.did(delete("x"), .done)
    story.did(look("x"), .noSuchKey)
    story.did(delete("x"), .noSuchKey)
    #expect(story.verdict == nil)
  }

  @Test("an acknowledged write that is not there is found")
  func lostWrite() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(look("x"), .noSuchKey)
    #expect(!story.isAllowed)

    story = Story()
    story.did(put("x", "a"), written(1))
    story.did(put("x", "b"), written(2))
    story.did(look("x"), seen("a", 1))
    #expect(!story.isAllowed)
  }

  @Test("a stale read is found, also when the newer write was only seen by others")
  func stale() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    let overwrite = story.begin(put("x", "b"))
    story.did(look("x"), seen("b", 2))
    #expect(story.isAllowed)
    story.did(look("x"), seen("a", 1))
    story.end(overwrite, written(2))
    #expect(!story.isAllowed)
  }

  @Test("an object that is back after its deletion is found")
  func resurrection() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(delete("x"), .done)
    story.did(look("x"), seen("a", 1))
    #expect(!story.isAllowed)
  }

  @Test("a write in doubt may take effect never, late, and after others, but once")
  func inDoubt() {
    var never = Story()
    never.did(put("x", "a"), written(1))
    never.lost(put("x", "b"))
    never.did(look("x"), seen("a", 1))
    never.did(look("x"), seen("a", 1))
    #expect(never.verdict == nil)

    var late = Story()
    late.did(put("x", "a"), written(1))
    late.lost(put("x", "b"))
    late.did(look("x"), seen("a", 1))
    late.did(put("x", "c"), written(2))
    late.did(look("x"), seen("c", 2))
    late.did(look("x"), seen("b", 3))
    #expect(late.verdict == nil)

    var back = late
    back.did(look("x"), seen("c", 2))
    #expect(!back.isAllowed)

    var twice = late
    twice.did(put("x", "d"), written(4))
    twice.did(look("x"), seen("b", 5))
    #expect(!twice.isAllowed)
  }

  @Test("an answer that nothing is known after is as good as none")
  func answeredInDoubt() {
    var story = Story()
    story.did(put("x", "a"), .inDoubt)
    story.did(look("x"), .noSuchKey)
    story.did(look("x"), seen("a", 4))
    #expect(story.verdict == nil)
  }

  @Test("a retried delete that strikes a later put is found")
  func deleteTwice() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(delete("x"), .done)
    story.did(put("x", "b"), written(3))
    story.did(look("x"), .noSuchKey)
    #expect(!story.isAllowed)

    // One in doubt may strike late, but not twice.
    story = Story()
    story.did(put("x", "a"), written(1))
    story.lost(delete("x"))
    story.did(look("x"), seen("a", 1))
    story.did(put("x", "b"), written(3))
    story.did(look("x"), .noSuchKey)
    #expect(story.verdict == nil)
    story.did(put("x", "c"), written(5))
    story.did(look("x"), .noSuchKey)
    #expect(!story.isAllowed)
  }

  @Test("a retried put that takes effect twice is found")
  func putTwice() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(delete("x"), .done)
    story.did(look("x"), seen("a", 3))
    #expect(!story.isAllowed)
  }

  @Test("a refused write without effect is believed, with effect it is found")
  func refused() {
    var story = Story()
    story.did(put("x", "a"), .failed)
    story.did(look("x"), .noSuchKey)
    #expect(story.verdict == nil)
    story.did(look("x"), seen("a", 1))
    #expect(!story.isAllowed)
  }

  @Test("answers follow the order of the log")
  func logOrder() {
    var story = Story()
    story.did(put("x", "a"), written(5))
    story.did(put("x", "b"), written(4))
    #expect(!story.isAllowed)
  }

  @Test("a version is one thing, wherever it is seen")
  func oneVersion() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(look("x"), seen("b", 1, mark: "a"))
    #expect(story.verdict?.property == "one version")

    story = Story()
    story.did(put("x", "a"), written(1))
    story.did(put("y", "b"), written(1))
    story.did(look("x"), seen("a", 1))
    story.did(look("y"), seen("b", 1))
    #expect(story.verdict?.property == "one version")

    story = Story()
    story.did(look("x"), seen("a", 1))
    #expect(story.verdict?.property == "one version")
  }

  @Test("a reader that is told of a change is told the truth")
  func changed() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    let overwrite = story.begin(put("x", "b"))
    story.did(look("x"), seen("a", 1))
    story.did(look("x"), .changed(from: 1))
    story.end(overwrite, written(2))
    #expect(story.verdict == nil)

    story = Story()
    story.did(put("x", "a"), written(1))
    story.did(look("x"), .changed(from: 1))
    #expect(!story.isAllowed)
  }

  // MARK: Conditions

  @Test("conditions hold at one moment with the write")
  func conditions() {
    var story = Story()
    story.did(put("x", "a", if: .absent), written(1))
    story.did(put("x", "b", if: .absent), .preconditionFailed)
    story.did(put("x", "c", if: .identity(1)), written(2))
    story.did(put("x", "d", if: .identity(1)), .preconditionFailed)
    story.did(delete("x", if: .identity(1)), .preconditionFailed)
    story.did(delete("x", if: .identity(2)), .done)
    story.did(put("x", "e", if: .identity(2)), .preconditionFailed)
    story.did(put("x", "f", if: .absent), written(8))
    #expect(story.verdict == nil)
  }

  @Test("of two writers who both want to be first one wins")
  func conditionTwice() {
    var story = Story()
    let one = story.begin(put("x", "a", if: .absent))
    let other = story.begin(put("x", "b", if: .absent))
    story.end(one, written(1))
    var fair = story
    fair.end(other, .preconditionFailed)
    #expect(fair.verdict == nil)
    story.end(other, written(2))
    #expect(!story.isAllowed)
  }

  @Test("a condition refused without reason is found")
  func refusedCondition() {
    var story = Story()
    story.did(put("x", "a", if: .absent), .preconditionFailed)
    #expect(!story.isAllowed)

    story = Story()
    story.did(put("x", "a"), written(1))
    story.did(put("x", "b", if: .identity(1)), .preconditionFailed)
    #expect(!story.isAllowed)
  }

  @Test("a put of what is there already leaves it, and only that")
  func identical() {
    var story = Story()
    story.did(put("x", "a", unlessIdentical: true), written(1))
    story.did(put("x", "a", unlessIdentical: true), written(1))
    story.did(look("x"), seen("a", 1))
    story.did(put("x", "b"), written(3))
    story.did(put("x", "a", unlessIdentical: true), written(4))
    #expect(story.verdict == nil)
    // Version 1 is gone: nothing was found then.
    story.did(put("x", "b"), written(5))
    story.did(put("x", "a", unlessIdentical: true), written(4))
    #expect(!story.isAllowed)
  }

  @Test("a put found what another in doubt had made")
  func identicalInDoubt() {
    var story = Story()
    story.lost(put("x", "a", unlessIdentical: true))
    story.did(put("x", "a", unlessIdentical: true), written(1))
    story.did(look("x"), seen("a", 1))
    #expect(story.verdict == nil)
  }

  // MARK: Copies and moves

  @Test("a copy has what its source had at one moment")
  func copies() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(copy("x", "y"), written(2))
    story.did(put("x", "b"), written(3))
    story.did(look("y"), seen("a", 2))
    story.did(copy("x", "y", tag: "mine"), written(5))
    story.did(look("y"), seen("b", 5, mark: "mine"))
    story.did(copy("z", "y"), .noSuchKey)
    story.did(copy("x", "y", if: .absent), .preconditionFailed)
    #expect(story.verdict == nil)
  }

  @Test("a copy of stale bytes is found, whatever mark it has", arguments: [nil, "mine"])
  func staleCopy(tag: String?) {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(put("x", "b"), written(2))
    story.did(copy("x", "y", tag: tag), written(3))
    story.did(look("y"), seen("a", 3, mark: tag))
    #expect(!story.isAllowed)
  }

  @Test("a copy reads at its place in the log")
  func copyPosition() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    let write = story.begin(put("x", "b"))
    let copying = story.begin(copy("x", "y"))
    story.end(write, written(3))
    story.end(copying, written(2))
    story.did(look("y"), seen("b", 2))
    #expect(!story.isAllowed)
  }

  @Test("a copy of nothing is found")
  func copyOfNothing() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(delete("x"), .done)
    story.did(copy("x", "y"), written(3))
    #expect(!story.isAllowed)
  }

  @Test("a copy onto itself makes a new version of the same")
  func selfCopy() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(copy("x", "x"), written(2))
    story.did(look("x"), seen("a", 2))
    story.did(move("x", "x", tag: "mine"), written(4))
    story.did(look("x"), seen("a", 4, mark: "mine"))
    #expect(story.verdict == nil)
    story.did(look("x"), seen("a", 2))
    #expect(!story.isAllowed)
  }

  @Test("a move is there and not here", arguments: [nil, "mine"])
  func moves(tag: String?) {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(move("x", "y", tag: tag), written(2))
    var good = story
    good.did(look("x"), .noSuchKey)
    good.did(look("y"), seen("a", 2, mark: tag))
    #expect(good.verdict == nil)
    var kept = story
    kept.did(look("x"), seen("a", 1))
    #expect(!kept.isAllowed)
    var lost = story
    lost.did(look("y"), .noSuchKey)
    #expect(!lost.isAllowed)
  }

  @Test("a move in doubt happened whole or not at all", arguments: [nil, "mine"])
  func halfMoves(tag: String?) {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.did(put("y", "b"), written(2))
    story.lost(move("x", "y", tag: tag))
    var done = story
    done.did(look("x"), .noSuchKey)
    done.did(look("y"), seen("a", 5, mark: tag))
    #expect(done.verdict == nil)
    var undone = story
    undone.did(look("y"), seen("b", 2))
    undone.did(look("x"), seen("a", 1))
    #expect(undone.verdict == nil)
    var lost = story
    lost.did(look("x"), .noSuchKey)
    lost.did(look("y"), seen("b", 2))
    #expect(lost.verdict?.property == "both halves of a move")
    var doubled = story
    doubled.did(look("y"), seen("a", 5, mark: tag))
    doubled.did(look("x"), seen("a", 1))
    #expect(!doubled.isAllowed)
    // Overwritten before anybody saw it.
    var covered = story
    covered.did(put("y", "c"), written(7))
    covered.did(look("x"), .noSuchKey)
    covered.did(look("y"), seen("c", 7))
    #expect(covered.verdict == nil)
  }

  @Test("chains of moves in doubt are explained together")
  func chains() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.lost(move("x", "y"))
    story.lost(move("y", "z"))
    var all = story
    all.did(look("z"), seen("a", 4))
    all.did(look("x"), .noSuchKey)
    all.did(look("y"), .noSuchKey)
    #expect(all.verdict == nil)
    var none = story
    none.did(look("x"), .noSuchKey)
    none.did(look("y"), .noSuchKey)
    none.did(look("z"), .noSuchKey)
    #expect(!none.isAllowed)
  }

  @Test("a move that had effect twice is found")
  func moveTwice() {
    var story = Story()
    story.did(put("x", "a"), written(1))
    story.lost(move("x", "y"))
    story.did(look("y"), seen("a", 2))
    story.did(put("x", "b"), written(3))
    story.did(look("y"), seen("b", 4))
    #expect(!story.isAllowed)
  }

  // MARK: Listings

  @Test("a page shows what each key held at some moment")
  func pages() {
    var story = Story()
    story.did(put("a/1", "1"), written(1))
    story.did(put("a/2", "2"), written(2))
    story.did(put("b", "3"), written(3))
    story.did(put("c", "4"), written(4))
    story.did(delete("c"), .done)
    story.did(list(), page([("a/1", "1", 1), ("a/2", "2", 2), ("b", "3", 3)]))
    story.did(list(limit: 2), page([("a/1", "1", 1), ("a/2", "2", 2)], next: "a/2"))
    story.did(list(after: "a/2"), page([("b", "3", 3)]))
    story.did(list("a/"), page([("a/1", "1", 1), ("a/2", "2", 2)]))
    story.did(list(delimiter: "/"), page([("b", "3", 3)], prefixes: ["a/"]))
    #expect(story.verdict == nil)
  }

  @Test(
    "a page that leaves out, keeps, mixes up or makes up a key is found",
    arguments: [
      page([("a/1", "1", 1)]),
      page([("a/1", "1", 1), ("b", "3", 3), ("c", "4", 4)]),
      page([("a/1", "1", 1), ("b", "0", 2)]),
      page([("b", "3", 3), ("a/1", "1", 1)]),
      page([("a/1", "1", 1), ("b", "3", 3), ("d", "3", 3)]),
      page([("a/1", "1", 1)], next: "b"),
    ])
  func wrongPages(page: History.Outcome) {
    var story = Story()
    story.did(put("a/1", "1"), written(1))
    story.did(put("b", "0"), written(2))
    story.did(put("b", "3"), written(3))
    story.did(put("c", "4"), written(4))
    story.did(delete("c"), .done)
    story.did(list(), page)
    #expect(!story.isAllowed)
  }

  @Test("a group without keys, or keys without their group, is found")
  func groups() {
    var story = Story()
    story.did(put("a/1", "1"), written(1))
    var missing = story
    missing.did(list(delimiter: "/"), page([]))
    #expect(!missing.isAllowed)
    story.did(delete("a/1"), .done)
    story.did(list(delimiter: "/"), page([], prefixes: ["a/"]))
    #expect(!story.isAllowed)
  }

  // MARK: Buckets

  @Test("a bucket that was removed was empty, and nothing is in it till it is made again")
  func buckets() {
    var story = Story()
    story.did(.createBucket("b"), .done)
    story.did(.createBucket("b"), .bucketExists)
    story.did(put("x", "a"), written(2))
    story.did(.removeBucket("b"), .bucketNotEmpty)
    story.did(delete("x"), .done)
    story.did(.removeBucket("b"), .done)
    story.did(put("x", "b"), .noSuchBucket)
    story.did(look("x"), .noSuchBucket)
    story.did(.listBuckets, .buckets([]))
    story.did(.removeBucket("b"), .noSuchBucket)
    story.did(.createBucket("b"), .done)
    story.did(look("x"), .noSuchKey)
    story.did(.listBuckets, .buckets(["b"]))
    #expect(story.verdict == nil)
  }

  @Test("a bucket that is removed with a key in it is found")
  func fullBucket() {
    var story = Story()
    story.did(.createBucket("b"), .done)
    story.did(put("x", "a"), written(2))
    story.did(.removeBucket("b"), .done)
    #expect(!story.isAllowed)
  }

  @Test("a bucket that is gone by itself is found")
  func lostBucket() {
    var story = Story()
    story.did(.createBucket("b"), .done)
    story.did(look("x"), .noSuchBucket)
    #expect(!story.isAllowed)
  }

  @Test("a copy from a bucket never made says nothing of the target's; lasting ones are there")
  func copyWithoutBucket() {
    var story = Story()
    story.did(.createBucket("b"), .done)
    story.did(put("x", "a"), written(2))
    story.did(.removeBucket("b"), .bucketNotEmpty)
    let copy = History.Action.copy(
      source: name("y", "c"), target: name("x"), tag: nil, moves: false, condition: .none)
    story.did(copy, .noSuchBucket)
    #expect(story.verdict == nil)

    story = Story()
    story.did(.createBucket("b"), .done)
    story.did(.createBucket("c"), .done)
    story.did(copy, .noSuchBucket)
    #expect(!story.isAllowed)
  }
}
