package import Cluster
internal import Coding
internal import Messages
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

/// A lease to write shards of a container anew on other devices. Its number is the generation they get.
package struct RewriteRecord: Hashable, Sendable, WireValue, StoredValue {
  package var id: UInt64
  package var container: ContainerID
  /// Ascending by shard.
  package var moves: [ShardMove]

  /// What is written under it.
  package var targets: [DoomedShard] {
    moves.map {
      DoomedShard(
        device: $0.to,
        shard: ShardKey(container: container, generation: id, shardIndex: $0.shardIndex))
    }
  }

  package init(id: UInt64, container: ContainerID, moves: [ShardMove]) {
    self.id = id
    self.container = container
    self.moves = moves
  }
  package func encode(into writer: inout ByteWriter) {
    writer.fixed(UInt8(1))
    writer.varint(id)
    writer.value(container)
    writer.list(moves)
  }
  package init(from reader: inout ByteReader) throws(ValueError) {
    try reader.version(1)
    id = try reader.varint()
    container = try reader.value()
    moves = try reader.list(limit: Scheme.largestWidth)
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

/// Shards written anew elsewhere: a lease, then one swap of the places, or its end.
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
      guard isHealthy(move.to) else {
        return .refused(.unavailable, "device \(move.to) takes no new data")
      }
    }
    let targets = Set(moves.map(\.to))
    guard targets.count == moves.count, targets.isDisjoint(with: container.devices) else {
      return .refused(.malformed, "\(id) would have two shards on one device")
    }
    switch container.state {
    case .open, .condemned: return .refused(.failed, "\(id) is \(container.state)")
    case .available:
      view.delete(Key.available(id, scheme: container.scheme, devices: container.devices))
      container.state = .sealed
      containers.set(id, container)
    case .sealed: break
    }
    view.put(
      Key.of(.rewrite, id.raw), RewriteRecord(id: position, container: id, moves: moves))
    return .number(position)
  }

  /// The moved shards are whole on their devices: they take the places of the old ones.
  func commitRewrite(_ id: ContainerID, lease: UInt64) throws(StoreError) -> CommandOutcome {
    guard let rewrite = try rewrite(of: id), rewrite.id == lease else {
      return .refused(.grantEnded, "lease \(lease)")
    }
    guard var container = try containers.get(id), container.state == .sealed else {
      throw .corrupt("\(id) is rewritten and not sealed")
    }
    // What went to a device that was given up meanwhile is lost already; the old shard may not be.
    if let move = rewrite.moves.first(where: { isLost($0.to) }) {
      return .refused(.unavailable, "device \(move.to) is gone")
    }
    for move in rewrite.moves {
      let index = Int(move.shardIndex)
      doom(DoomedShard(device: move.from, shard: container.places.shards(of: id)[index]))
      container.places[index] = ShardPlace(device: move.to, generation: lease)
      view.delete(Key.of(.deviceContainer, move.from.raw, id.raw))
      view.put(Key.of(.deviceContainer, move.to.raw, id.raw), [move.shardIndex])
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

  func clearDoomed(_ shards: [DoomedShard]) {
    for shard in shards { view.delete(Key.doomed(shard)) }
  }

  // MARK: Queries

  /// The live lease of a container.
  package func rewrite(of id: ContainerID) throws(StoreError) -> RewriteRecord? {
    try view.value(Key.of(.rewrite, id.raw))
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
