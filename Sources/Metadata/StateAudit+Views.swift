package import Cluster
package import Coding
package import Messages
internal import Wire

/// What a whole store says, for whoever judges it from outside: digests, what is left over, containers and what of them is alive.
extension StateAudit {
  /// One digest of every key and value.
  package static func digest(of store: any OrderedStore) throws -> Fingerprint {
    var writer = ByteWriter()
    for entry in try store.scan(KeyRange()) {
      writer.blob(entry.key)
      writer.blob(entry.value)
    }
    return Fingerprint(of: writer.bytes)
  }

  /// What clients made and what follows from it, without what only their sessions and the leader's duties need: it stays the
  /// same while nobody writes, wherever the state was made from the log.
  package static func lastingDigest(of store: any OrderedStore) throws -> Fingerprint {
    let lasting: [Key.Family] = [
      .bucket, .object, .page, .pageInfo, .pageName, .pageEdge, .container, .containerEdge,
      .directory, .fingerprint, .deviceContainer, .availableContainer, .multipart, .part,
      .storageClass, .bucketSetting, .version, .nullVersion,
    ]
    var writer = ByteWriter()
    for family in lasting {
      for entry in try store.scan(KeyRange(prefix: Key.family(family))) {
        writer.blob(entry.key)
        writer.blob(entry.value)
      }
    }
    return Fingerprint(of: writer.bytes)
  }

  /// What is to go away by itself when no client is left: sessions with what they hold, trash, containers and grants
  /// that nodes have still to be told of. By what it is, none that are zero.
  ///
  /// - Parameter isGone: devices that can never be told; what waits for one of them is left out.
  package static func leftovers(
    in store: any OrderedStore, isGone: (DeviceID) -> Bool
  ) throws -> [(what: String, count: Int)] {
    func rows(_ family: Key.Family) throws -> [StoreEntry] {
      try store.scan(KeyRange(prefix: Key.family(family)))
    }
    var counts: [(what: String, count: Int)] = [
      ("sessions \(try sessions(in: store))", try rows(.session).count),
      ("uploads", try rows(.upload).count),
      ("held things", try rows(.held).count), ("grants", try rows(.grant).count),
      ("trash", try rows(.trash).count), ("multipart uploads", try rows(.multipart).count),
      ("parts", try rows(.part).count),
    ]
    let condemned = try containers(in: store).filter { container, _ in
      container.state == .condemned && !container.devices.contains(where: isGone)
    }
    counts.append(("condemned containers", condemned.count))
    let ended = try rows(.endedGrant).filter { row in
      try !EndedGrant(stored: row.value).devices.contains(where: isGone)
    }
    counts.append(("ended grants", ended.count))
    counts.append(("rewrites", try rows(.rewrite).count))
    let doomed = try doomedShards(in: store).filter { !isGone($0.device) }
    counts.append(("doomed shards", doomed.count))
    return counts.filter { $0.count > 0 }
  }

  private static func sessions(in store: any OrderedStore) throws -> [String] {
    try store.scan(KeyRange(prefix: Key.family(.session)), limit: 4).map { row in
      "\(try Key.number(in: row.key, at: 1)) of \(try SessionRecord(stored: row.value).client)"
    }
  }

  /// Every shard that its device has still to drop, though its container may be forgotten.
  package static func doomedShards(in store: any OrderedStore) throws -> [DoomedShard] {
    try store.scan(KeyRange(prefix: Key.family(.doomedShard))).map { try Key.doomed(in: $0.key) }
  }

  /// Of the default class.
  package static func scheme(in store: any OrderedStore) throws -> Scheme? {
    try store.get(Key.state).map { try MachineState(stored: $0).scheme }
  }

  /// Every container with its registered stripes, ascending.
  package static func containers(in store: any OrderedStore) throws -> [(
    record: ContainerRecord, stripes: [StripeRecord]
  )] {
    var stripes: [ContainerID: [StripeRecord]] = [:]
    for row in try store.scan(KeyRange(prefix: Key.family(.directory))) {
      stripes[try Key.container(in: row.key, at: 1), default: []].append(
        try StripeRecord(stored: row.value))
    }
    return try store.scan(KeyRange(prefix: Key.family(.container))).map { row in
      let record = try ContainerRecord(stored: row.value)
      return (record, stripes[record.id] ?? [])
    }
  }

  /// Bytes of groups with something alive in them, found apart from what the state machine says of it.
  ///
  /// - Parameter stripes: the container's directory, ascending by ordinal.
  package static func liveByteCount(
    of id: ContainerID, _ stripes: [StripeRecord], in store: any OrderedStore
  ) throws -> UInt64 {
    var alive = Set<UInt64>()
    for edge in try store.scan(KeyRange(prefix: Key.of(.containerEdge, id.raw))) {
      for run in try OrdinalSet(stored: edge.value).runs { alive.formUnion(run.first..<run.end) }
    }
    var sum: UInt64 = 0
    for stripe in stripes {
      var ordinal = stripe.firstOrdinal
      for group in stripe.groups {
        let end = ordinal + UInt64(group.chunks.count)
        if (ordinal..<end).contains(where: alive.contains) { sum += UInt64(group.storedByteCount) }
        ordinal = end
      }
    }
    return sum
  }
}
