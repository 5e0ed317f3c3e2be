package import Messages

extension StateMachine {
  /// Pieces of one ``CoverRange`` answer.
  package static let coverLimit = 2048

  package func listParts(_ request: ListParts) throws(StoreError) -> ListParts.Answer {
    let multipart = request.multipart
    guard let bucket = try buckets.get(Array(multipart.name.bucket.utf8)) else {
      throw .refused(.noSuchBucket, multipart.name.bucket)
    }
    let row = MultipartRow(
      bucket: bucket.identity, key: multipart.name.key, number: multipart.number)
    guard multipart.number < 1 << 56,
      let record: MultipartRecord = try view.value(Key.multipart(row))
    else { throw .refused(.noSuchMultipart, "multipart upload \(multipart.number)") }
    let limit = min(Int(request.limit), Self.listLimit)
    var answer = ListParts.Answer(description: record.description, parts: [], isLast: true)
    var range = KeyRange(prefix: Key.of(.part, multipart.number))
    range.lower = Key.part(multipart.number, request.after) + [0]
    for entry in try view.scan(range, limit: limit + 1) {
      guard answer.parts.count < limit else {
        answer.isLast = false
        break
      }
      let part = try PartRecord(stored: entry.value)
      answer.parts.append(
        ListParts.Part(part: part.part, identity: part.identity, modified: part.modified))
    }
    return answer
  }

  package func listMultiparts(_ request: ListMultiparts) throws(StoreError)
    -> ListMultiparts.Answer
  {
    guard let bucket = try buckets.get(Array(request.bucket.utf8)) else {
      throw .refused(.noSuchBucket, request.bucket)
    }
    let limit = min(Int(request.limit), Self.listLimit)
    func start(_ key: some Collection<UInt8>) -> [UInt8] {
      Key.multiparts(bucket: bucket.identity, keyPrefix: key)
    }
    var range = KeyRange(prefix: start(request.prefix.utf8))
    if !request.afterKey.isEmpty {
      let after =
        request.afterNumber == 0
        // The first byte of a number is 0.
        ? start(request.afterKey.utf8) + [0, 1]
        : Key.multipart(
          MultipartRow(
            bucket: bucket.identity, key: request.afterKey, number: request.afterNumber)) + [0]
      if keyPrecedes(range.lower, after) { range.lower = after }
    }
    var answer = ListMultiparts.Answer(entries: [], prefixes: [], isLast: true)
    let delimiter = Array(request.delimiter.utf8)
    scan: while true {
      // With a delimiter most may be skipped.
      let count = answer.entries.count + answer.prefixes.count
      let wanted = delimiter.isEmpty ? limit + 1 - count : min(limit + 1 - count, 16)
      let rows = try view.scan(range, limit: wanted)
      for entry in rows {
        guard answer.entries.count + answer.prefixes.count < limit else {
          answer.isLast = limit == 0
          break scan
        }
        let row = try Key.multipart(in: entry.key)
        let key = Array(row.key.utf8)
        if let group = Self.group(of: key, from: request.prefix.utf8.count, delimiter: delimiter) {
          answer.prefixes.append(String(decoding: group, as: UTF8.self))
          guard let past = KeyRange.successor(of: start(group)) else { break scan }
          range.lower = past
          continue scan
        }
        answer.entries.append(
          ListMultiparts.Entry(
            key: row.key, number: row.number,
            description: try MultipartRecord(stored: entry.value).description))
        range.lower = entry.key + [0]
      }
      if rows.count < wanted { break }
    }
    return answer
  }

  /// Multipart uploads in the order of their rows, those after `after`, and when each was begun by the cluster's time.
  package func multiparts(after: MultipartRow?, limit: Int) throws(StoreError) -> [(
    row: MultipartRow, opened: UInt64
  )] {
    var range = KeyRange(prefix: Key.family(.multipart))
    if let after { range.lower = Key.multipart(after) + [0] }
    var result: [(row: MultipartRow, opened: UInt64)] = []
    for entry in try view.scan(range, limit: limit) {
      result.append(
        (try Key.multipart(in: entry.key), try MultipartRecord(stored: entry.value).opened))
    }
    return result
  }

  package func findPart(_ request: FindPart) throws(StoreError) -> FindPart.Answer {
    let record = try version(request.name, request.identity).record
    let none = StoreError.refused(.invalidRange, "part \(request.ordinal)")
    guard request.ordinal > 0, request.ordinal <= request.partCount else { throw none }
    var parts: [Page.Child] = []
    if case .root(let root) = record.content,
      let found = try self.parts(under: root, count: Int(clamping: request.partCount))
    {
      parts = found
    }
    // The last may have no bytes.
    guard Int(request.partCount) <= parts.count + 1, parts.count <= Int(request.partCount) else {
      throw none
    }
    let index = Int(request.ordinal) - 1
    let first = parts.prefix(index).reduce(UInt64(0)) { $0 &+ $1.byteCount }
    return FindPart.Answer(
      first: first, byteCount: index < parts.count ? parts[index].byteCount : 0)
  }

  package func cover(_ request: CoverRange) throws(StoreError) -> CoverRange.Answer {
    let record = try version(request.name, request.identity).record
    let (end, overflow) = request.first.addingReportingOverflow(request.byteCount)
    guard !overflow, end <= record.byteCount else {
      throw .refused(.invalidRange, "\(end) is past the end, \(record.byteCount)")
    }
    var answer = CoverRange.Answer(inline: [], pieces: [], byteCount: 0)
    guard request.byteCount > 0 else { return answer }
    switch record.content {
    case .inline(let bytes):
      guard bytes.count == Int(clamping: record.byteCount) else { throw .corrupt("inlined bytes") }
      answer.inline = Array(bytes[Int(request.first)..<Int(end)])
      answer.byteCount = request.byteCount
    case .embedded(let runs):
      var walk = CoverWalk(skip: request.first, rest: request.byteCount)
      try cover(runs, &walk)
      answer.pieces = walk.pieces
      answer.byteCount = request.byteCount - walk.rest
    case .root(let page):
      var walk = CoverWalk(skip: request.first, rest: request.byteCount)
      try cover(page, byteCount: record.byteCount, &walk)
      answer.pieces = walk.pieces
      answer.byteCount = request.byteCount - walk.rest
    }
    guard answer.byteCount > 0 else { throw .corrupt("a version is longer than its pages") }
    return answer
  }

  private struct CoverWalk {
    /// Bytes before the range still to be passed over.
    var skip: UInt64
    /// Bytes of the range still to be found.
    var rest: UInt64
    var pieces: [Page] = []
    var isFull: Bool { pieces.count >= StateMachine.coverLimit }
  }

  private func cover(_ page: UInt64, byteCount: UInt64, _ walk: inout CoverWalk)
    throws(StoreError)
  {
    if walk.skip == 0, byteCount <= walk.rest, let info = try pages.get(page), info.level <= 1 {
      walk.pieces.append(.children([Page.Child(page: page, byteCount: byteCount)]))
      walk.rest -= byteCount
      return
    }
    switch try content(of: page) {
    case .runs(let runs): try cover(runs, &walk)
    case .children(let children):
      for child in children {
        if walk.skip >= child.byteCount {
          walk.skip -= child.byteCount
          continue
        }
        try cover(child.page, byteCount: child.byteCount, &walk)
        if walk.rest == 0 || walk.isFull { return }
      }
    }
  }

  /// The part of some runs that lies in the range, as one page.
  private func cover(_ runs: [Run], _ walk: inout CoverWalk) throws(StoreError) {
    var found: [Run] = []
    for run in runs where walk.rest > 0 {
      if walk.skip >= run.byteCount {
        walk.skip -= run.byteCount
        continue
      }
      var cut: Run?
      var ordinal = run.firstOrdinal
      let end = ordinal + UInt64(run.count)
      var chunkSkip = run.skip
      var runRest = run.byteCount
      chunks: while ordinal < end {
        guard let stripe = try directory.stripe(run.container, covering: ordinal) else {
          throw .corrupt("ordinal \(ordinal) of \(run.container) is used but not there")
        }
        let stop = min(end, stripe.endOrdinal)
        for index in Int(ordinal - stripe.firstOrdinal)..<Int(stop - stripe.firstOrdinal) {
          guard walk.rest > 0, runRest > 0 else { break chunks }
          let chunk = stripe.chunks[index]
          guard chunkSkip < chunk.byteCount else { throw .corrupt("a run does not fit") }
          let used = min(runRest, UInt64(chunk.byteCount - chunkSkip))
          runRest -= used
          defer { chunkSkip = 0 }
          if walk.skip >= used {
            walk.skip -= used
            continue
          }
          let take = min(used - walk.skip, walk.rest)
          if cut == nil {
            cut = Run(
              container: run.container, firstOrdinal: stripe.firstOrdinal + UInt64(index),
              count: 0, skip: chunkSkip + UInt32(walk.skip), byteCount: 0)
          }
          cut!.count += 1
          cut!.byteCount += take
          walk.skip = 0
          walk.rest -= take
        }
        ordinal = stop
      }
      if let cut { found.append(cut) }
    }
    if !found.isEmpty { walk.pieces.append(.runs(found)) }
  }
}
