import Coding
import Messages
import Ring
import Simulation
import TestSupport
import Testing

@testable import DataPath

@Suite struct StripePackerTests {
  @Test("any number of tiny chunks is registered: no command grows past what the leader takes")
  func tinyChunks() throws {
    try simulate(5) { world in
      let cluster = try await SmallCluster(world, scheme: "4+2", nodes: 6)
      let client = SmallClient(cluster, "client")
      let writer = ObjectWriter(client.access)
      let part = writer.upload.share(for: try await writer.buckets.bucket("bucket"), nil)
      let budget = Semaphore(1 << 30)
      var handles: [ChunkHandle] = []
      for number in 0..<40_000 {
        let bytes = withUnsafeBytes(of: UInt64(number)) { Array($0) }
        let handle = ChunkHandle(fingerprint: Fingerprint(of: bytes), byteCount: 8)
        handles.append(handle)
        await part.packer.pack(
          handle, ChunkBytes(slice: Slice(copying: bytes), share: BudgetShare(budget, 0)))
      }
      try await writer.finish()
      var places = Set<ChunkHandle.Location>()
      for handle in handles { places.insert(try await handle.location()) }
      #expect(places.count == 40_000)
      await client.close()
    }
  }
}
