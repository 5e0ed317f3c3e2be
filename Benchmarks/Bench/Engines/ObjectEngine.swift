import DataPath
import Messages
import Ring

/// Objects of a cluster, through the data path: a write puts a new one of the transfer's size, and is over when it is
/// committed; a read fetches a range.
///
/// With ``Kind/metadata`` it is the coordinator that is measured: objects are kept in the metadata, and a read looks one
/// up.
final class ObjectEngine: Engine, @unchecked Sendable {
  // Loop-confined.
  enum Kind { case data, metadata }

  static var usesBuffers: Bool { false }
  let spaceByteCount: UInt64
  private let kind: Kind
  private let client: BenchClient
  private let writer: ObjectWriter
  private let reader: ObjectReader
  private let cluster: BenchCluster
  private let options: JobOptions
  private let job: Int
  private let driver: any Driver
  /// Of the objects that are read.
  private let objectByteCount: UInt64
  private let filledCount: UInt64
  private let noise: Slice
  /// Objects written and not yet deleted: by their numbers.
  private var oldest: UInt64 = 0
  private var next: UInt64 = 0
  private var liveByteCount: UInt64 = 0
  private var byteCounts: [UInt64: UInt64] = [:]
  private var isDeleting = false
  private var drawn: UInt64 = 0

  init(
    _ cluster: BenchCluster, _ kind: Kind, _ options: JobOptions, job: Int, on driver: any Driver
  ) {
    self.cluster = cluster
    self.kind = kind
    self.options = options
    self.job = job
    self.driver = driver
    client = BenchClient(cluster.reach, on: driver)
    writer = ObjectWriter(client.access)
    reader = ObjectReader(client.access)
    let size = options.byteCount ?? 0
    let largest = UInt64(max(options.readSizes.largest, options.writeSizes.largest))
    objectByteCount =
      kind == .metadata
      ? UInt64(options.readSizes.largest) : min(max(size, largest), max(64 << 20, largest))
    filledCount = options.pattern.reads ? max(1, size / objectByteCount) : 0
    spaceByteCount = max(size / objectByteCount, 1) * objectByteCount
    noise = driver.buffers.slice(1 << 20)
    var random = BenchRandom(seed: options.randomSeed &+ UInt64(job))
    noise.withMutableBytes { random.fill($0) }
  }

  private func name(_ family: String, _ number: UInt64) -> ObjectName {
    ObjectName(bucket: cluster.bucket, key: "\(family)/\(job)/\(number)")
  }

  private func put(_ name: ObjectName, _ count: UInt64) async throws(BenchError) {
    drawn += 1
    let source = NoiseSource(
      noise, byteCount: count, serial: UInt64(job) << 48 | drawn)
    do throws(DataPathError) {
      _ = try await writer.put(
        name, attributes: ObjectAttributes(), source: source, unlessIdentical: false)
    } catch {
      throw .failed("put: \(error)")
    }
  }

  /// Stores what will be read.
  func fill() async throws(BenchError) {
    var begun: UInt64 = 0
    var failure: BenchError?
    let width = kind == .metadata ? 256 : 4
    await withTaskGroup(of: BenchError?.self) { group in
      var running = 0
      while begun < filledCount || running > 0 {
        if begun < filledCount, running < width, failure == nil, !Task.isCancelled {
          let number = begun
          begun += 1
          running += 1
          group.addTask { [self] in
            do throws(BenchError) {
              try await put(name("filled", number), objectByteCount)
              return nil
            } catch {
              return error
            }
          }
          continue
        }
        guard running > 0, let ended = await group.next() else { break }
        running -= 1
        failure = failure ?? ended
      }
    }
    if let failure { throw failure }
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    if access.direction == .write {
      let number = next
      next += 1
      try await put(name("written", number), UInt64(access.count))
      byteCounts[number] = UInt64(access.count)
      liveByteCount += UInt64(access.count)
      if liveByteCount > spaceByteCount, !isDeleting { try await deleteOldest() }
      return access.count
    }
    let name = name("filled", min(access.offset / objectByteCount, filledCount - 1))
    do throws(DataPathError) {
      switch kind {
      case .metadata:
        _ = try await client.coordinator.query(StatObject(level: .strong, name: name))
      case .data:
        let first = min(
          access.offset % objectByteCount, objectByteCount - UInt64(access.count))
        let sink = CountingSink()
        try await reader.read(
          name, identity: 0, range: first..<first + UInt64(access.count), into: sink)
        guard sink.byteCount == access.count else {
          throw DataPathError.corrupt("\(sink.byteCount) bytes came of \(access.count)")
        }
      }
    } catch {
      throw .failed("read: \(error)")
    }
    return access.count
  }

  private func deleteOldest() async throws(BenchError) {
    isDeleting = true
    defer { isDeleting = false }
    while liveByteCount > spaceByteCount, let count = byteCounts.removeValue(forKey: oldest) {
      oldest += 1
      liveByteCount -= count
      try await delete(name("written", oldest - 1))
    }
  }

  private func delete(_ name: ObjectName) async throws(BenchError) {
    do throws(DataPathError) {
      _ = try await client.coordinator.execute(.deleteObject(name: name, precondition: .none))
    } catch {
      throw .failed("delete: \(error)")
    }
  }

  /// Takes back what the job stored, unless it goes with the cluster.
  func close() async {
    let engine = self
    await driver.uncancelled {
      do throws(DataPathError) { try await engine.writer.finish() } catch {}
      if !engine.cluster.isTemporary {
        // What cannot be deleted shows when the bucket cannot be removed.
        for number in 0..<engine.filledCount {
          try? await engine.delete(engine.name("filled", number))
        }
        for number in engine.byteCounts.keys.sorted() {
          try? await engine.delete(engine.name("written", number))
        }
      }
      await engine.client.close()
    }
  }
}

/// Bytes that do not compress and were never stored before: noise, with a number in each 4 KiB.
private final class NoiseSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let noise: Slice
  private let total: UInt64
  private let serial: UInt64
  private var offset: UInt64 = 0

  var byteCount: UInt64? { total }

  init(_ noise: Slice, byteCount: UInt64, serial: UInt64) {
    self.noise = noise
    total = byteCount
    self.serial = BenchRandom.mix(serial)
  }

  func read(into slice: Slice) async throws(DataPathError) -> Int {
    let count = Int(min(UInt64(slice.count), total - offset))
    slice[0..<count].withMutableBytes { target in
      noise.withBytes { noise in
        var at = 0
        while at < count {
          let start = Int((offset + UInt64(at)) % UInt64(noise.count))
          let part = min(count - at, noise.count - start)
          UnsafeMutableRawBufferPointer(rebasing: target[at..<at + part]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: noise[start..<start + part]))
          at += part
        }
      }
      // Reads begin anywhere, so the marks are where the object's own 4 KiB begin.
      var mark = (offset + 4095) / 4096 * 4096
      while mark + 8 <= offset + UInt64(count) {
        target.storeBytes(
          of: BenchRandom.mix(serial ^ mark), toByteOffset: Int(mark - offset), as: UInt64.self)
        mark += 4096
      }
    }
    offset += UInt64(count)
    return count
  }

  func rewind() -> Bool {
    offset = 0
    return true
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
