import Coding
import Messages
import Ring
import TestSupport
import Testing

@testable import DataPath

@Suite struct PieceReaderTests {
  @Test(
    "pieces are the source's bytes, cut where the whole would be cut, whatever reads return; the budget is whole again at the end",
    arguments: Seed.several)
  func pieces(seed: Seed) throws {
    try simulate(seed.value) { world in
      var random = seed.generator
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(
        client.access,
        options: ObjectWriter.Options(memoryByteCount: 1 << 20, pieceByteCount: 300_000))
      for round in 0..<12 {
        let bytes = noise(round == 0 ? 0 : Int(random.next() % 1_500_000), &random)
        var reader = PieceReader(
          TestSource(bytes, isSized: round % 2 == 0, seed: random.next()), writer, nil)
        var found: [UInt8] = []
        var lengths: [Int] = []
        var fingerprints: [Fingerprint] = []
        while let piece = try await reader.next() {
          #expect(piece.chunkByteCounts.reduce(0, +) == piece.bytes.count)
          found += piece.bytes.array
          lengths += piece.chunkByteCounts
          fingerprints += piece.chunks().map(\.fingerprint)
        }
        #expect(found == bytes)
        #expect(lengths == bytes.withUnsafeBytes { Chunker.standard.lengths(of: $0) })
        var start = 0
        for (length, fingerprint) in zip(lengths, fingerprints) {
          #expect(fingerprint == Fingerprint(of: Array(bytes[start..<start + length])))
          start += length
        }
        #expect(writer.budget.available == 1 << 20)
      }
      await client.close()
    }
  }

  @Test(
    "pieces too small to hold two chunks are made larger, and a memory smaller than a piece is enough"
  )
  func tinyPieces() throws {
    try simulate(4) { world in
      var random = SeededGenerator(seed: 4)
      let cluster = try await SmallCluster(world, scheme: "1+1", nodes: 2)
      let client = SmallClient(cluster, "client")
      for pieceByteCount in [0, 1, 4096, 128 << 10, Int.max] {
        let writer = ObjectWriter(
          client.access,
          options: ObjectWriter.Options(memoryByteCount: 1, pieceByteCount: pieceByteCount))
        // Zeros have chunks of the largest size only.
        let bytes = [UInt8](repeating: 0, count: 300_000) + noise(300_000, &random)
        let isStored: Result<PutResult, DataPathError>? = await client.driver.withDeadline(
          .seconds(100)
        ) { await client.put(writer, "k\(pieceByteCount)", TestSource(bytes)) }
        _ = try #require(isStored).get()
        try await writer.finish()
        #expect(await client.get("k\(pieceByteCount)", 0..<600_000) == .success(bytes))
      }
      await client.close()
    }
  }
}
