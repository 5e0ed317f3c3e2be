import Ring
import TestSupport
import Testing

@testable import cairn

/// Keys and paths are bytes: whatever two strings look like, they are one key only when their bytes are the same.
@Suite("locations")
struct LocationTests {
  /// Pieces whose neighbours `String` likes to melt together, or to take for one another.
  private static let pieces = [
    "/", "/", "a", "é", "e\u{301}", "\u{301}", "\u{200D}", "K", "\u{212A}", "ﬁ", "🇩🇪", "\u{1F1E9}",
    ".",
    "..", " ", "\r", "\n", "\r\n", "\u{10FEFF}", "\0",
  ]

  private func text(_ random: inout SeededGenerator) -> String {
    // By scalars: joining strings would not change them either, but this says so.
    var scalars = String.UnicodeScalarView()
    for _ in 0..<Int(random.next() % 9) {
      let piece = Self.pieces[Int(random.next() % UInt64(Self.pieces.count))]
      scalars.append(contentsOf: piece.unicodeScalars)
    }
    return String(scalars)
  }

  /// As the command line hands a word in.
  private func word(_ text: String) -> String { PathText.string(Array(text.utf8)) }

  @Test("a location is cut where its bytes say", arguments: Seed.several)
  func cut(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<2000 {
      let bucket = "bucket-\(random.next() % 100)"
      let key = text(&random)
      let bytes = Array("cairn://\(bucket)/".utf8) + Array(key.utf8)
      let location = try Location(PathText.string(bytes))
      #expect(Array(location.bucket.utf8) == Array(bucket.utf8))
      #expect(Array(location.key.utf8) == Array(key.utf8))
      #expect(Array(location.text.utf8) == bytes)
    }
  }

  @Test("what names no bucket that there can be is wrong usage", arguments: Seed.several)
  func buckets(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<2000 {
      let bucket = text(&random).replacing("/", with: "")
      if NameKind.bucket.brokenRule(bucket) == nil { continue }
      for word in ["cairn://" + bucket, "cairn://\(bucket)/key"] {
        do throws(Failure) {
          _ = try Location(PathText.string(Array(word.utf8)))
          Issue.record("\(word)")
        } catch {
          #expect(error.exitStatus == 2)
        }
      }
    }
    for kind in NameKind.allCases {
      for name in ["", "a b", "é", String(repeating: "x", count: 129)] {
        do throws(Failure) {
          try kind.check(name)
          Issue.record("\(kind) \(name)")
        } catch {
          #expect(error.exitStatus == 2)
        }
      }
    }
  }

  @Test(
    "a tree's objects land below the target as they were below the source", arguments: Seed.several)
  func treeTargets(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<2000 {
      let (base, below, other) = (text(&random), text(&random), text(&random))
      let source = Location(bucket: "bucket", key: base)
      let target = Location(bucket: "other", key: other)
      let key = source.prefix + below
      if key.isEmpty { continue }
      let wanted = Array(target.prefix.utf8) + Array(below.utf8)
      let found = treeTarget(of: key, from: source, to: target)
      #expect(found.map { Array($0.key.utf8) } == (wanted.isEmpty ? nil : wanted))
      #expect(found == nil || found?.bucket == "other")
      // A target is in what is copied just when a listing of that would meet it.
      let inside = Location(bucket: "bucket", key: key)
      #expect(source.holds(inside) && !source.holds(target))
      #expect(
        source.holds(Location(bucket: "bucket", key: other))
          == (other.utf8.elementsEqual(base.utf8) || other.utf8.starts(with: source.prefix.utf8)))
    }
    // What has the source's own name goes where `cp` puts it.
    let source = Location(bucket: "bucket", key: "a/b")
    for (target, key) in [("", "b"), ("c", "c"), ("c/", "c/b")] {
      let found = treeTarget(of: "a/b", from: source, to: Location(bucket: "other", key: target))
      #expect(found?.key == key)
    }
  }

  @Test("locations are equal when their bytes are", arguments: Seed.several)
  func equality(seed: Seed) throws {
    var random = seed.generator
    for _ in 0..<2000 {
      let a = text(&random)
      let b = text(&random)
      let same = a.utf8.elementsEqual(b.utf8)
      #expect(
        (try Location(word("cairn://bkt/" + a)) == Location(word("cairn://bkt/" + b))) == same)
    }
    #expect(try Location("cairn://bkt/é") != Location("cairn://bkt/e\u{301}"))
    #expect(try Location("cairn://bkt/K") != Location("cairn://bkt/\u{212A}"))
  }

  @Test("slashes at ends and between are found by bytes", arguments: Seed.several)
  func paths(seed: Seed) {
    var random = seed.generator
    for _ in 0..<2000 {
      let path = text(&random)
      let bytes = Array(path.utf8)
      let last = bytes.split(separator: slash).last.map(Array.init) ?? []
      #expect(Array(lastComponent(of: path).utf8) == last)
      #expect(endsInSlash(path) == (bytes.last == slash))
      var trimmed = bytes
      while trimmed.count > 1, trimmed.last == slash { trimmed.removeLast() }
      #expect(Array(withoutTrailingSlashes(path).utf8) == trimmed)
      let name = text(&random)
      let between: [UInt8] = bytes.isEmpty || bytes.last == slash ? [] : [slash]
      #expect(Array(joined(path, name).utf8) == bytes + between + Array(name.utf8))
    }
  }

  @Test("a target that ends in a slash, and no other, gets the source's last name")
  func completion() throws {
    let source = try Location("cairn://bkt/x/y")
    func completed(_ text: String) throws -> [UInt8] {
      Array(try Location(text).completed(by: source).key.utf8)
    }
    #expect(try completed("cairn://bkt") == Array("y".utf8))
    #expect(try completed("cairn://bkt/d/") == Array("d/y".utf8))
    #expect(try completed("cairn://bkt/d/\u{301}") == Array("d/\u{301}".utf8))
  }

  @Test("what is no UTF-8 is refused, what was escaped can be given as it is shown")
  func escapes() throws {
    let raw = Array("cairn://bkt/q".utf8) + [0xFF]
    #expect(throws: Failure.self) { try Location(PathText.string(raw)) }
    // `put -r` makes this key of a file's name; `ls` prints it, and the shell hands it back.
    let key = PathText.string(Array("q".utf8) + [0xFF])
    let location = try Location(word("cairn://bkt/" + key))
    #expect(location.key.utf8.elementsEqual(key.utf8))
  }
}

@Suite("what is printed")
struct OutputTests {
  @Test("an error is one line without control characters, whatever names are in it")
  func oneLine() {
    #expect(Output.printable("a\nb\r\tc\u{1B}[2J") == "a\\nb\\r\\tc\\x1B[2J")
    #expect(Output.printable("é 🇩🇪 \u{85}\u{2028}") == "é 🇩🇪 \\x85\\u{2028}")
    #expect(Output.printable(PathText.string([0x61, 0xFF, 0x62])) == "a\\xFFb")
    #expect(
      Output.printable(PathText.string(Array(PathText.string([0x61, 0xFF]).utf8))) == "a\\xFF")
  }

  @Test("a progress line fits the terminal")
  func progress() {
    for width in [1, 2, 20, 40, 80, 300] {
      let line = Progress.line(
        label: "put", done: 1_300_000_000, total: 3_000_000_000, count: 17, elapsed: .seconds(4),
        width: width)
      #expect(line.count <= max(1, width - 1))
    }
    #expect(
      Progress.line(
        label: "get", done: 512, total: 1024, count: 0, elapsed: .seconds(1), width: 80)
        == "get [###############...............] 512 B of 1.0 KiB  512 B/s  1 s left")
    #expect(
      Progress.line(label: "put", done: 0, total: nil, count: 0, elapsed: .zero, width: 80)
        == "put 0 B  0 B/s")
  }
}
