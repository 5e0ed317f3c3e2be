import Glibc
package import Ring

/// What tests do to a disk behind the kernel's back. Paths count from this disk's own root.
extension SimulatedDisk {
  private func inode(_ path: String) throws(RingError) -> Inode {
    var inode = root
    for part in PathWalk.components(path) {
      guard let next = inode.directory?.current[part] else {
        throw RingError(errno: ENOENT, operation: "find", subject: path)
      }
      inode = next
    }
    return inode
  }

  private func content(_ path: String) throws(RingError) -> FileContent {
    guard let content = try inode(path).file else {
      throw RingError(errno: EISDIR, operation: "find", subject: path)
    }
    return content
  }

  /// The bytes a reader sees.
  package func contents(_ path: String) throws(RingError) -> [UInt8] {
    let content = try content(path)
    return [UInt8](unsafeUninitializedCapacity: content.byteCount) { bytes, count in
      count = content.read(into: UnsafeMutableRawBufferPointer(bytes), at: 0)
    }
  }

  /// The bytes that are certain to survive a crash now, if the name does.
  package func durableContents(_ path: String) throws(RingError) -> [UInt8] {
    let content = try content(path)
    return [UInt8](unsafeUninitializedCapacity: content.durableByteCount) { bytes, count in
      count = content.read(into: UnsafeMutableRawBufferPointer(bytes), at: 0, durable: true)
    }
  }

  /// The paths of all files, links included, below `path`, sorted; directories are walked, not named.
  package func files(under path: String = "/") throws(RingError) -> [String] {
    var found: [String] = []
    func walk(_ inode: Inode, _ path: String) {
      guard let directory = inode.directory else { return found.append(path) }
      for entry in directory.sorted {
        walk(entry.inode, path + "/" + PathText.string(entry.name))
      }
    }
    let start = try inode(path)
    let parts = PathWalk.components(path).map { PathText.string($0) }
    walk(start, parts.map { "/" + $0 }.joined())
    return found
  }

  package func byteCount(_ path: String) throws(RingError) -> Int { try content(path).byteCount }

  /// Turns one bit over, on the medium and in the cache. Bit 0 is the lowest of byte 0.
  package func flipBit(_ path: String, bit: Int) throws(RingError) {
    let content = try content(path)
    guard bit >= 0, bit / 8 < content.byteCount else {
      throw RingError(errno: EINVAL, operation: "flip", subject: path)
    }
    var byte: UInt8 = 0
    withUnsafeMutableBytes(of: &byte) { _ = content.read(into: $0, at: bit / 8) }
    byte ^= 1 << (bit % 8)
    withUnsafeBytes(of: byte) { content.overwrite($0, at: bit / 8) }
    world.note("disk/\(name)", "bit \(bit) of \(path) flipped")
    world.count(.bitFlip)
  }

  /// Replaces bytes on the medium and in the cache; extends the file where needed.
  package func overwrite(_ path: String, at offset: Int, with bytes: [UInt8]) throws(RingError) {
    let content = try content(path)
    if offset + bytes.count > content.byteCount { content.forceSize(offset + bytes.count) }
    bytes.withUnsafeBytes { content.overwrite($0, at: offset) }
    world.note("disk/\(name)", "\(bytes.count) bytes of \(path) overwritten at \(offset)")
    world.count(.tampering)
  }

  /// Cuts the file, or extends it by zeros, on the medium and in the cache.
  package func truncate(_ path: String, to byteCount: Int) throws(RingError) {
    try content(path).forceSize(byteCount)
    world.note("disk/\(name)", "\(path) truncated to \(byteCount)")
    world.count(.tampering)
  }

  /// Reads that touch these bytes give -EIO until their sectors are written again.
  package func makeUnreadable(_ path: String, _ bytes: Range<Int>) throws(RingError) {
    let sector = Page.sectorByteCount
    try inode(path).unreadableSectors.insert(
      bytes.lowerBound / sector..<(bytes.upperBound + sector - 1) / sector)
    world.note("disk/\(name)", "\(bytes) of \(path) unreadable")
    world.count(.latentError)
  }

  /// Removes a name and all below it, durably.
  package func erase(_ path: String) throws(RingError) {
    let parts = PathWalk.components(path)
    guard let last = parts.last else {
      throw RingError(errno: EINVAL, operation: "erase", subject: path)
    }
    var parent = root
    for part in parts.dropLast() {
      guard let next = parent.directory?.current[part] else {
        throw RingError(errno: ENOENT, operation: "erase", subject: path)
      }
      parent = next
    }
    guard let directory = parent.directory, let victim = directory.current[last] else {
      throw RingError(errno: ENOENT, operation: "erase", subject: path)
    }
    func forget(_ inode: Inode) {
      inode.nameCount = 0
      inode.releaseIfUnreachable()
      for entry in inode.directory?.sorted ?? [] { forget(entry.inode) }
    }
    journal.synchronize(upTo: .max) { _ in true }
    forget(victim)
    directory.current[last] = nil
    directory.durable[last] = nil
    world.note("disk/\(name)", "\(path) erased")
    world.count(.tampering)
  }

  /// What time does to a medium.
  package enum Decay: Sendable { case bitFlip, latentError }

  /// Damages one place that `random` picks, evenly among the pages that hold bytes of files below `path`.
  ///
  /// - Returns: the file and the byte; nil when there are no bytes.
  @discardableResult
  package func decay(
    _ decay: Decay, under path: String = "/", _ random: inout SimulationRandom
  ) throws(RingError) -> (path: String, offset: Int)? {
    var candidates: [(path: String, content: FileContent)] = []
    var total = 0
    for path in try files(under: path) {
      guard let content = try inode(path).file, content.pageCount > 0 else { continue }
      candidates.append((path, content))
      total += content.pageCount
    }
    guard total > 0 else { return nil }
    var pick = random.below(total)
    for (path, content) in candidates {
      guard pick < content.pageCount else {
        pick -= content.pageCount
        continue
      }
      let start = content.pageIndices[pick] * Page.byteCount
      let offset = start + random.below(min(Page.byteCount, content.byteCount - start))
      switch decay {
      case .bitFlip: try flipBit(path, bit: offset * 8 + random.below(8))
      case .latentError: try makeUnreadable(path, offset..<offset + 1)
      }
      return (path, offset)
    }
    return nil
  }
}
