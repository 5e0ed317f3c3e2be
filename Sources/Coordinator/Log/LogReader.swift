import Cluster
import Messages
import Metadata
import Ring
import Wire

/// Reads links back, in order, a few stripes ahead.
struct LogReader: Sendable {
  let driver: any Driver
  let port: any NodePort
  let nodes: NodeTable
  /// Stripes asked for at once.
  private let readAhead = 16
  private let listDeadline = Duration.seconds(5)

  init(driver: any Driver, port: any NodePort, nodes: NodeTable) {
    self.driver = driver
    self.port = port
    self.nodes = nodes
  }

  /// The layouts of stripes 0 ..< `count`, as far as any device lists them.
  func layouts(of link: LogContainer, count: UInt64) async -> [UInt64: StripeLayout] {
    var evidence = LinkEvidence()
    // The likely answers first: those that are up.
    let order = link.devices.indices.sorted {
      (nodes.isDown(link.devices[$0]) ? 1 : 0, $0) < (nodes.isDown(link.devices[$1]) ? 1 : 0, $1)
    }
    for shard in order {
      if case .success(let listing) = await port.list(link, shard: shard, deadline: listDeadline) {
        evidence.add(listing, shard: shard)
        if evidence.run >= count { break }
      }
    }
    return evidence.layouts
  }

  /// Hands every batch of the links' chain that holds a position above `position` to `apply`, in order,
  /// each once. Positions are checked to follow each other.
  ///
  /// - Parameter links: with the length of each; an open link's acknowledged length is given by its
  ///   `sealedStripes`.
  /// - Throws: ``LogError/unreadable(_:)``.
  func replay(
    _ links: [RootRecord.Link], after position: UInt64,
    _ apply: (LogBatch) async -> LogError?
  ) async throws(LogError) {
    for (index, link) in links.enumerated() {
      let end = index + 1 < links.count ? links[index + 1].firstPosition : UInt64.max
      if end <= position + 1 { continue }
      let count = link.sealedStripes ?? 0
      guard count > 1 else { continue }
      let layouts = await layouts(of: link.place, count: count)
      var next = try await firstStripe(link, count: count, after: position, layouts)
      var expected: UInt64?
      while next < count {
        let ahead = Array(next..<min(count, next + UInt64(readAhead)))
        for (stripe, bytes) in zip(ahead, try await read(link.place, ahead, layouts)) {
          let batch = try Self.batch(bytes, link: link, stripe: stripe)
          if let expected, batch.firstPosition != expected {
            throw .unreadable("\(link.container) stripe \(stripe): position out of order")
          }
          expected = batch.lastPosition + 1
          if batch.lastPosition <= position { continue }
          if let error = await apply(batch) { throw error }
        }
        next += UInt64(ahead.count)
      }
    }
  }

  static func batch(_ bytes: [UInt8], link: RootRecord.Link, stripe: UInt64) throws(LogError)
    -> LogBatch
  {
    do {
      if case .batch(let batch) = try LinkStripe(framed: bytes) { return batch }
    } catch {
      throw .unreadable("\(link.container) stripe \(stripe): \(error)")
    }
    throw .unreadable("\(link.container) stripe \(stripe): no batch")
  }

  /// The last stripe whose batch begins at or before `position + 1`: nothing before it is needed.
  func firstStripe(
    _ link: RootRecord.Link, count: UInt64, after position: UInt64,
    _ layouts: [UInt64: StripeLayout]
  ) async throws(LogError) -> UInt64 {
    if link.firstPosition > position { return 1 }
    var low: UInt64 = 1
    var high = count
    while high - low > 1 {
      let middle = low + (high - low) / 2
      let bytes = try await read(link.place, [middle], layouts)[0]
      let batch = try Self.batch(bytes, link: link, stripe: middle)
      if batch.firstPosition <= position + 1 { low = middle } else { high = middle }
    }
    return low
  }

  /// The bytes of these stripes, in their order.
  func read(_ link: LogContainer, _ stripes: [UInt64], _ layouts: [UInt64: StripeLayout])
    async throws(LogError) -> [[UInt8]]
  {
    let results = await withTaskGroup(of: (Int, Result<[UInt8], LogError>).self) { group in
      for (index, stripe) in stripes.enumerated() {
        group.addTask { (index, await one(link, stripe, layouts[stripe])) }
      }
      var results: [Int: Result<[UInt8], LogError>] = [:]
      for await (index, result) in group { results[index] = result }
      return results
    }
    var read: [[UInt8]] = []
    for index in stripes.indices { read.append(try results[index]!.get()) }
    return read
  }

  private func one(_ link: LogContainer, _ stripe: UInt64, _ layout: StripeLayout?) async
    -> Result<[UInt8], LogError>
  {
    let place = "\(link.container) stripe \(stripe)"
    let silent = link.devices.map { nodes.nodeName(of: $0) }.joined(separator: ", ")
    guard let layout else {
      return .failure(.unreadable("\(place): not listed by any of \(silent)"))
    }
    switch await port.read(link, stripe: stripe, layout: layout) {
    case .success(let bytes): return .success(bytes)
    case .failure(.unreachable(let devices)):
      let names = devices.map { nodes.nodeName(of: $0) }.joined(separator: ", ")
      return .failure(.unreadable("\(place): needs one of \(names)"))
    case .failure(.lost(let why)): return .failure(.unreadable("\(place): \(why)"))
    }
  }
}
