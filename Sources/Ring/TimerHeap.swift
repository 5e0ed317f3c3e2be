/// Slots that wait for a time, the earliest first; a binary heap in which each slot knows its place,
/// so that one of thousands can leave at once.
///
/// All sleeps of a loop share few kernel timers: most are deadlines that never pass, and arming and
/// cancelling a kernel timer each cost microseconds where the machine is virtual.
struct TimerHeap {
  private var slots: UnsafeMutablePointer<SlotPointer>
  private var capacity: Int
  private(set) var count = 0
  /// Orders equal deadlines by their insertion.
  private var nextSequence: UInt64 = 0

  init() {
    capacity = 64
    slots = .allocate(capacity: capacity)
  }

  func free() { slots.deallocate() }

  var first: SlotPointer? { count > 0 ? slots[0] : nil }

  mutating func insert(_ slot: SlotPointer) {
    if count == capacity {
      let larger = UnsafeMutablePointer<SlotPointer>.allocate(capacity: capacity * 2)
      larger.moveInitialize(from: slots, count: count)
      slots.deallocate()
      slots = larger
      capacity *= 2
    }
    slot.pointee.timerSequence = nextSequence
    nextSequence += 1
    count += 1
    rise(slot, from: count - 1)
  }

  mutating func remove(_ slot: SlotPointer) {
    let place = slot.pointee.timerPlace
    slot.pointee.timerPlace = -1
    count -= 1
    guard place < count else { return }
    let last = slots[count]
    if place > 0, Self.precedes(last, slots[(place - 1) / 2]) {
      rise(last, from: place)
    } else {
      sink(last, from: place)
    }
  }

  private static func precedes(_ a: SlotPointer, _ b: SlotPointer) -> Bool {
    a.pointee.deadline != b.pointee.deadline
      ? a.pointee.deadline < b.pointee.deadline
      : a.pointee.timerSequence < b.pointee.timerSequence
  }

  private func put(_ slot: SlotPointer, at place: Int) {
    (slots + place).initialize(to: slot)
    slot.pointee.timerPlace = place
  }

  private func rise(_ slot: SlotPointer, from start: Int) {
    var place = start
    while place > 0 {
      let parent = slots[(place - 1) / 2]
      guard Self.precedes(slot, parent) else { break }
      put(parent, at: place)
      place = (place - 1) / 2
    }
    put(slot, at: place)
  }

  private func sink(_ slot: SlotPointer, from start: Int) {
    var place = start
    while true {
      var child = place * 2 + 1
      guard child < count else { break }
      if child + 1 < count, Self.precedes(slots[child + 1], slots[child]) { child += 1 }
      guard Self.precedes(slots[child], slot) else { break }
      put(slots[child], at: place)
      place = child
    }
    put(slot, at: place)
  }
}
