package import Cluster
internal import Coding
package import Messages

/// Which objects have chunks that cannot be read: found from the stripes that are lost back along the edges, so that its memory
/// follows what is lost and not what is stored. One pass over containers and one over objects.
package struct LostObjects: Sendable {
  /// Of all, the first ones by bucket and key.
  package var objects: [ObjectName] = []
  package var objectCount = 0
  /// Stripes of which too few blocks are left.
  package var stripeCount = 0
  package static let nameLimit = 10_000

  /// - Parameters:
  ///   - isMissing: devices that cannot be read.
  ///   - wrongBlocks: blocks that are wrong or gone on others, by container.
  /// - Throws: `corrupt` where the store cannot be decoded; what `source` throws.
  package static func find(
    in source: AuditSource, isMissing: (DeviceID) -> Bool, wrongBlocks: [ContainerID: [BlockKey]]
  ) throws(StoreError) -> LostObjects {
    var lost = LostObjects()
    var pages: [UInt64] = []
    var identities: Set<UInt64> = []
    var containers = source.rows(.container)
    while let row = try containers.next() {
      let record = try ContainerRecord(stored: row.value)
      let runs = try lost.lostOrdinals(of: record, source, isMissing, wrongBlocks[record.id] ?? [])
      guard !runs.isEmpty else { continue }
      var edges = source.rows(prefix: Key.of(.containerEdge, record.id.raw))
      while let edge = try edges.next() {
        guard edge.key.count >= 18, edge.key[9] != 2,
          try OrdinalSet(stored: edge.value).runs.contains(where: { run in
            runs.contains { $0.overlaps(run.first..<run.end) }
          })
        else { continue }
        let user = try Key.number(in: edge.key, at: 10)
        if edge.key[9] == 0 { identities.insert(user) } else { pages.append(user) }
      }
    }
    var visited = Set(pages)
    while let page = pages.popLast() {
      var edges = source.rows(prefix: Key.of(.pageEdge, page))
      while let edge = try edges.next() {
        guard edge.key.count >= 18 else { continue }
        let user = try Key.number(in: edge.key, at: 10)
        if edge.key[9] == 0 {
          identities.insert(user)
        } else if edge.key[9] == 1, visited.insert(user).inserted {
          pages.append(user)
        }
      }
    }
    if !identities.isEmpty { try lost.name(identities, source) }
    return lost
  }

  private mutating func lostOrdinals(
    of record: ContainerRecord, _ source: AuditSource, _ isMissing: (DeviceID) -> Bool,
    _ wrong: [BlockKey]
  ) throws(StoreError) -> [Range<UInt64>] {
    guard record.state != .condemned else { return [] }
    let missing = record.places.map { isMissing($0.device) }
    var bad: [UInt64: Set<UInt8>] = [:]
    for key in wrong
    where Int(key.shard.shardIndex) < record.places.count
      && record.places[Int(key.shard.shardIndex)].generation == key.shard.generation
    {
      bad[key.stripe, default: []].insert(key.shard.shardIndex)
    }
    let most = missing.count { $0 } + (bad.values.map(\.count).max() ?? 0)
    guard most > record.scheme.m else { return [] }
    var lost: [Range<UInt64>] = []
    var rows = source.rows(prefix: Key.of(.directory, record.id.raw))
    while let row = try rows.next() {
      let stripe = try StripeRecord(stored: row.value)
      let left = stripe.layout.storedBlocks.count {
        $0 < missing.count && !missing[$0]
          && bad[stripe.stripe]?.contains(UInt8(clamping: $0)) != true
      }
      guard left < stripe.layout.dataBlockCount else { continue }
      stripeCount += 1
      let end = stripe.firstOrdinal.addingReportingOverflow(UInt64(stripe.chunkCount))
      guard !end.overflow else { throw .corrupt("ordinals of \(record.id)") }
      lost.append(stripe.firstOrdinal..<end.partialValue)
    }
    return lost
  }

  /// Each version that is lost counts.
  private mutating func note(_ name: ObjectName) {
    objectCount += 1
    if objects.count < Self.nameLimit { objects.append(name) }
  }

  private mutating func name(_ identities: Set<UInt64>, _ source: AuditSource) throws(StoreError) {
    var buckets = source.rows(.bucket)
    while let row = try buckets.next() {
      let bucket = String(decoding: row.key.dropFirst(), as: UTF8.self)
      var rows = source.rows(
        prefix: Key.object(bucket: try BucketRecord(stored: row.value).identity, key: []))
      while let row = try rows.next() {
        guard identities.contains(try ObjectRecord(stored: row.value).source) else { continue }
        note(ObjectName(bucket: bucket, key: String(decoding: row.key.dropFirst(9), as: UTF8.self)))
      }
      var older = source.rows(
        prefix: Key.versions(
          bucket: try BucketRecord(stored: row.value).identity, keyPrefix: []))
      while let row = try older.next() {
        guard case .object(let record) = try VersionRecord(stored: row.value),
          identities.contains(record.source)
        else { continue }
        let key = String(decoding: try Key.versionedKey(in: row.key), as: UTF8.self)
        note(ObjectName(bucket: bucket, key: key))
      }
    }
  }
}
