internal import Coding
internal import Messages
internal import Wire

/// Objects that come in parts. A part holds its root page as an object does; completing makes these pages the children of one,
/// so that no byte and no page below moves.
extension StateMachine {
  static let ownerByteLimit = 256

  func createMultipart(_ name: ObjectName, _ description: MultipartDescription) throws(StoreError)
    -> CommandOutcome
  {
    guard let bucket = try buckets.get(Array(name.bucket.utf8)) else {
      return .refused(.noSuchBucket, name.bucket)
    }
    if let problem = Self.problem(withKey: name.key) { return .refused(.invalidName, problem) }
    if let refusal = lockRefusal(description.attributes, in: bucket) { return refusal }
    guard description.owner.utf8.count <= Self.ownerByteLimit else {
      return .refused(.invalidName, "an owner's name has at most \(Self.ownerByteLimit) bytes")
    }
    view.put(
      Key.multipart(MultipartRow(bucket: bucket.identity, key: name.key, number: position)),
      MultipartRecord(opened: state.time, description: description))
    return .number(position)
  }

  /// What a command's multipart upload is, or why there is none.
  private enum Found {
    case there(BucketRecord, MultipartRow)
    case not(CommandOutcome)
  }

  private func find(_ multipart: MultipartName) throws(StoreError) -> Found {
    guard let bucket = try buckets.get(Array(multipart.name.bucket.utf8)) else {
      return .not(.refused(.noSuchBucket, multipart.name.bucket))
    }
    let row = MultipartRow(
      bucket: bucket.identity, key: multipart.name.key, number: multipart.number)
    guard multipart.number < 1 << 56, try view.get(Key.multipart(row)) != nil else {
      return .not(.refused(.noSuchMultipart, "multipart upload \(multipart.number)"))
    }
    return .there(bucket, row)
  }

  func putPart(
    _ upload: UploadKey, _ multipart: MultipartName, _ part: NewPart, modified: UInt64
  ) throws(StoreError) -> CommandOutcome {
    guard NewPart.numbers.contains(part.number) else {
      return .refused(.malformed, "part number \(part.number)")
    }
    let bucket: BucketRecord
    switch try find(multipart) {
    case .not(let refusal): return refusal
    case .there(let found, _): bucket = found
    }
    if part.page != 0 {
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      guard let info = try pages.get(part.page) else {
        return .missing(runs: [], pages: [part.page])
      }
      guard info.byteCount == part.byteCount else {
        return .refused(.malformed, "\(info.byteCount) bytes are not \(part.byteCount)")
      }
      if let refusal = try refusal(of: info.domain, in: bucket, multipart.name.bucket) {
        return refusal
      }
      try addEdge(from: .part(position), toPage: part.page)
    } else if part.byteCount != 0 {
      return .refused(.malformed, "\(part.byteCount) bytes without a page")
    }
    let key = Key.part(multipart.number, part.number)
    let former: PartRecord? = try view.value(key)
    view.put(key, PartRecord(identity: position, part: part, modified: modified))
    if let former, former.part.page != 0 {
      addTrash(.part(identity: former.identity, page: former.part.page))
    }
    return .number(position)
  }

  func completeMultipart(
    _ upload: UploadKey, _ multipart: MultipartName, _ choices: [PartChoice], root: UInt64,
    attributes: ObjectAttributes, precondition: Precondition, modified: UInt64
  ) throws(StoreError) -> CommandOutcome {
    let bucket: BucketRecord
    let row: MultipartRow
    switch try find(multipart) {
    case .not(let refusal): return refusal
    case .there(let foundBucket, let foundRow):
      bucket = foundBucket
      row = foundRow
    }
    guard !choices.isEmpty else { return .refused(.malformed, "no parts") }
    if let refusal = lockRefusal(attributes, in: bucket) { return refusal }
    var listed: [Page.Child] = []
    var last: UInt32 = 0
    var byteCount: UInt64 = 0
    for choice in choices {
      guard choice.number > last else { return .refused(.partOrder, "part \(choice.number)") }
      last = choice.number
      guard let found: PartRecord = try view.value(Key.part(multipart.number, choice.number)),
        found.identity == choice.identity
      else { return .refused(.noSuchPart, "part \(choice.number)") }
      if found.part.page == 0 { continue }
      listed.append(Page.Child(page: found.part.page, byteCount: found.part.byteCount))
      byteCount &+= found.part.byteCount
    }
    let name = multipart.name
    let current = try object(bucket, name.key)
    if let refusal = Self.refusal(precondition, current: current) { return refusal }
    var record = ObjectRecord(
      identity: position, byteCount: byteCount, contentHash: Fingerprint(of: []),
      attributes: attributes, modified: modified, content: .inline([]))
    if listed.isEmpty {
      guard root == 0 else { return .refused(.malformed, "a page of no parts") }
    } else {
      guard try uploads.get(upload) != nil else { return .noSuchUpload(upload.number) }
      guard let info = try pages.get(root) else { return .missing(runs: [], pages: [root]) }
      guard try self.parts(under: root, count: listed.count) == listed, info.byteCount == byteCount
      else {
        return .refused(.malformed, "page \(root) is not made of the parts")
      }
      record.contentHash = info.name
      record.content = .root(root)
      try addEdge(from: .object(position), toPage: root)
    }
    let outcome = try store(record, at: name, in: bucket, replacing: current)
    try endMultipart(row)
    return outcome
  }

  /// The parts that a completed object's root page stands for: its children, or theirs where they were too many for one page.
  ///
  /// - Parameter count: how many there are; one more may have had no bytes.
  func parts(under root: UInt64, count: Int) throws(StoreError) -> [Page.Child]? {
    guard case .children(let children) = try content(of: root) else { return nil }
    if children.count + 1 >= count { return children }
    var parts: [Page.Child] = []
    for child in children {
      guard case .children(let more) = try content(of: child.page) else { return nil }
      parts += more
      guard parts.count <= count else { return nil }
    }
    return parts
  }

  func abortMultipart(_ multipart: MultipartName) throws(StoreError) -> CommandOutcome {
    switch try find(multipart) {
    case .not(let refusal): return refusal
    case .there(_, let row):
      try endMultipart(row)
      return .done
    }
  }

  /// Nothing of it can be named any more; its parts go from the trash.
  func endMultipart(_ row: MultipartRow) throws(StoreError) {
    let key = Key.multipart(row)
    guard try view.get(key) != nil else { return }
    view.delete(key)
    let parts = KeyRange(prefix: Key.of(.part, row.number))
    guard try !view.scan(parts, limit: 1).isEmpty else { return }
    addTrash(.multipart(row.number))
  }

  // MARK: The trash

  /// A bucket is no more: what came to it in parts ends from the trash.
  func endMultiparts(of bucket: BucketRecord) throws(StoreError) {
    let range = KeyRange(prefix: Key.multiparts(bucket: bucket.identity, keyPrefix: []))
    if try !view.scan(range, limit: 1).isEmpty { addTrash(.bucket(bucket.identity)) }
  }

  func endMultiparts(ofBucket bucket: UInt64, _ steps: inout Int) throws(StoreError) -> Bool {
    let range = KeyRange(prefix: Key.multiparts(bucket: bucket, keyPrefix: []))
    while true {
      let rows = try view.scan(range, limit: 64)
      guard !rows.isEmpty else { return true }
      for row in rows {
        guard steps > 0 else { return false }
        steps -= 1
        try endMultipart(Key.multipart(in: row.key))
      }
    }
  }

  func returnEdges(ofMultipart number: UInt64, _ steps: inout Int) throws(StoreError) -> Bool {
    let range = KeyRange(prefix: Key.of(.part, number))
    while true {
      let rows = try view.scan(range, limit: 64)
      guard !rows.isEmpty else { return true }
      for row in rows {
        guard steps > 0 else { return false }
        steps -= 1
        let part = try PartRecord(stored: row.value)
        if part.part.page != 0 {
          try dropEdge(toPage: part.part.page, from: .part(part.identity))
        }
        view.delete(row.key)
      }
    }
  }
}
