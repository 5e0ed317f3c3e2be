enum OpenDescriptor {
  case file(OpenFile)
  case listener(SimulatedListener)
  case endpoint(Endpoint)
}

/// What a process has open. Numbers are never used twice, so a stale one is always -EBADF.
struct DescriptorTable {
  private static let first: Int32 = 3
  private var entries: [OpenDescriptor?] = []
  private var openCount = 0

  mutating func add(_ descriptor: OpenDescriptor) -> Int32 {
    entries.append(descriptor)
    openCount += 1
    return Self.first + Int32(entries.count - 1)
  }

  subscript(number: Int32) -> OpenDescriptor? {
    let index = Int(number) - Int(Self.first)
    return entries.indices.contains(index) ? entries[index] : nil
  }

  mutating func remove(_ number: Int32) -> OpenDescriptor? {
    guard let found = self[number] else { return nil }
    entries[Int(number - Self.first)] = nil
    openCount -= 1
    return found
  }

  mutating func removeAll() {
    for index in entries.indices { entries[index] = nil }
    openCount = 0
  }

  var isEmpty: Bool { openCount == 0 }

  /// By number.
  var open: [OpenDescriptor] { entries.compactMap { $0 } }
}

/// The operations of one process that are under way.
struct UnderWay {
  private var slots: [PendingOperation?] = []
  private var free: [Int] = []

  mutating func add(_ pending: PendingOperation) {
    if let slot = free.popLast() {
      pending.slot = slot
      slots[slot] = pending
    } else {
      pending.slot = slots.count
      slots.append(pending)
    }
  }

  mutating func remove(_ pending: PendingOperation) {
    slots[pending.slot] = nil
    free.append(pending.slot)
  }

  /// Oldest first.
  var inOrder: [PendingOperation] { slots.compactMap { $0 }.sorted { $0.id < $1.id } }
}
