internal import Ring

/// Takes bytes from several slices in a row.
struct GatherCursor {
  private let slices: [Slice]
  private var index = 0
  private var offset = 0

  init(_ slices: [Slice]) { self.slices = slices }

  mutating func copy(into target: UnsafeMutableRawPointer, byteCount: Int) {
    var done = 0
    while done < byteCount {
      let slice = slices[index]
      let part = min(slice.count - offset, byteCount - done)
      slice.withBytes { bytes in
        if part > 0, let base = bytes.baseAddress {
          (target + done).copyMemory(from: base + offset, byteCount: part)
        }
      }
      done += part
      offset += part
      if offset == slice.count {
        index += 1
        offset = 0
      }
    }
  }

  mutating func skip(_ byteCount: Int) {
    var left = byteCount
    while left > 0 {
      let part = min(slices[index].count - offset, left)
      left -= part
      offset += part
      if offset == slices[index].count {
        index += 1
        offset = 0
      }
    }
  }
}
