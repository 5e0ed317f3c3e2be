import Coding
package import Messages
import Ring
import Wire

/// Versions are stored anew in another class, in one pass from reader to writer.
extension ObjectWriter {
  /// Moves a version to the class that is its due; returns when it is there, or was as far already.
  ///
  /// - Parameters:
  ///   - partCount: of a version that was completed from so many parts, which stay parts; nil: of one that came as a whole.
  ///   - pace: called before bytes are read, with how many: sets how fast it goes.
  /// - Throws: ``DataPathError``; the version is then as it was, but after `outcomeUnknown` it may be there.
  package func move(
    _ due: DueVersion, partCount: UInt32?,
    pace: @escaping @Sendable (Int) async throws(DataPathError) -> Void
  ) async throws(DataPathError) {
    let target = GetBucket.Answer(
      domain: due.domain, storageClass: due.storageClass, objectCount: 0)
    try await attempt(rewinding: nil, bucket: due.name.bucket, as: target) {
      upload, share throws(DataPathError) in
      let content = try await storeAnew(due, partCount, pace, upload, share)
      var number: UInt64 = 0
      if let content {
        if case .inline = content {} else { number = try await upload.identity.number() }
      }
      let outcome = try await access.coordinator.execute(
        .moveVersion(
          upload: number, name: due.name, identity: due.identity, domain: due.domain,
          content: content, tier: due.tier))
      guard outcome == .done else { throw Self.gone }
    }
  }

  /// - Returns: nil where the bytes stay where they are.
  private func storeAnew(
    _ due: DueVersion, _ partCount: UInt32?,
    _ pace: @escaping @Sendable (Int) async throws(DataPathError) -> Void, _ upload: Upload,
    _ share: UploadShare
  ) async throws(DataPathError) -> ObjectContent? {
    if due.bytes == .stay { return nil }
    func store(_ range: Range<UInt64>, hasRoot: Bool) async throws(DataPathError) -> StoredObject {
      let source = PacedSource(
        ObjectSource(access, due.name, identity: due.identity, range: range),
        byteCount: range.count, pace)
      let stored = try await self.store(source, in: upload, share, hasRoot: hasRoot)
      guard stored.byteCount == UInt64(range.count) else {
        throw .corrupt("\(stored.byteCount) bytes of \(range.count) were read")
      }
      return stored
    }
    guard due.bytes == .belowPage, let partCount,
      let parts = try await parts(of: due, partCount)
    else {
      let stored = try await store(0..<due.byteCount, hasRoot: due.bytes == .belowPage)
      // What takes the old bytes' place was named after it was read, so it is compared with what was named long ago.
      let known = try await ObjectReader(access).resolve(
        due.name, identity: due.identity, 0..<0
      ).contentHash
      guard stored.contentHash == known else {
        throw .corrupt("bytes of \(due.name.key) changed on their way to another class")
      }
      return stored.content
    }
    var children: [Page.Child] = []
    for part in parts where !part.isEmpty {
      guard case .root(let page) = try await store(part, hasRoot: true).content else {
        throw .corrupt("a page of no bytes")
      }
      children.append(Page.Child(page: page, byteCount: UInt64(part.count)))
    }
    return .root(try await putTree(children, in: upload, orElse: Self.gone))
  }

  /// Where its parts are; nil when it is not made of so many: a copy may have been stored anew as a whole.
  private func parts(of due: DueVersion, _ partCount: UInt32) async throws(DataPathError)
    -> [Range<UInt64>]?
  {
    var parts: [Range<UInt64>] = []
    var next: UInt64 = 0
    for ordinal in 1...max(partCount, 1) {
      let part: FindPart.Answer
      do throws(DataPathError) {
        part = try await access.coordinator.query(
          FindPart(
            level: .strong, name: due.name, identity: due.identity, ordinal: ordinal,
            partCount: partCount))
      } catch {
        guard error.refusalCode == .invalidRange else { throw error }
        return nil
      }
      guard part.first == next, part.byteCount <= due.byteCount - next else {
        throw .corrupt("part \(ordinal) of \(due.name.key)")
      }
      next += part.byteCount
      parts.append(part.first..<next)
    }
    return next == due.byteCount ? parts : nil
  }
}

/// Reads no faster than it is let. Loop-confined.
private final class PacedSource: ByteSource, @unchecked Sendable {
  // Loop-confined.
  private let source: any ByteSource
  private let byteCountInAll: Int
  private let pace: @Sendable (Int) async throws(DataPathError) -> Void
  private var left: Int

  init(
    _ source: any ByteSource, byteCount: Int,
    _ pace: @escaping @Sendable (Int) async throws(DataPathError) -> Void
  ) {
    self.source = source
    byteCountInAll = byteCount
    left = byteCount
    self.pace = pace
  }
  var byteCount: UInt64? { UInt64(byteCountInAll) }
  func read(into slice: Slice) async throws(DataPathError) -> Int {
    // A slice may have room for more than there is.
    try await pace(min(slice.count, left))
    let count = try await source.read(into: slice)
    left -= count
    return count
  }
  func rewind() -> Bool {
    left = byteCountInAll
    return source.rewind()
  }
}
