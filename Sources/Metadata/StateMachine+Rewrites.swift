package import Cluster
package import Coding
package import Messages
package import Wire

/// One shard of a container on its way to another device.
package struct ShardMove: Hashable, Sendable, WireValue {
  package var shardIndex: UInt8
  /// Where it is, or was before it was lost.
  package var from: DeviceID
  package var to: DeviceID

  package init(shardIndex: UInt8, from: DeviceID, to: DeviceID) {
    self.shardIndex = shardIndex
    self.from = from
    self.to = to
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(shardIndex)
    writer.value(from)
    writer.value(to)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    shardIndex = try reader.fixed()
    from = try reader.value()
    to = try reader.value()
  }
}

/// A lease to write a container anew, or shards of it. Its number is the generation of what is written.
package struct RewriteRecord: Hashable, Sendable, WireValue, StoredValue {
  package enum Work: Hashable, Sendable {
    /// Some shards, each to another device. Ascending by shard.
    case moves([ShardMove])
    /// All of it, packed anew (``Repacking``), to these devices by shard.
    case repack(Scheme, devices: [DeviceID])
  }
  package var id: UInt64
  package var container: ContainerID
  package var work: Work

  /// What is written under it, ascending by shard.
  package var targets: [DoomedShard] {
    switch work {
    case .moves(let moves):
      moves.map {
        DoomedShard(
          device: $0.to,
          shard: ShardKey(container: container, generation: id, shardIndex: $0.shardIndex))
      }
    case .repack(_, let devices):
      zip(devices, [ShardPlace](devices, generation: id).shards(of: container)).map {
        DoomedShard(device: $0, shard: $1)
      }
    }
  }

  package init(id: UInt64, container: ContainerID, work: Work) {
    self.id = id
    self.container = container
    self.work = work
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(2))
    writer.varint(id)
    writer.value(container)
    switch work {
    case .moves(let moves):
      writer.fixed(UInt8(0))
      writer.list(moves)
    case .repack(let scheme, let devices):
      writer.fixed(UInt8(1))
      writer.value(scheme)
      writer.list(devices)
    }
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(2)
    id = try reader.varint()
    container = try reader.value()
    switch try reader.fixed(UInt8.self) {
    case 0: work = .moves(try reader.list(limit: Scheme.largestWidth))
    case 1:
      let scheme: Scheme = try reader.value()
      let devices: [DeviceID] = try reader.list(limit: Scheme.largestWidth)
      guard devices.count == scheme.width else { throw .invalid("lease") }
      work = .repack(scheme, devices: devices)
    default: throw .invalid("lease")
    }
  }
}

/// A shard that its device is to drop: an old one whose place another took, or one that was not finished.
package struct DoomedShard: Hashable, Sendable, WireValue {
  package var device: DeviceID
  package var shard: ShardKey

  package init(device: DeviceID, shard: ShardKey) {
    self.device = device
    self.shard = shard
  }
  package func encode(into writer: inout ByteWriter) {
    writer.value(device)
    writer.value(shard)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    device = try reader.value()
    shard = try reader.value()
  }
}

/// Shards written anew elsewhere, or whole containers: a lease, then one swap of the places, or its end.
///
/// Only sealed containers are rewritten, so what is to be copied does not change. A container has one lease at a time, which
/// ends with the container. What a swap or an end leaves behind is named until its devices have dropped it; as each lease
/// gives a generation of its own, a deletion that comes late finds nothing newer.
extension StateMachine {
  func beginRewrite(_ id: ContainerID, _ moves: [ShardMove]) throws(StoreError) -> CommandOutcome {
    guard var container = try containers.get(id) else {
      return .refused(.failed, "\(id) is not there")
    }
    guard try rewrite(of: id) == nil else { return .refused(.failed, "\(id) is being rewritten") }
    guard !moves.isEmpty,
      zip(moves, moves.dropFirst()).allSatisfy({ $0.shardIndex < $1.shardIndex }),
      Int(moves[moves.count - 1].shardIndex) < container.places.count
    else { return .refused(.malformed, "moves of \(id)") }
    for move in moves {
      let device = container.places[Int(move.shardIndex)].device
      guard device == move.from else {
        return .refused(.failed, "shard \(move.shardIndex) of \(id) is on \(device)")
      }
    }
    let targets = moves.map(\.to)
    guard Set(targets).isDisjoint(with: container.devices) else {
      return .refused(.malformed, "\(id) would have two shards on one device")
    }
    return try begin(.moves(moves), of: &container, on: targets) ?? .number(position)
  }

  /// A lease to pack all of a container anew. With `isThinned` its groups without a living chunk go out of the directory now, for
  /// good: whether the lease is committed or not, they are not to be had any more.
  func beginRepack(
    _ id: ContainerID, _ scheme: Scheme, on devices: [DeviceID], isThinned: Bool
  ) throws(StoreError) -> CommandOutcome {
    guard var container = try containers.get(id) else {
      return .refused(.failed, "\(id) is not there")
    }
    guard try rewrite(of: id) == nil else { return .refused(.failed, "\(id) is being rewritten") }
    guard devices.count == scheme.width else { return .refused(.malformed, "devices of \(id)") }
    if isThinned && container.edgeCount > Self.thinningLimit {
      return .refused(.failed, "\(id) has \(container.edgeCount) edges")
    }
    let present = try rows(of: id)
    let (living, dead) =
      isThinned
      ? Repacking.living(present, alive: try aliveOrdinals(of: id)) : (present, [])
    guard Repacking(living, scheme: scheme) != nil else {
      return .refused(.failed, "\(id) cannot be \(scheme)")
    }
    if let refusal = try begin(.repack(scheme, devices: devices), of: &container, on: devices) {
      return refusal
    }
    if !dead.isEmpty {
      replaceRows(of: id, present, by: living)
      try drop(dead, from: &container, leaving: living)
    }
    return .number(position)
  }

  /// More edges than this are not looked through in one command, nor for ``liveByteCount(of:)``.
  package static let thinningLimit: UInt64 = 1 << 17

  /// What both kinds of lease need; seals the container.
  private func begin(
    _ work: RewriteRecord.Work, of container: inout ContainerRecord, on targets: [DeviceID]
  ) throws(StoreError) -> CommandOutcome? {
    let id = container.id
    if let device = targets.first(where: { !isHealthy($0) }) {
      return .refused(.unavailable, "device \(device) takes no new data")
    }
    guard Set(targets).count == targets.count else {
      return .refused(.malformed, "\(id) would have two shards on one device")
    }
    switch container.state {
    case .open, .condemned: return .refused(.failed, "\(id) is \(container.state)")
    case .available:
      view.delete(Key.available(container))
      container.state = .sealed
      containers.set(id, container)
    case .sealed: break
    }
    view.put(Key.of(.rewrite, id.raw), RewriteRecord(id: position, container: id, work: work))
    return nil
  }

  /// What was written under a lease is whole on its devices: it takes the place of the old.
  func commitRewrite(_ id: ContainerID, lease: UInt64) throws(StoreError) -> CommandOutcome {
    guard let rewrite = try rewrite(of: id), rewrite.id == lease else {
      return .refused(.grantEnded, "lease \(lease)")
    }
    guard var container = try containers.get(id), container.state == .sealed else {
      throw .corrupt("\(id) is rewritten and not sealed")
    }
    // What went to a device that was given up meanwhile is lost already; the old shard may not be.
    if let target = rewrite.targets.first(where: { isLost($0.device) }) {
      return .refused(.unavailable, "device \(target.device) is gone")
    }
    switch rewrite.work {
    case .moves(let moves):
      for move in moves {
        let index = Int(move.shardIndex)
        guard index < container.places.count else { throw .corrupt("lease \(lease)") }
        doom(DoomedShard(device: move.from, shard: container.places.shards(of: id)[index]))
        container.places[index] = ShardPlace(device: move.to, generation: lease)
        view.delete(Key.of(.deviceContainer, move.from.raw, id.raw))
        view.put(Key.of(.deviceContainer, move.to.raw, id.raw), [move.shardIndex])
      }
    case .repack(let scheme, let devices):
      for (place, shard) in zip(container.places, container.places.shards(of: id)) {
        doom(DoomedShard(device: place.device, shard: shard))
        view.delete(Key.of(.deviceContainer, place.device.raw, id.raw))
      }
      for target in rewrite.targets {
        view.put(
          Key.of(.deviceContainer, target.device.raw, id.raw), [target.shard.shardIndex])
      }
      container.scheme = scheme
      container.places = [ShardPlace](devices, generation: lease)
      try repack(&container, scheme)
      // All shards are of one generation again, so a writer may go on in it.
      if !container.isFull && devices.allSatisfy({ isHealthy($0) }) {
        container.state = .available
        view.put(Key.available(container), [])
      }
    }
    containers.set(id, container)
    view.delete(Key.of(.rewrite, id.raw))
    return .done
  }

  /// Gives a lease up, if it is still that one; what was written under it is doomed.
  func endRewrite(_ id: ContainerID, lease: UInt64?) throws(StoreError) {
    guard let rewrite = try rewrite(of: id), lease == nil || rewrite.id == lease else { return }
    for target in rewrite.targets { doom(target) }
    view.delete(Key.of(.rewrite, id.raw))
  }

  private func doom(_ doomed: DoomedShard) { view.put(Key.doomed(doomed), []) }

  // MARK: Directories

  /// A whole directory, ascending by ordinal.
  private func rows(of id: ContainerID) throws(StoreError) -> [StripeRecord] {
    try stripes(of: id, from: 0, limit: .max)
  }

  private func replaceRows(of id: ContainerID, _ old: [StripeRecord], by new: [StripeRecord]) {
    directory.remove(id)
    for row in old { view.delete(Key.of(.directory, id.raw, row.firstOrdinal)) }
    for row in new { view.put(Key.of(.directory, id.raw, row.firstOrdinal), row) }
  }

  /// The directory of the new generation takes the place of the old one.
  private func repack(_ container: inout ContainerRecord, _ scheme: Scheme) throws(StoreError) {
    let old = try rows(of: container.id)
    guard let repacked = Repacking(old, scheme: scheme) else {
      throw .corrupt("\(container.id) cannot be \(scheme)")
    }
    replaceRows(of: container.id, old, by: repacked.rows)
    container.stripeCount = UInt64(repacked.stripes.count)
    container.dataByteCount = UInt64(repacked.byteCount)
    try setBlockBytes(of: &container, repacked.stripes.map(\.layout))
    container.nextStripe = container.stripeCount
  }

  /// Has a container, and what is known of its chunks, forget groups that are in its directory no more.
  private func drop(
    _ groups: [(firstOrdinal: UInt64, group: StripeRecord.Group)],
    from container: inout ContainerRecord, leaving rows: [StripeRecord]
  ) throws(StoreError) {
    let id = container.id
    var chunkBytes: UInt64 = 0
    var groupBytes: UInt64 = 0
    for (firstOrdinal, group) in groups {
      groupBytes += UInt64(group.storedByteCount)
      container.chunkCount &-= UInt64(group.chunks.count)
      for (index, chunk) in group.chunks.enumerated() {
        chunkBytes += UInt64(chunk.byteCount)
        let key = Key.fingerprint(chunk.fingerprint, in: container.domain)
        if let hint: FingerprintHint = try view.value(key), hint.container == id,
          hint.ordinal == firstOrdinal + UInt64(index)
        {
          view.delete(key)
        }
      }
    }
    container.chunkByteCount &-= chunkBytes
    container.groupByteCount &-= groupBytes
    try count(in: container.domain) {
      $0.chunkBytes &-= chunkBytes
      $0.groupBytes &-= groupBytes
    }
    let stored = Self.storedStripes(rows)
    container.stripeCount = UInt64(stored.count)
    container.dataByteCount = stored.reduce(0) { $0 + UInt64($1.layout.byteCount) }
    try setBlockBytes(of: &container, stored.map(\.layout))
    containers.set(id, container)
  }

  /// The container's stripes are these now.
  private func setBlockBytes(
    of container: inout ContainerRecord, _ layouts: [StripeLayout]
  ) throws(StoreError) {
    let now = layouts.reduce(0) { $0 + UInt64($1.storedByteCount) }
    let before = container.blockByteCount
    try count(in: container.domain) { $0.blockBytes = $0.blockBytes &+ now &- before }
    container.blockByteCount = now
  }

  /// Ordinals that edges lead to, ascending and separate.
  private func aliveOrdinals(of id: ContainerID) throws(StoreError) -> [NumberRun] {
    var runs: [NumberRun] = []
    for edge in try view.scan(KeyRange(prefix: Key.of(.containerEdge, id.raw))) {
      runs += try OrdinalSet(stored: edge.value).runs
    }
    return NumberRun.normalized(runs)
  }

  /// Stripes that a directory names, each once, ascending.
  private static func storedStripes(_ rows: [StripeRecord]) -> [RewriteShards.Stripe] {
    var result: [RewriteShards.Stripe] = []
    for row in rows.sorted(by: { $0.stripe < $1.stripe }) where result.last?.stripe != row.stripe {
      result.append(RewriteShards.Stripe(stripe: row.stripe, layout: row.layout))
    }
    return result
  }

  func clearDoomed(_ shards: [DoomedShard]) {
    for shard in shards { view.delete(Key.doomed(shard)) }
  }

  // MARK: Queries

  /// Bytes of a container's groups in which something is alive, of all that its stripes hold
  /// (``ContainerRecord/dataByteCount``); nil when it is gone, or has more edges than are looked through at once. Its cost
  /// follows the edges and the chunks.
  package func liveByteCount(of id: ContainerID) throws(StoreError) -> UInt64? {
    guard let container = try containers.get(id), container.edgeCount <= Self.thinningLimit else {
      return nil
    }
    let living = Repacking.living(try rows(of: id), alive: try aliveOrdinals(of: id)).rows
    return living.reduce(0) { sum, row in
      row.groups.reduce(sum) { $0 + UInt64($1.storedByteCount) }
    }
  }

  /// The live lease of a container.
  package func rewrite(of id: ContainerID) throws(StoreError) -> RewriteRecord? {
    try view.value(Key.of(.rewrite, id.raw))
  }

  /// The stripes of a container as its directory says, ascending.
  package func storedStripes(of id: ContainerID) throws(StoreError) -> [RewriteShards.Stripe] {
    Self.storedStripes(try rows(of: id))
  }

  /// What a container would hold under `scheme`; nil when it cannot be so.
  package func repacking(_ id: ContainerID, scheme: Scheme) throws(StoreError) -> Repacking? {
    Repacking(try rows(of: id), scheme: scheme)
  }

  /// All live leases, ascending by container.
  package func rewrites() throws(StoreError) -> [RewriteRecord] {
    var result: [RewriteRecord] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.rewrite))) {
      result.append(try RewriteRecord(stored: entry.value))
    }
    return result
  }

  /// Shards that their devices are still to drop, ascending by device; those after `after`.
  package func doomedShards(limit: Int, after: DoomedShard? = nil) throws(StoreError)
    -> [DoomedShard]
  {
    var range = KeyRange(prefix: Key.family(.doomedShard))
    if let after { range.lower = Key.doomed(after) + [0] }
    var result: [DoomedShard] = []
    for entry in try view.scan(range, limit: limit) {
      result.append(try Key.doomed(in: entry.key))
    }
    return result
  }

  /// Whether a device is still to drop this shard.
  package func isDoomed(_ shard: DoomedShard) throws(StoreError) -> Bool {
    try view.get(Key.doomed(shard)) != nil
  }

  /// Devices that containers have shards on, listed or not, ascending. Its cost follows their number.
  package func devicesInUse() throws(StoreError) -> [DeviceID] {
    var result: [DeviceID] = []
    var range = KeyRange(prefix: Key.family(.deviceContainer))
    while let entry = try view.scan(range, limit: 1).first {
      let device = try Key.number(in: entry.key, at: 1)
      result.append(DeviceID(device))
      guard device < .max else { break }
      range.lower = Key.of(.deviceContainer, device + 1)
    }
    return result
  }
}
