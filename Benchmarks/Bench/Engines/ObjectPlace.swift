import DataPath
import Messages
import Ring

/// Where objects are: what ``ObjectEngine`` measures. Lives on a job's loop.
protocol ObjectPlace: AnyObject, Sendable {
  func put(_ key: String, _ noise: NoiseSource) async throws(BenchError)
  /// Fetches a range of the object, which has `byteCount` bytes, and sees to it that as many came.
  func read(_ key: String, _ range: Range<UInt64>, of byteCount: UInt64) async throws(BenchError)
  func delete(_ key: String) async throws(BenchError)
  func close() async
}

/// Objects through the data path. Loop-confined.
final class ClusterPlace: ObjectPlace, @unchecked Sendable {
  // Loop-confined.
  enum Kind {
    case data
    /// It is the coordinator that is measured: objects are kept in the metadata, and a read looks one up.
    case metadata
  }

  private let kind: Kind
  private let bucket: String
  private let client: BenchClient
  private let writer: ObjectWriter
  private let reader: ObjectReader

  init(_ cluster: BenchCluster, _ kind: Kind, on driver: any Driver) {
    self.kind = kind
    bucket = cluster.bucket
    client = BenchClient(cluster.reach, on: driver)
    writer = ObjectWriter(client.access)
    reader = ObjectReader(client.access)
  }

  private func name(_ key: String) -> ObjectName { ObjectName(bucket: bucket, key: key) }

  func put(_ key: String, _ noise: NoiseSource) async throws(BenchError) {
    do throws(DataPathError) {
      _ = try await writer.put(
        name(key), attributes: ObjectAttributes(), source: noise, unlessIdentical: false)
    } catch {
      throw .failed("put: \(error)")
    }
  }

  func read(_ key: String, _ range: Range<UInt64>, of byteCount: UInt64) async throws(BenchError) {
    do throws(DataPathError) {
      switch kind {
      case .metadata:
        _ = try await client.coordinator.query(StatObject(level: .strong, name: name(key)))
      case .data:
        let sink = CountingSink()
        try await reader.read(name(key), identity: 0, range: range, into: sink)
        guard sink.byteCount == range.count else {
          throw DataPathError.corrupt("\(sink.byteCount) bytes came of \(range.count)")
        }
      }
    } catch {
      throw .failed("read: \(error)")
    }
  }

  func delete(_ key: String) async throws(BenchError) {
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(
        .deleteObject(name: name(key), precondition: .none))
    } catch {
      throw .failed("delete: \(error)")
    }
  }

  func close() async {
    do throws(DataPathError) { try await writer.finish() } catch {}
    await client.close()
  }
}

/// Takes bytes and keeps none.
private final class CountingSink: ByteSink, @unchecked Sendable {
  // Loop-confined.
  let isOrdered = false
  private(set) var byteCount = 0

  func write(_ slices: [Slice], at offset: UInt64) async throws(DataPathError) {
    for slice in slices { byteCount += slice.count }
  }
}
