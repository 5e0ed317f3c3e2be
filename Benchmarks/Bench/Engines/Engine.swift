import Ring

/// What is measured.
package enum EngineKind: String, CaseIterable, Sendable {
  /// Ring alone: files and devices.
  case raw
  /// The storage engine of one device, in process.
  case store
  /// A storage node, over the wire.
  case node
  /// Objects of a cluster, through the data path.
  case cluster
  /// Loopback connections, with nothing behind them.
  case net
  /// The coordinator: small objects made and looked up.
  case meta
  /// Objects through a gateway.
  case s3

  package static let list = allCases.map(\.rawValue).joined(separator: ", ")

  /// Refuses what would be ignored or could not be done.
  func check(_ options: JobOptions) throws(BenchError) {
    func refuse(_ what: String) -> BenchError { .usage("job \(options.name): \(what)") }
    if self != .raw {
      if options.filename != nil {
        throw refuse("filename is for raw: \(rawValue) takes a directory")
      }
      if options.offset > 0 { throw refuse("offset is for raw") }
    }
    if self != .s3 && options.endpoint != nil { throw refuse("endpoint is for s3") }
    if self != .cluster && self != .meta {
      if options.configuration != nil { throw refuse("config is for cluster and meta") }
    }
    for key in ["scheme", "nodes"] where options.given.contains(where: { $0.key == key }) {
      guard [.cluster, .meta, .s3].contains(self) else {
        throw refuse("\(key) is for cluster, meta and s3")
      }
      if options.endpoint != nil || options.configuration != nil {
        throw refuse(
          "\(key) is of a temporary cluster: it says nothing beside \(options.endpoint == nil ? "config" : "endpoint")"
        )
      }
    }
    let sizes = JobOptions.Direction.allCases.filter {
      $0 == .read ? options.pattern.reads : options.pattern.writes
    }.map(options.sizes)
    let largest = sizes.map(\.largest).max()!
    let isWhole = { (unit: Int) in
      sizes.allSatisfy { $0.parts.allSatisfy { $0.byteCount.isMultiple(of: unit) } }
    }
    switch self {
    case .raw:
      if options.isDirect && !isWhole(512) {
        throw refuse("with direct, sizes of transfers are multiples of 512")
      }
      if options.verification != .none {
        guard sizes.allSatisfy({ $0.single == sizes[0].single && $0.single != nil }),
          largest >= ContentCheck.leastByteCount
        else {
          throw refuse(
            "verify needs one size of transfers, of \(ContentCheck.leastByteCount) or more")
        }
      }
      if options.verification != .none, options.pattern.writes {
        // Two writes of one block at a time may leave a mixture, which would look like damage.
        if options.isTimeBased || options.repeatsBlocks {
          throw refuse("verify writes each block once: neither time_based nor norandommap")
        }
        if options.jobCount > 1, options.filename != nil {
          throw refuse("verify needs a file for each job: give a directory, or numjobs=1")
        }
      }
      if let size = options.byteCount, size < UInt64(largest) {
        throw refuse("size is below that of one transfer")
      }
    case .store, .node:
      if !isWhole(4096) || largest > 1 << 20 {
        throw refuse("blocks are multiples of 4k, at most 1m")
      }
    case .cluster: break
    case .net:
      let limit = options.netProtocol == .wire ? 2 : 64
      if largest > limit << 20 { throw refuse("a message has at most \(limit)m") }
      if options.runtime == nil && options.byteCount == nil {
        throw refuse("net needs a runtime or a size")
      }
    case .s3:
      if largest > 64 << 20 { throw refuse("an object of s3 has at most 64m") }
    case .meta:
      if largest > 4096 { throw refuse("objects kept in the metadata have at most 4k") }
    }
    if self != .raw && self != .net {
      guard let size = options.byteCount, size >= UInt64(largest) else {
        throw refuse("\(rawValue) needs a size, of one transfer at least")
      }
    }
    if options.isTimeBased && options.runtime == nil { throw refuse("time_based needs a runtime") }
  }
}

/// One transfer to be made.
struct Access: Sendable {
  var direction: JobOptions.Direction
  /// In the job's space, from 0.
  var offset: UInt64
  var count: Int
}

/// What a task that makes transfers, one after the other, works with. Loop-confined.
final class Worker: @unchecked Sendable {
  let index: Int
  /// Room for the largest transfer; filled with bytes that do not compress.
  let buffer: Slice
  /// ``buffer`` as the operand of a write, made once: an array costs an allocation.
  let whole: [Slice]

  init(index: Int, byteCount: Int, seed: UInt64, on driver: any Driver) {
    self.index = index
    buffer = driver.buffers.slice(byteCount)
    var random = BenchRandom(seed: seed &+ UInt64(index) &* 0x1234_5678_9ABC_DEF1)
    buffer.withMutableBytes { random.fill($0) }
    whole = [buffer]
  }
}

/// One job's way to what is measured. Lives on the job's loop.
protocol Engine: AnyObject, Sendable {
  /// Whether transfers use their workers' buffers.
  static var usesBuffers: Bool { get }
  /// Bytes that offsets may address.
  var spaceByteCount: UInt64 { get }
  /// Makes one transfer: a read's bytes are there, a write's are as safe as the engine promises.
  ///
  /// - Returns: how many bytes it moved.
  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int
  func synchronize(dataOnly: Bool) async throws(BenchError)
  /// Compares what `worker` has just read with what was written there.
  func verify(_ access: Access, _ worker: Worker) throws(BenchError)
  func close() async
}

/// One that stores what will be read before the job begins.
protocol FilledEngine: Engine {
  func fill() async throws(BenchError)
}

extension Engine {
  static var usesBuffers: Bool { true }
  func synchronize(dataOnly: Bool) async throws(BenchError) {}
  func verify(_ access: Access, _ worker: Worker) throws(BenchError) {}
}
