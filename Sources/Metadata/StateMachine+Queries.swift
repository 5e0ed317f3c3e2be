package import Cluster
package import Coding
package import Messages

extension StateMachine {
  /// Pieces of one `resolve` answer.
  package static let pieceLimit = 2048
  /// Containers named by one `stat`.
  package static let statContainerLimit = 4096
  /// Chunks whose groups one `stat` looks up.
  static let statChunkLimit = 1 << 16
  /// Pages read by one `stat`.
  static let statPageLimit = 1 << 14
  package static let listLimit = 1000
  /// Of one page: what its rows take. A page with one row more fits an answer whatever attributes versions have.
  static let listByteLimit = 2 << 20
  package static let findLimit = 4096
  package static let neighbourLimit = 4096

  // MARK: The cluster

  /// 0 before the founding.
  package var clusterID: UInt64 { state.clusterID }
  /// Of the default class.
  package var scheme: Scheme { state.scheme }
  /// When the cluster was founded: milliseconds since 1970.
  package var created: UInt64 { state.created }
  /// Milliseconds of the leaders' monotonic clocks, joined.
  package var time: UInt64 { state.time }
  package var usage: UsageCounters { state.usage }
  package var trashCount: UInt64 { state.usage.trashCount }

  // MARK: Objects

  /// - Throws: ``StoreError/refused(_:)`` with noSuchBucket, noSuchKey, as all queries below do.
  package func stat(_ name: ObjectName) throws(StoreError) -> StatObject.Answer {
    try stat(name, showing: []).answer
  }

  /// A version, and which stripes of some containers it has bytes in.
  ///
  /// - Parameter shown: those containers.
  package func stat(
    _ name: ObjectName, version: VersionName = .unnamed, showing shown: Set<ContainerID>
  ) throws(StoreError) -> (answer: StatObject.Answer, stripes: [ContainerID: Set<UInt64>]) {
    var identity: UInt64 = 0
    if version != .unnamed {
      identity = try find(FindVersion(level: .strong, name: name, version: version)).entry.identity
    }
    let record = try self.version(name, identity).record
    var found: Set<ContainerID> = []
    var chunkCount = 0
    var groups: Set<GroupPlace> = []
    var groupBytes: UInt64 = 0
    var stripes: [ContainerID: Set<UInt64>] = [:]
    try visitRuns(of: record.content) { (run) throws(StoreError) in
      found.insert(run.container)
      chunkCount += Int(run.count)
      let isCounted = chunkCount <= Self.statChunkLimit
      if isCounted || shown.contains(run.container) {
        var ordinal = run.firstOrdinal
        let end = ordinal + UInt64(run.count)
        while ordinal < end {
          guard let stripe = try directory.stripe(run.container, covering: ordinal) else {
            throw .corrupt("ordinal \(ordinal) of \(run.container) is used but not there")
          }
          if shown.contains(run.container) {
            stripes[run.container, default: []].insert(stripe.number)
          }
          if isCounted {
            for index in stripe.groupIndices(of: ordinal..<min(end, stripe.endOrdinal)) {
              let place = GroupPlace(
                container: run.container, ordinal: stripe.firstOrdinal, index: index)
              if groups.insert(place).inserted {
                groupBytes += UInt64(stripe.groups[index].storedByteCount)
              }
            }
          }
          ordinal = stripe.endOrdinal
        }
      }
      return found.count < Self.statContainerLimit
    }
    var summaries: [ContainerSummary] = []
    for id in found.sorted().prefix(Self.statContainerLimit) {
      let container = try living(id)
      summaries.append(
        ContainerSummary(
          container: id, scheme: container.scheme, places: container.places,
          missing: UInt32(container.places.count { isLost($0.device) })))
    }
    // What names its edges is nobody's business.
    var told = record
    told.moved = nil
    let storageClass =
      if let moved = record.moved { try policy(of: moved.domain) } else {
        try bucket(name.bucket).storageClass
      }
    let answer = StatObject.Answer(
      record: told, containers: summaries,
      storageClass: storageClass.name,
      groupBytes: chunkCount <= Self.statChunkLimit ? groupBytes : nil)
    return (answer, stripes)
  }

  private struct GroupPlace: Hashable {
    var container: ContainerID
    var ordinal: UInt64
    var index: Int
  }

  /// The identity of the current version when it has the same bytes and attributes: then a commit with
  /// `unlessIdentical` need not be logged. nil when there is none such, the bucket included.
  package func isIdentical(
    _ name: ObjectName, contentHash: Fingerprint, byteCount: UInt64, attributes: ObjectAttributes
  ) throws(StoreError) -> UInt64? {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)),
      let current = try object(bucket, name.key)
    else { return nil }
    let wanted = ObjectRecord(
      identity: 0, byteCount: byteCount, contentHash: contentHash, attributes: attributes,
      modified: 0, content: .inline([]))
    return Self.isIdentical(current, to: wanted) ? current.identity : nil
  }

  package func listBuckets() throws(StoreError) -> ListBuckets.Answer {
    var entries: [ListBuckets.Entry] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.bucket))) {
      let record = try BucketRecord(stored: entry.value)
      entries.append(
        ListBuckets.Entry(
          name: String(decoding: entry.key.dropFirst(), as: UTF8.self), created: record.created,
          storageClass: try policy(of: record.domain).name,
          keyDomain: try name(of: record.domain.keyDomain)))
    }
    return ListBuckets.Answer(buckets: entries)
  }

  /// Keys in byte order. Its cost follows the entries and groups answered, not the size of the bucket or of a group.
  package func list(_ request: ListObjects) throws(StoreError) -> ListObjects.Answer {
    guard let bucket = try buckets.get(Array(request.bucket.utf8)) else {
      throw .refused(.noSuchBucket, request.bucket)
    }
    let limit = min(Int(request.limit), Self.listLimit)
    var answer = ListObjects.Answer(entries: [], prefixes: [], next: nil)
    guard limit > 0 else { return answer }
    let start = Key.object(bucket: bucket.identity, key: [])
    let delimiter = Array(request.delimiter.utf8)
    let prefixCount = start.count + request.prefix.utf8.count
    var range = KeyRange(prefix: start + Array(request.prefix.utf8))
    if !request.after.isEmpty {
      let after = start + Array(request.after.utf8) + [0]
      if keyPrecedes(range.lower, after) { range.lower = after }
    }
    var count = 0
    var room = Self.listByteLimit
    func text(_ key: some Collection<UInt8>) -> String { String(decoding: key, as: UTF8.self) }
    // With a delimiter most keys may be skipped: few are fetched at first, more while none is.
    var stride = delimiter.isEmpty ? limit + 1 : 4
    scan: while true {
      let wanted = min(limit + 1 - count, stride)
      stride = min(stride * 2, limit + 1)
      let rows = try view.scan(range, limit: wanted)
      for row in rows {
        let name = row.key.dropFirst(start.count)
        if let group = Self.group(of: row.key, from: prefixCount, delimiter: delimiter) {
          if count == limit || room <= 0 {
            answer.next = try lastKey(before: range.lower, in: start).map(text)
            break scan
          }
          answer.prefixes.append(text(group.dropFirst(start.count)))
          count += 1
          stride = 4
          guard let past = KeyRange.successor(of: group) else { break scan }
          range.lower = past
          continue scan
        }
        if count == limit || room <= 0 {
          answer.next = try lastKey(before: range.lower, in: start).map(text)
          break scan
        }
        room -= row.key.count + row.value.count
        let record = try ObjectRecord(stored: row.value)
        answer.entries.append(
          ListObjects.Entry(
            key: text(name), identity: record.identity, byteCount: record.byteCount,
            modified: record.modified, contentHash: record.contentHash,
            attributes: record.attributes))
        count += 1
        range.lower = row.key + [0]
      }
      if rows.count < wanted { break }
    }
    return answer
  }

  /// The part of a stored key up to and with the first delimiter at or after `offset`.
  static func group(of key: [UInt8], from offset: Int, delimiter: [UInt8]) -> [UInt8]? {
    guard !delimiter.isEmpty, key.count >= offset + delimiter.count else { return nil }
    for place in offset...key.count - delimiter.count
    where key[place..<place + delimiter.count].elementsEqual(delimiter) {
      return Array(key[..<(place + delimiter.count)])
    }
    return nil
  }

  /// The last key of the bucket below `end`: everything up to it has been listed.
  private func lastKey(before end: [UInt8], in start: [UInt8]) throws(StoreError) -> ArraySlice<
    UInt8
  >? {
    try view.scan(KeyRange(from: start, below: end), limit: 1, backward: true).first?.key.dropFirst(
      start.count)
  }

  private func living(_ id: ContainerID) throws(StoreError) -> ContainerRecord {
    guard let container = try containers.get(id), container.state != .condemned else {
      throw .corrupt("\(id) is used but not there")
    }
    return container
  }

  func content(of page: UInt64) throws(StoreError) -> Page {
    guard let record: PageRecord = try view.value(Key.of(.page, page)) else {
      throw .corrupt("page \(page) is used but not there")
    }
    return record.page
  }

  /// Tells what a version is made of, each page once and at most ``statPageLimit`` of them, until `body` has enough.
  private func visitRuns(
    of content: ObjectContent, _ body: (Run) throws(StoreError) -> Bool
  ) throws(StoreError) {
    switch content {
    case .inline: return
    case .embedded(let runs): for run in runs where try !body(run) { return }
    case .root(let root):
      var visited: Set<UInt64> = [root]
      var pending = [root]
      var pageCount = 0
      while let page = pending.popLast(), pageCount < Self.statPageLimit {
        pageCount += 1
        switch try self.content(of: page) {
        case .runs(let runs): for run in runs where try !body(run) { return }
        case .children(let children):
          for child in children.reversed() where visited.insert(child.page).inserted {
            pending.append(child.page)
          }
        }
      }
    }
  }

  // MARK: Ranges

  /// Where the bytes of a range are; at most ``pieceLimit`` pieces.
  package func resolve(_ request: ResolveRange) throws(StoreError) -> ResolveRange.Answer {
    let (record, bucket) = try version(request.name, request.identity)
    guard request.first <= record.byteCount else {
      throw .refused(.invalidRange, "\(request.first) is past the end, \(record.byteCount)")
    }
    var answer = ResolveRange.Answer(
      identity: record.identity, objectByteCount: record.byteCount,
      contentHash: record.contentHash, attributes: record.attributes, modified: record.modified,
      name: name(of: record, in: bucket), mapEpoch: map.epoch, inline: [], containers: [],
      stripes: [], pieces: [], isLast: true, keyDomain: bucket.domain.keyDomain)
    let count = min(request.byteCount, record.byteCount - request.first)
    guard count > 0 else { return answer }
    switch record.content {
    case .inline(let bytes):
      guard bytes.count == Int(clamping: record.byteCount) else { throw .corrupt("inlined bytes") }
      answer.inline = Array(bytes[Int(request.first)..<Int(request.first + count)])
    case .embedded(let runs):
      var walk = RangeWalk(skip: request.first, rest: count)
      try append(runs, &walk, to: &answer)
      answer.isLast = try isWhole(walk)
    case .root(let page):
      var walk = RangeWalk(skip: request.first, rest: count)
      try append(page, &walk, to: &answer)
      answer.isLast = try isWhole(walk)
    }
    return answer
  }

  private struct RangeWalk {
    /// Bytes before the range still to be passed over.
    var skip: UInt64
    /// Bytes of the range still to be found.
    var rest: UInt64
    var isFull = false
    var containerIndices: [ContainerID: UInt32] = [:]
    var stripeIndices: [StripePlace: UInt32] = [:]
    struct StripePlace: Hashable {
      var container: UInt32
      var ordinal: UInt64
    }
  }

  private func isWhole(_ walk: RangeWalk) throws(StoreError) -> Bool {
    if walk.rest > 0 && !walk.isFull { throw .corrupt("a version is longer than its pages") }
    return walk.rest == 0
  }

  private func append(
    _ page: UInt64, _ walk: inout RangeWalk, to answer: inout ResolveRange.Answer
  ) throws(StoreError) {
    switch try content(of: page) {
    case .runs(let runs): try append(runs, &walk, to: &answer)
    case .children(let children):
      for child in children {
        if walk.skip >= child.byteCount {
          walk.skip -= child.byteCount
          continue
        }
        // Levels are bounded when pages are put.
        try append(child.page, &walk, to: &answer)
        if walk.rest == 0 || walk.isFull { return }
      }
    }
  }

  private func append(
    _ runs: [Run], _ walk: inout RangeWalk, to answer: inout ResolveRange.Answer
  ) throws(StoreError) {
    for run in runs {
      if walk.skip >= run.byteCount {
        walk.skip -= run.byteCount
        continue
      }
      var ordinal = run.firstOrdinal
      let end = ordinal + UInt64(run.count)
      var chunkSkip = run.skip
      var runRest = run.byteCount
      while ordinal < end {
        guard let stripe = try directory.stripe(run.container, covering: ordinal) else {
          throw .corrupt("ordinal \(ordinal) of \(run.container) is used but not there")
        }
        let stop = min(end, stripe.endOrdinal)
        for index in Int(ordinal - stripe.firstOrdinal)..<Int(stop - stripe.firstOrdinal) {
          let chunk = stripe.chunks[index]
          guard chunkSkip < chunk.byteCount else { throw .corrupt("a run's skip") }
          let used = min(runRest, UInt64(chunk.byteCount - chunkSkip))
          runRest -= used
          if walk.skip >= used {
            walk.skip -= used
          } else {
            let take = min(used - walk.skip, walk.rest)
            if answer.pieces.count == Self.pieceLimit {
              walk.isFull = true
              return
            }
            answer.pieces.append(
              ResolveRange.Piece(
                stripeIndex: try stripeIndex(of: stripe, run.container, &walk, &answer),
                groupOffset: stripe.groups[Int(chunk.groupIndex)].offset,
                groupByteCount: stripe.groups[Int(chunk.groupIndex)].storedByteCount,
                codec: stripe.groups[Int(chunk.groupIndex)].codec.rawValue,
                groupPlainByteCount: stripe.groups[Int(chunk.groupIndex)].plainByteCount,
                chunkOffset: chunk.offset, chunkByteCount: chunk.byteCount,
                fingerprint: chunk.fingerprint, skip: chunkSkip + UInt32(walk.skip),
                take: UInt32(take)))
            walk.skip = 0
            walk.rest -= take
            if walk.rest == 0 { return }
          }
          chunkSkip = 0
        }
        ordinal = stop
      }
    }
  }

  private func stripeIndex(
    of stripe: DirectoryStripe, _ id: ContainerID, _ walk: inout RangeWalk,
    _ answer: inout ResolveRange.Answer
  ) throws(StoreError) -> UInt32 {
    let containerIndex: UInt32
    if let known = walk.containerIndices[id] {
      containerIndex = known
    } else {
      let container = try living(id)
      containerIndex = UInt32(answer.containers.count)
      walk.containerIndices[id] = containerIndex
      answer.containers.append(
        ResolveRange.ContainerPlan(
          container: id, scheme: container.scheme, places: container.places))
    }
    let place = RangeWalk.StripePlace(container: containerIndex, ordinal: stripe.firstOrdinal)
    if let known = walk.stripeIndices[place] { return known }
    let index = UInt32(answer.stripes.count)
    walk.stripeIndices[place] = index
    answer.stripes.append(
      ResolveRange.StripePlan(
        containerIndex: containerIndex, stripe: stripe.number,
        layout: stripe.layout))
    return index
  }

  // MARK: Chunks

  /// Where chunks of these fingerprints are, as far as they may be shared, and their neighbours.
  package func findChunks(
    _ fingerprints: [Fingerprint], in domain: ChunkDomain = .standard
  ) throws(StoreError) -> FindChunks.Answer {
    guard fingerprints.count <= Self.findLimit else {
      throw .refused(.malformed, "at most \(Self.findLimit) fingerprints are asked for at once")
    }
    let none = FindChunks.Location(container: ContainerID(.data, 0), ordinal: 0, byteCount: 0)
    var found: [FindChunks.Location] = []
    found.reserveCapacity(fingerprints.count)
    var asked: Set<Fingerprint>?
    var seen: Set<DirectoryPlace> = []
    var stripes: [(ContainerID, DirectoryStripe)] = []
    for fingerprint in fingerprints {
      guard
        let hint: FingerprintHint = try view.value(Key.fingerprint(fingerprint, in: domain)),
        try isTarget(hint.container),
        let stripe = try directory.stripe(hint.container, covering: hint.ordinal)
      else {
        found.append(none)
        continue
      }
      found.append(
        FindChunks.Location(
          container: hint.container, ordinal: hint.ordinal, byteCount: hint.byteCount))
      let place = DirectoryPlace(container: hint.container, ordinal: stripe.firstOrdinal)
      if seen.insert(place).inserted { stripes.append((hint.container, stripe)) }
    }
    var neighbours: [FindChunks.Neighbour] = []
    neighbours: for (id, stripe) in stripes {
      if asked == nil { asked = Set(fingerprints) }
      for (index, chunk) in stripe.chunks.enumerated()
      where asked?.insert(chunk.fingerprint).inserted == true {
        if neighbours.count == Self.neighbourLimit { break neighbours }
        neighbours.append(
          FindChunks.Neighbour(
            fingerprint: chunk.fingerprint,
            location: FindChunks.Location(
              container: id, ordinal: stripe.firstOrdinal + UInt64(index),
              byteCount: chunk.byteCount)))
      }
    }
    return FindChunks.Answer(found: found, neighbours: neighbours)
  }

  private struct DirectoryPlace: Hashable {
    var container: ContainerID
    var ordinal: UInt64
  }

  // MARK: For the leader

  /// All sessions, ascending. When they were last used is soft state of the leader.
  package func allSessions() throws(StoreError) -> [(id: UInt64, record: SessionRecord)] {
    var result: [(id: UInt64, record: SessionRecord)] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.session))) {
      result.append((try Key.number(in: entry.key, at: 1), try SessionRecord(stored: entry.value)))
    }
    return result
  }

  package func hasSession(_ id: UInt64) throws(StoreError) -> Bool { try sessions.get(id) != nil }

  /// The outcome of a command that was carried out before: a retry of it need not be logged. nil when it is
  /// unknown or was dropped.
  package func outcome(session: UInt64, sequence: UInt64) throws(StoreError) -> CommandOutcome? {
    try view.value(Key.of(.outcome, session, sequence))
  }

  /// All live grants, by session and number.
  package func openGrants() throws(StoreError) -> [OpenGrant] {
    var result: [OpenGrant] = []
    for entry in try view.scan(KeyRange(prefix: Key.family(.grant))) {
      result.append(try OpenGrant(stored: entry.value))
    }
    return result
  }

  /// Grants that ended and are not cleared yet, the oldest first; those after `after`, so that one whose device
  /// is down does not hide the others.
  package func endedGrants(limit: Int, after: UInt64 = 0) throws(StoreError) -> [EndedGrant] {
    var range = KeyRange(prefix: Key.family(.endedGrant))
    if after > 0 { range.lower = Key.of(.endedGrant, after) + [0] }
    var result: [EndedGrant] = []
    for entry in try view.scan(range, limit: limit) {
      result.append(try EndedGrant(stored: entry.value))
    }
    return result
  }

  /// Containers that may be granted again, to writers that the leader places on exactly their devices.
  ///
  /// - Parameter isUsable: asked of each; ends when `limit` are found.
  package func availableContainers(
    limit: Int, where isUsable: (ContainerRecord) -> Bool = { _ in true }
  ) throws(StoreError) -> [ContainerRecord] {
    var result: [ContainerRecord] = []
    var range = KeyRange(prefix: Key.family(.availableContainer))
    while result.count < limit {
      let rows = try view.scan(range, limit: 64)
      for row in rows {
        let id = try Key.container(in: row.key, at: row.key.count - 8)
        guard let container = try containers.get(id) else {
          throw .corrupt("\(id) is listed as available")
        }
        if isUsable(container) { result.append(container) }
        if result.count == limit { break }
      }
      guard rows.count == 64, let last = rows.last else { break }
      range.lower = last.key + [0]
    }
    return result
  }

  package func container(_ id: ContainerID) throws(StoreError) -> ContainerRecord? {
    try containers.get(id)
  }

  /// All containers, condemned ones included, ascending; those after `after`.
  package func containers(after: ContainerID?, limit: Int) throws(StoreError) -> [ContainerRecord] {
    var range = KeyRange(prefix: Key.family(.container))
    if let after { range.lower = Key.of(.container, after.raw) + [0] }
    var result: [ContainerRecord] = []
    for entry in try view.scan(range, limit: limit) {
      result.append(try ContainerRecord(stored: entry.value))
    }
    return result
  }

  /// Containers with a shard on `device`, ascending; those after `after`.
  package func containers(on device: DeviceID, after: ContainerID?, limit: Int) throws(StoreError)
    -> [ContainerRecord]
  {
    var range = KeyRange(prefix: Key.of(.deviceContainer, device.raw))
    if let after { range.lower = Key.of(.deviceContainer, device.raw, after.raw) + [0] }
    var result: [ContainerRecord] = []
    for entry in try view.scan(range, limit: limit) {
      let id = try Key.container(in: entry.key, at: 9)
      guard let container = try containers.get(id) else { throw .corrupt("\(id) is not there") }
      result.append(container)
    }
    return result
  }

  /// Condemned containers whose shards are to be deleted from their devices and that are then to be forgotten;
  /// ascending, those after `after`, so that one whose device is down does not hide the others.
  package func containersToDrop(limit: Int, after: ContainerID? = nil) throws(StoreError)
    -> [ContainerRecord]
  {
    var range = KeyRange(prefix: Key.family(.condemned))
    if let after { range.lower = Key.of(.condemned, after.raw) + [0] }
    var result: [ContainerRecord] = []
    for entry in try view.scan(range, limit: limit) {
      let id = try Key.container(in: entry.key, at: 1)
      guard let container = try containers.get(id) else { throw .corrupt("\(id) is not there") }
      result.append(container)
    }
    return result
  }

  /// The stripes of a container as registered, by first ordinal; those from `ordinal` on.
  package func stripes(of id: ContainerID, from ordinal: UInt64, limit: Int) throws(StoreError)
    -> [StripeRecord]
  {
    var range = KeyRange(prefix: Key.of(.directory, id.raw))
    range.lower = Key.of(.directory, id.raw, ordinal)
    var result: [StripeRecord] = []
    for entry in try view.scan(range, limit: limit) {
      result.append(try StripeRecord(stored: entry.value))
    }
    return result
  }
}
