internal import Cluster
internal import Coding
internal import Messages

/// What came of checking the runs of a page.
enum RunCheck {
  /// `uses`: for each container, ascending, the ordinals the runs use; all are of one domain.
  case alive(
    name: Fingerprint, byteCount: UInt64, uses: [(ContainerID, OrdinalSet)], domain: ChunkDomain)
  case missing([Run])
  case malformed(String)
}

extension StateMachine {
  /// Chunks of a page of runs.
  package static let pageChunkLimit = 1024

  func putPage(_ upload: UploadKey, page: Page) throws(StoreError) -> CommandOutcome {
    guard let uploadRecord = try uploads.get(upload) else { return .noSuchUpload(upload.number) }
    var info: PageInfo
    var uses: [(ContainerID, OrdinalSet)] = []
    var children: [UInt64] = []
    switch page {
    case .runs(let runs):
      switch try check(runs) {
      case .malformed(let problem): return .refused(.malformed, problem)
      case .missing(let missing): return .missing(runs: missing, pages: [])
      case .alive(let name, let byteCount, let found, let domain):
        uses = found
        info = PageInfo(
          edgeCount: 0, byteCount: byteCount, level: 0, name: name, domain: domain)
      }
    case .children(let listed):
      guard !listed.isEmpty else { return .refused(.malformed, "a page without children") }
      var hasher = SHA256Hasher()
      hasher.update([1])
      info = PageInfo(
        edgeCount: 0, byteCount: 0, level: 0, name: Fingerprint(w0: 0, w1: 0, w2: 0, w3: 0),
        domain: .standard)
      var domain: ChunkDomain?
      var missing: [UInt64] = []
      for child in listed {
        guard let known = try pages.get(child.page) else {
          missing.append(child.page)
          continue
        }
        guard known.byteCount == child.byteCount else {
          return .refused(.malformed, "page \(child.page) has \(known.byteCount) bytes")
        }
        guard known.domain == domain ?? known.domain else {
          return .refused(.malformed, "pages of several domains")
        }
        domain = known.domain
        info.domain = known.domain
        // Both are below 2^62.
        info.byteCount += child.byteCount
        guard info.byteCount < 1 << 62 else { return .refused(.malformed, "page size") }
        info.level = max(info.level, known.level + 1)
        hasher.update(known.name.bytes)
        withUnsafeBytes(of: child.byteCount.littleEndian) { hasher.update($0) }
      }
      guard missing.isEmpty else { return .missing(runs: [], pages: missing) }
      guard info.level <= PageInfo.levelLimit else {
        return .refused(.malformed, "more than \(PageInfo.levelLimit) levels of pages")
      }
      info.name = hasher.finish()
      children = Set(listed.map(\.page)).sorted()
    }

    if !uploadRecord.holds {
      var uploadRecord = uploadRecord
      uploadRecord.holds = true
      uploads.set(upload, uploadRecord)
    }
    let nameKey = Key.pageName(info.name, in: info.domain)
    if let bytes = try view.get(nameKey) {
      let known = try Key.number(in: bytes, at: 0)
      if try isShareable(known, as: page) {
        try addPageEdge(to: known, from: upload.number)
        return .number(known)
      }
    }
    view.put(nameKey, Key.of(.page, position).dropFirst().map { $0 })
    view.put(Key.of(.page, position), PageRecord(page: page))
    pages.set(position, info)
    try addPageEdge(to: position, from: upload.number)
    try addEdges(from: .page(position), to: uses)
    for child in children { try addEdge(from: .page(position), toPage: child) }
    return .number(position)
  }

  /// Whether an upload that puts `page` may be given the equal page `known` instead: it lives, and its chunks
  /// are as safe as those of any new page.
  private func isShareable(_ known: UInt64, as page: Page) throws(StoreError) -> Bool {
    guard try pages.get(known) != nil,
      let content: PageRecord = try view.value(Key.of(.page, known))
    else { return false }
    switch (content.page, page) {
    case (.runs(let runs), .runs):
      for id in Set(runs.map(\.container)).sorted() where try !isTarget(id) { return false }
      return true
    // Other children of the same names are there because the first ones were not to be shared.
    case (.children, .children): return content.page == page
    default: return false
    }
  }

  private func addPageEdge(to page: UInt64, from upload: UInt64) throws(StoreError) {
    try addEdge(from: .upload(upload), toPage: page)
    view.put(Key.held(upload: upload, page: page), [])
  }

  /// Takes an edge unless it is there.
  func addEdge(from source: EdgeSource, toPage page: UInt64) throws(StoreError) {
    let key = Key.edge(.pageEdge, target: page, source: source)
    guard try view.get(key) == nil else { return }
    guard var info = try pages.get(page) else { throw .corrupt("an edge to page \(page)") }
    view.put(key, [])
    info.edgeCount += 1
    pages.set(page, info)
  }

  /// Takes edges of a source that has none to these containers yet.
  func addEdges(from source: EdgeSource, to uses: [(ContainerID, OrdinalSet)]) throws(StoreError) {
    for (id, ordinals) in uses {
      guard var container = try containers.get(id) else { throw .corrupt("an edge to \(id)") }
      view.put(Key.edge(.containerEdge, target: id.raw, source: source), ordinals)
      container.edgeCount += 1
      containers.set(id, container)
    }
  }

  /// Checks that every ordinal is alive and every size right, and names the bytes.
  ///
  /// The name is SHA-256 over a zero byte and, for each chunk, its fingerprint, the bytes skipped at its start and
  /// the bytes used: it does not depend on where chunks are, nor on how runs divide them.
  func check(_ runs: [Run]) throws(StoreError) -> RunCheck {
    guard !runs.isEmpty else { return .malformed("a page without runs") }
    var chunkCount = 0
    for run in runs {
      chunkCount += Int(min(run.count, UInt32(Self.pageChunkLimit) + 1))
      guard chunkCount <= Self.pageChunkLimit else {
        return .malformed("a page has at most \(Self.pageChunkLimit) chunks")
      }
    }
    var missing: [Run] = []
    var hasher = SHA256Hasher()
    hasher.update([0])
    var byteCount: UInt64 = 0
    var uses: [(container: ContainerID, ordinals: NumberRun)] = []
    var domain: ChunkDomain?
    for run in runs {
      guard let container = try containers.get(run.container), container.state != .condemned else {
        missing.append(run)
        continue
      }
      guard container.domain == domain ?? container.domain else {
        return .malformed("runs of several domains")
      }
      domain = container.domain
      var ordinal = run.firstOrdinal
      let end = ordinal + UInt64(run.count)
      var skip = run.skip
      var rest = run.byteCount
      var isAlive = true
      while ordinal < end {
        guard let stripe = try directory.stripe(run.container, covering: ordinal) else {
          isAlive = false
          break
        }
        let stop = min(end, stripe.endOrdinal)
        for index in Int(ordinal - stripe.firstOrdinal)..<Int(stop - stripe.firstOrdinal) {
          let chunk = stripe.chunks[index]
          guard skip < chunk.byteCount, rest > 0 else {
            return .malformed("a run does not fit its chunks")
          }
          let take = UInt32(min(rest, UInt64(chunk.byteCount - skip)))
          let name = chunk.fingerprint
          withUnsafeBytes(
            of: (
              name.w0.bigEndian, name.w1.bigEndian, name.w2.bigEndian, name.w3.bigEndian,
              skip.littleEndian, take.littleEndian
            )
          ) { hasher.update($0) }
          rest -= UInt64(take)
          skip = 0
        }
        ordinal = stop
      }
      guard isAlive else {
        missing.append(run)
        continue
      }
      guard rest == 0 else { return .malformed("a run is longer than its chunks") }
      byteCount += run.byteCount
      uses.append((run.container, NumberRun(first: run.firstOrdinal, count: UInt64(run.count))))
    }
    guard missing.isEmpty, let domain else { return .missing(missing) }
    uses.sort { ($0.container.raw, $0.ordinals.first) < ($1.container.raw, $1.ordinals.first) }
    var grouped: [(ContainerID, [NumberRun])] = []
    for use in uses {
      if grouped.last?.0 == use.container {
        grouped[grouped.count - 1].1.append(use.ordinals)
      } else {
        grouped.append((use.container, [use.ordinals]))
      }
    }
    return .alive(
      name: hasher.finish(), byteCount: byteCount,
      uses: grouped.map { ($0.0, OrdinalSet(runs: NumberRun.normalized($0.1))) }, domain: domain)
  }
}
