import Coding
package import Messages
import Ring
import Wire

/// What came of putting a part.
package struct PutPartResult: Sendable, Equatable {
  /// Of the part, until it is put again.
  package var identity: UInt64
  package var byteCount: UInt64
}

/// What its writer keeps with a part; see ``NewPart``.
package struct PartWords: Sendable, Equatable {
  package var digest: [UInt8]
  package var checksum: [UInt8]
  package init(digest: [UInt8] = [], checksum: [UInt8] = []) {
    self.digest = digest
    self.checksum = checksum
  }
}

/// Objects that come in parts. Each part is stored as an object is, under its own root page; completing puts one page above these.
extension ObjectWriter {
  /// Stores one part; returns when it is durable and counts as put.
  ///
  /// - Parameter describe: asked when all of the source is stored.
  /// - Throws: ``DataPathError``; then the part is as before, but after `outcomeUnknown` it may be this one.
  package func putPart(
    _ multipart: MultipartName, number: UInt32, source: any ByteSource,
    describe: @escaping @Sendable () async throws(DataPathError) -> PartWords
  ) async throws(DataPathError) -> PutPartResult {
    try await attempt(rewinding: source, bucket: multipart.name.bucket) {
      upload, share throws(DataPathError) in
      let stored = try await store(source, in: upload, share, hasRoot: true)
      var page: UInt64 = 0
      if case .root(let root) = stored.content { page = root }
      return try await putPart(
        multipart, number, page: page, stored.byteCount, try await describe(), in: upload,
        orElse: Self.gone)
    }
  }

  private func putPart(
    _ multipart: MultipartName, _ number: UInt32, page: UInt64, _ byteCount: UInt64,
    _ words: PartWords, in upload: Upload, orElse missing: DataPathError
  ) async throws(DataPathError) -> PutPartResult {
    let outcome = try await access.coordinator.execute(
      .putPart(
        upload: page == 0 ? 0 : try await upload.identity.number(), multipart: multipart,
        part: NewPart(
          number: number, page: page, byteCount: byteCount, digest: words.digest,
          checksum: words.checksum), modified: 0))
    guard case .number(let identity) = outcome else { throw missing }
    return PutPartResult(identity: identity, byteCount: byteCount)
  }

  /// Makes bytes of an object one part, without moving any: pages that lie in the range whole are shared, new ones are put for its
  /// ends. Only what is inlined in the object's record, or stored in another domain, is stored anew.
  ///
  /// - Parameters:
  ///   - identity: of the version.
  ///   - range: of its bytes; not past its end.
  /// - Throws: ``DataPathError/changed`` when the version is current no more.
  package func copyPart(
    _ multipart: MultipartName, number: UInt32, from source: ObjectName, identity: UInt64,
    range: Range<UInt64>, words: PartWords
  ) async throws(DataPathError) -> PutPartResult {
    try await attempt(rewinding: nil, bucket: multipart.name.bucket) {
      upload, share throws(DataPathError) in
      let page = try await cover(source, identity, range, in: upload, share)
      do throws(DataPathError) {
        return try await putPart(
          multipart, number, page: page, UInt64(range.count), words, in: upload, orElse: .changed)
      } catch {
        guard error.refusalCode == .otherClass else { throw error }
      }
      let stored = try await store(
        ObjectSource(access, source, identity: identity, range: range), in: upload, share,
        hasRoot: true)
      guard case .root(let root) = stored.content else { throw .corrupt("a page of no bytes") }
      return try await putPart(
        multipart, number, page: root, UInt64(range.count), words, in: upload, orElse: .changed)
    }
  }

  /// A page of exactly these bytes of a version; 0 when there are none.
  private func cover(
    _ source: ObjectName, _ identity: UInt64, _ range: Range<UInt64>, in upload: Upload,
    _ share: UploadShare
  ) async throws(DataPathError) -> UInt64 {
    var children: [Page.Child] = []
    var first = range.lowerBound
    while first < range.upperBound {
      let answer: CoverRange.Answer
      do throws(DataPathError) {
        answer = try await access.coordinator.query(
          CoverRange(
            level: .strong, name: source, identity: identity, first: first,
            byteCount: range.upperBound - first))
      } catch {
        if error.refusalCode == .preconditionFailed { throw .changed }
        throw error
      }
      if !answer.inline.isEmpty {
        let stored = try await store(
          MemorySource(answer.inline), in: upload, share, hasRoot: true)
        guard case .root(let page) = stored.content else { throw .corrupt("a page of no bytes") }
        return page
      }
      guard answer.byteCount > 0 else { throw .corrupt("a range of no pages") }
      for piece in answer.pieces {
        switch piece {
        case .children(let pages): children += pages
        case .runs(let runs):
          let page = try await put(piece, in: upload, orElse: .changed)
          children.append(
            Page.Child(page: page, byteCount: runs.reduce(0) { $0 &+ $1.byteCount }))
        }
      }
      first += answer.byteCount
    }
    if children.count < 2 { return children.first?.page ?? 0 }
    return try await putTree(children, in: upload, orElse: .changed)
  }

  /// Completes a multipart upload with these parts, in this order; returns what is then current.
  ///
  /// - Throws: refused as ``ClientCommand/completeMultipart(upload:multipart:parts:root:attributes:precondition:modified:)`` is; then
  ///   nothing was changed. ``DataPathError/outcomeUnknown`` when the session expired before the answer came.
  package func complete(
    _ multipart: MultipartName, parts: [ListParts.Part], attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(DataPathError) -> MadeVersion {
    let children = parts.filter { $0.part.page != 0 }.map {
      Page.Child(page: $0.part.page, byteCount: $0.part.byteCount)
    }
    // A part that is not alive was put again, or went with its upload.
    let replaced = DataPathError.refused(
      code: RefusalCode.noSuchPart.rawValue, reason: "a part was put again")
    return try await attempt(rewinding: nil, bucket: multipart.name.bucket) {
      upload, _ throws(DataPathError) in
      var root: UInt64 = 0
      if !children.isEmpty { root = try await putTree(children, in: upload, orElse: replaced) }
      let outcome = try await access.coordinator.execute(
        .completeMultipart(
          upload: root == 0 ? 0 : try await upload.identity.number(), multipart: multipart,
          parts: parts.map { PartChoice(number: $0.part.number, identity: $0.identity) },
          root: root, attributes: attributes, precondition: precondition, modified: 0))
      guard let made = outcome.made else { throw Self.gone }
      return made
    }
  }

  /// One page above these, or two levels of pages when they are more than one holds.
  func putTree(
    _ children: [Page.Child], in upload: Upload, orElse missing: DataPathError
  ) async throws(DataPathError) -> UInt64 {
    guard children.count > Page.entryLimit else {
      return try await put(.children(children), in: upload, orElse: missing)
    }
    var above: [Page.Child] = []
    for first in stride(from: 0, to: children.count, by: Page.entryLimit) {
      let some = Array(children[first..<min(first + Page.entryLimit, children.count)])
      above.append(
        Page.Child(
          page: try await put(.children(some), in: upload, orElse: missing),
          byteCount: some.reduce(0) { $0 &+ $1.byteCount }))
    }
    return try await putTree(above, in: upload, orElse: missing)
  }

  /// - Parameter missing: thrown when something that the page names is not alive.
  private func put(_ page: Page, in upload: Upload, orElse missing: DataPathError)
    async throws(DataPathError) -> UInt64
  {
    do throws(DataPathError) {
      let outcome = try await access.coordinator.execute(
        .putPage(upload: try await upload.identity.number(), page: page))
      guard case .number(let identity) = outcome else { throw missing }
      return identity
    } catch {
      // As in `store`: nothing of it shows.
      guard error == .outcomeUnknown else { throw error }
      throw .refused(code: RefusalCode.noSuchUpload.rawValue, reason: "the session expired")
    }
  }
}
