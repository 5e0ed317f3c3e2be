internal import Cluster
internal import Coding
internal import Messages

extension StateMachine {
  /// Steps of one `returnEdges`.
  package static let returnLimit: UInt32 = 1 << 16

  func addTrash(_ content: TrashEntry.Content) {
    view.put(
      Key.trash(position: position, index: trashIndex),
      TrashEntry(time: state.time, content: content))
    trashIndex += 1
    state.usage.trashCount &+= 1
  }

  /// A step is one edge returned, one chunk's directory entry dropped, or one trash entry finished.
  func returnEdges(limit: UInt32) throws(StoreError) -> CommandOutcome {
    var steps = Int(min(max(limit, 1), Self.returnLimit))
    var next = Key.trash(position: state.trashHead, index: 0)
    let end = KeyRange(prefix: Key.family(.trash)).upper
    while true {
      let entries = try view.scan(KeyRange(from: next, below: end), limit: 32)
      for stored in entries {
        var entry = try TrashEntry(stored: stored.value)
        // An entry that is begun makes progress, whatever the limit.
        var isDone = false
        if steps > 0 { isDone = try returnEdges(of: &entry, &steps) }
        if !isDone {
          view.put(stored.key, entry)
          state.trashHead = try Key.number(in: stored.key, at: 1)
          return .number(state.usage.trashCount)
        }
        steps = max(steps - 1, 0)
        view.delete(stored.key)
        state.usage.trashCount &-= 1
        next = stored.key + [0]
      }
      if entries.isEmpty { break }
    }
    state.trashHead = position
    return .number(state.usage.trashCount)
  }

  /// Returns what `steps` allow; false when some is left.
  private func returnEdges(of entry: inout TrashEntry, _ steps: inout Int) throws(StoreError)
    -> Bool
  {
    switch entry.content {
    case .embedded(let identity, var left):
      while let id = left.last {
        guard steps > 0 else {
          entry.content = .embedded(identity: identity, containers: left)
          return false
        }
        steps -= 1
        try dropEdge(
          to: id, key: Key.edge(.containerEdge, target: id.raw, source: .object(identity)))
        left.removeLast()
      }
      return true
    case .root(let identity, let page):
      try dropEdge(toPage: page, from: .object(identity))
      return true
    case .upload(let upload):
      return try returnEdges(ofUpload: upload, &steps)
    case .page(let page, var returned):
      guard let record: PageRecord = try view.value(Key.of(.page, page)) else {
        throw .corrupt("page \(page) in the trash")
      }
      let source = EdgeSource.page(page)
      switch record.page {
      case .runs(let runs):
        for id in Set(runs.map(\.container)).sorted().dropFirst(Int(clamping: returned)) {
          guard steps > 0 else {
            entry.content = .page(page, returned: returned)
            return false
          }
          steps -= 1
          returned += 1
          try dropEdge(to: id, key: Key.edge(.containerEdge, target: id.raw, source: source))
        }
      case .children(let children):
        for child in Set(children.map(\.page)).sorted().dropFirst(Int(clamping: returned)) {
          guard steps > 0 else {
            entry.content = .page(page, returned: returned)
            return false
          }
          steps -= 1
          returned += 1
          try dropEdge(toPage: child, from: source)
        }
      }
      view.delete(Key.of(.page, page))
      return true
    case .container(let id, let ordinal):
      return try emptyDirectory(of: id, from: ordinal, &entry, &steps)
    case .part(let identity, let page):
      try dropEdge(toPage: page, from: .part(identity))
      return true
    case .multipart(let number): return try returnEdges(ofMultipart: number, &steps)
    case .bucket(let identity): return try endMultiparts(ofBucket: identity, &steps)
    }
  }

  private func returnEdges(ofUpload upload: UInt64, _ steps: inout Int) throws(StoreError) -> Bool {
    while true {
      let held = try view.scan(KeyRange(prefix: Key.of(.held, upload)), limit: 256)
      guard !held.isEmpty else { return true }
      for row in held {
        guard steps > 0 else { return false }
        guard row.key.count == 18 else { throw .corrupt("held key") }
        if row.key[9] == 1 {
          steps -= 1
          try dropEdge(toPage: Key.number(in: row.key, at: 10), from: .upload(upload))
        } else {
          let id = try Key.container(in: row.key, at: 10)
          let edges = KeyRange(
            prefix: Key.edge(.containerEdge, target: id.raw, source: .upload(upload)))
          while steps > 0 {
            let rows = try view.scan(edges, limit: min(steps, 256))
            for edge in rows {
              steps -= 1
              try dropEdge(to: id, key: edge.key)
            }
            if rows.isEmpty { break }
          }
          // Only a scan that found none proves that all are gone.
          guard steps > 0 else { return false }
          steps -= 1
        }
        view.delete(row.key)
      }
    }
  }

  private func dropEdge(to id: ContainerID, key: [UInt8]) throws(StoreError) {
    guard try view.get(key) != nil else { return }
    guard var container = try containers.get(id), container.edgeCount > 0 else {
      throw .corrupt("an edge to \(id)")
    }
    view.delete(key)
    container.edgeCount -= 1
    try condemnIfUnused(&container)
    containers.set(id, container)
  }

  func dropEdge(toPage page: UInt64, from source: EdgeSource) throws(StoreError) {
    let key = Key.edge(.pageEdge, target: page, source: source)
    guard try view.get(key) != nil else { return }
    guard var info = try pages.get(page), info.edgeCount > 0 else {
      throw .corrupt("an edge to page \(page)")
    }
    view.delete(key)
    info.edgeCount -= 1
    guard info.edgeCount == 0 else {
      pages.set(page, info)
      return
    }
    // Dead in this step: nothing can name it any more. Its content stays until its own edges are returned.
    pages.set(page, nil)
    let nameKey = Key.pageName(info.name, in: info.domain)
    if let bytes = try view.get(nameKey), try Key.number(in: bytes, at: 0) == page {
      view.delete(nameKey)
    }
    addTrash(.page(page, returned: 0))
  }

  /// Condemns a container that no edge leads to and nobody writes. From here on its ordinals are dead; its
  /// directory and its hints, which no query believes any more, are emptied from the trash.
  func condemnIfUnused(_ container: inout ContainerRecord) throws(StoreError) {
    guard container.edgeCount == 0 else { return }
    switch container.state {
    case .open, .condemned: return
    case .available:
      view.delete(Key.available(container))
    case .sealed: try endRewrite(container.id, lease: nil)
    }
    container.state = .condemned
    let gone = container
    try count(in: container.domain) {
      $0.containerCount &-= 1
      $0.chunkBytes &-= gone.chunkByteCount
      $0.groupBytes &-= gone.groupByteCount
      $0.blockBytes &-= gone.blockByteCount
    }
    addTrash(.container(container.id, ordinal: 0))
  }

  private func emptyDirectory(
    of id: ContainerID, from first: UInt64, _ entry: inout TrashEntry, _ steps: inout Int
  ) throws(StoreError) -> Bool {
    directory.remove(id)
    guard let container = try containers.get(id) else { throw .corrupt("\(id) in the trash") }
    var ordinal = first
    let end = KeyRange(prefix: Key.of(.directory, id.raw)).upper
    while true {
      let rows = try view.scan(
        KeyRange(from: Key.of(.directory, id.raw, ordinal), below: end), limit: 16)
      guard !rows.isEmpty else { break }
      for row in rows {
        guard steps > 0 else {
          entry.content = .container(id, ordinal: ordinal)
          return false
        }
        let stripe = try StripeRecord(stored: row.value)
        // A stripe goes as a whole; the next command may get fewer steps for it.
        steps -= min(steps, stripe.chunkCount)
        for group in stripe.groups {
          for chunk in group.chunks {
            let key = Key.fingerprint(chunk.fingerprint, in: container.domain)
            if let hint: FingerprintHint = try view.value(key), hint.container == id {
              view.delete(key)
            }
          }
        }
        view.delete(row.key)
        ordinal = stripe.firstOrdinal + UInt64(stripe.chunkCount)
      }
    }
    view.put(Key.of(.condemned, id.raw), [])
    return true
  }

  /// Its shards are deleted.
  func forget(_ id: ContainerID) throws(StoreError) {
    let key = Key.of(.condemned, id.raw)
    guard try view.get(key) != nil, let container = try containers.get(id) else { return }
    view.delete(key)
    try endDataKeys(of: id)
    for device in container.devices {
      view.delete(Key.of(.deviceContainer, device.raw, id.raw))
    }
    containers.set(id, nil)
  }
}
