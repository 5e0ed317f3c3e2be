import Cluster
import Coding
package import Messages
import Ring
import Wire

extension ObjectWriter {
  /// Stores one object; returns when it is committed, and so durable and visible.
  ///
  /// - Parameters:
  ///   - unlessIdentical: leave a version with the same bytes and attributes as it is.
  ///   - existing: what the key holds, when the caller knows; saves storing what is the same.
  /// - Throws: ``DataPathError``; then nothing of it is visible.
  package func put(
    _ name: ObjectName, attributes: ObjectAttributes, source: any ByteSource,
    precondition: Precondition = .none, unlessIdentical: Bool, existing: ExistingObject? = nil
  ) async throws(DataPathError) -> PutResult {
    if unlessIdentical, let existing, existing.attributes == attributes,
      existing.byteCount == source.byteCount
    {
      let keyDomain = try await access.keys.domain(
        try await buckets.bucket(name.bucket).domain.keyDomain)
      let found = try await hash(source, keyDomain)
      if found == existing.contentHash {
        return PutResult(
          identity: existing.identity, byteCount: existing.byteCount, contentHash: found,
          wasIdentical: true)
      }
      guard source.rewind() else { throw .source("cannot be read a second time") }
    }

    return try await put(
      name, source: source, precondition: precondition, unlessIdentical: unlessIdentical
    ) { attributes }
  }

  /// As `put` above, for attributes that depend on the bytes.
  ///
  /// - Parameter describe: asked when all of the source is stored, before anything is visible.
  package func put(
    _ name: ObjectName, source: any ByteSource, precondition: Precondition,
    unlessIdentical: Bool = false,
    describe: @escaping @Sendable () async throws(DataPathError) -> ObjectAttributes
  ) async throws(DataPathError) -> PutResult {
    try await attempt(rewinding: source, bucket: name.bucket) {
      upload, share throws(DataPathError) in
      let stored = try await store(source, in: upload, share)
      let made = try await commit(
        name, stored, in: upload, try await describe(), precondition, unlessIdentical)
      return PutResult(
        identity: made.identity, byteCount: stored.byteCount, contentHash: stored.contentHash,
        wasIdentical: false, version: made.name)
    }
  }

  /// Does `body` under an upload, again under another one when that ended meanwhile, or the bucket's class changed.
  ///
  /// - Parameters:
  ///   - source: what it reads; nil: it reads nothing that is not there a second time.
  ///   - target: as what it is stored; nil: as what the bucket has.
  func attempt<Value>(
    rewinding source: (any ByteSource)?, bucket: String, as target: GetBucket.Answer? = nil,
    _ body: (Upload, UploadShare) async throws(DataPathError) -> Value
  ) async throws(DataPathError) -> Value {
    var attemptCount = 0
    while true {
      attemptCount += 1
      let upload = upload
      do throws(DataPathError) {
        let found: GetBucket.Answer
        if let target { found = target } else { found = try await buckets.bucket(bucket) }
        let keyDomain = try await access.keys.domain(found.domain.keyDomain)
        let share = upload.share(for: found, keyDomain)
        return try await body(upload, share)
      } catch {
        let isOtherClass = error.refusalCode == .otherClass
        guard isOtherClass || error.refusalCode == .noSuchUpload,
          attemptCount < Self.attemptLimit, !Task.isCancelled
        else { throw error }
        // Nothing was committed. Chunks stored under that upload may be gone, so all is stored again.
        if isOtherClass { buckets.forget(bucket) } else { replace(upload) }
        guard source?.rewind() != false else {
          // Words for people: the refusal names the upload by its number.
          let reason =
            isOtherClass
            ? "the bucket's class changed"
            : error == Self.gone ? "stored chunks are gone" : "the session expired"
          throw .source("\(reason), and what was read cannot be read a second time")
        }
      }
    }
  }

  /// Something that a page or object names is not alive, though the upload should hold it: all is stored again.
  static let gone = DataPathError.refused(
    code: RefusalCode.noSuchUpload.rawValue, reason: "stored chunks are gone")

  /// How many uploads an object may outlive.
  private static let attemptLimit = 5

  /// An object whose bytes are all stored, or known to be.
  struct StoredObject {
    var content: ObjectContent
    var byteCount: UInt64
    var contentHash: Fingerprint
  }

  /// Stores all bytes of `source` and the pages that name them.
  ///
  /// - Parameter hasRoot: the content is then a root page unless it is empty, however small.
  /// - Throws: `noSuchUpload` when the upload ended meanwhile.
  func store(
    _ source: any ByteSource, in upload: Upload, _ share: UploadShare, hasRoot: Bool = false
  ) async throws(DataPathError) -> StoredObject {
    do throws(DataPathError) {
      return try await storeAll(source, upload, share, hasRoot)
    } catch {
      // Commands of an upload change nothing that shows, so it does not matter whether the last one was carried out.
      guard error == .outcomeUnknown else { throw error }
      throw .refused(code: RefusalCode.noSuchUpload.rawValue, reason: "the session expired")
    }
  }

  private func storeAll(
    _ source: any ByteSource, _ upload: Upload, _ share: UploadShare, _ hasRoot: Bool
  )
    async throws(DataPathError) -> StoredObject
  {
    // A producer may still fill the open group; it counts until its last chunk is packed.
    let packer = share.packer
    packer.producerCount += 1
    var isProducing = true
    func stopProducing() {
      if isProducing { packer.producerCount -= 1 }
      isProducing = false
    }
    defer { stopProducing() }

    var reader = PieceReader(source, self, share.keyDomain)
    let hash = ContentHash()
    var first = try await reader.next()
    guard first != nil else {
      return StoredObject(content: .inline([]), byteCount: 0, contentHash: hash.finish())
    }
    // What is inlined is plain in the log and its checkpoints.
    if !hasRoot, reader.isAtEnd, share.keyDomain == nil,
      isInlined(first!.bytes.count, among: packer.producerCount)
    {
      let bytes = first!.bytes.array
      return StoredObject(
        content: .inline(bytes), byteCount: UInt64(bytes.count),
        contentHash: Fingerprint(of: bytes))
    }

    if reader.isAtEnd, first!.chunkByteCounts.count <= options.windowChunkCount {
      return try await storePiece(&first, &reader, hash, upload, share, hasRoot) {
        stopProducing()
      }
    }

    // The manifest follows the chunks' places while the next chunks are read; `window` keeps it from falling far behind.
    let chunks = Channel<ChunkHandle>()
    let window = Semaphore(options.windowChunkCount)
    let manifest = Promise<Result<(ObjectContent, UInt64), DataPathError>>()
    let failed = Promise<DataPathError>()
    tasks.spawn("manifest") { [self] in
      var builder = manifestBuilder(upload)
      do throws(DataPathError) {
        while let handle = await chunks.receive() {
          window.release()
          if failed.isFulfilled { continue }
          try await builder.add(handle)
        }
        let content = try await builder.finish(hasRoot: hasRoot)
        manifest.fulfil(.success((content, builder.byteCount)))
      } catch {
        failed.fulfil(error)
        while await chunks.receive() != nil { window.release() }
        manifest.fulfil(.failure(error))
      }
    }
    do throws(DataPathError) {
      while let handles = try await storeNext(&first, &reader, hash, share) {
        for handle in handles {
          if !window.tryAcquire() {
            // The manifest may wait for a chunk in the open group, which duplicates alone never fill.
            packer.want()
            await window.acquire()
          }
          chunks.send(handle)
        }
        if Task.isCancelled { throw .cancelled }
        if failed.isFulfilled { throw await failed.get() }
      }
    } catch {
      chunks.close()
      stopProducing()
      // The manifest waits for what is packed already, and perhaps nobody else would send it.
      packer.want()
      _ = await manifest.get()
      throw error
    }
    chunks.close()
    stopProducing()
    packer.want()
    let (content, byteCount) = try await manifest.get().get()
    if Task.isCancelled { throw .cancelled }
    return StoredObject(content: content, byteCount: byteCount, contentHash: hash.finish())
  }

  /// Whether so many bytes go into the metadata. They are neither compressed nor found to be duplicates there, and the log has them
  /// m + 1 times; but then an object is stored by its commit, in one round trip. Where many are under way it shares a
  /// group and a stripe with them, if it is no smaller than what the directory says of a chunk.
  private func isInlined(_ byteCount: Int, among producerCount: Int) -> Bool {
    if byteCount <= Self.inlinedAmongOthers { return true }
    return byteCount <= ObjectContent.inlineLimit && producerCount < Self.company
      && !access.driver.meets(.smallInGroup)
  }
  /// With fewer, the stripe that they share is padding and parity more than bytes.
  static let company = 16
  static let inlinedAmongOthers = 512

  /// Stores an object of one piece, with less ado: its manifest is made when all of its chunks are packed.
  ///
  /// - Parameter stopProducing: called when nothing more will be packed.
  private func storePiece(
    _ piece: inout Piece?, _ reader: inout PieceReader, _ hash: ContentHash, _ upload: Upload,
    _ share: UploadShare, _ hasRoot: Bool, _ stopProducing: () -> Void
  ) async throws(DataPathError) -> StoredObject {
    let handles = try await storeNext(&piece, &reader, hash, share) ?? []
    stopProducing()
    share.packer.want()
    var builder = manifestBuilder(upload)
    for handle in handles { try await builder.add(handle) }
    let content = try await builder.finish(hasRoot: hasRoot)
    if Task.isCancelled { throw .cancelled }
    return StoredObject(
      content: content, byteCount: builder.byteCount, contentHash: hash.finish())
  }

  private func manifestBuilder(_ upload: Upload) -> ManifestBuilder {
    ManifestBuilder { [access] page throws(DataPathError) in
      let outcome = try await access.coordinator.execute(
        .putPage(upload: try await upload.identity.number(), page: page))
      guard case .number(let identity) = outcome else { throw Self.gone }
      return identity
    }
  }

  /// Makes the stored object visible.
  ///
  /// - Throws: ``DataPathError/outcomeUnknown`` when the session expired before the answer came and nobody can tell what
  ///   became of it; `noSuchUpload` when it surely did not become visible.
  private func commit(
    _ name: ObjectName, _ object: StoredObject, in upload: Upload,
    _ attributes: ObjectAttributes, _ precondition: Precondition, _ unlessIdentical: Bool
  ) async throws(DataPathError) -> MadeVersion {
    let number: UInt64
    if case .inline = object.content {
      number = 0
    } else {
      number = try await upload.identity.number()
    }
    let before = access.coordinator.position
    do throws(DataPathError) {
      let outcome = try await access.coordinator.execute(
        .commitObject(
          upload: number, name: name, content: object.content, byteCount: object.byteCount,
          contentHash: object.contentHash, attributes: attributes, precondition: precondition,
          unlessIdentical: unlessIdentical, modified: 0))
      guard let made = outcome.made else { throw Self.gone }
      return made
    } catch {
      guard error == .outcomeUnknown else { throw error }
    }
    // To commit again what was committed, and replaced since, would bring it back. The key may tell.
    let found: FindVersion.Answer
    do throws(DataPathError) {
      found = try await access.coordinator.query(
        FindVersion(level: .strong, name: name, version: .unnamed))
    } catch {
      throw .outcomeUnknown
    }
    let current = found.entry
    if precondition == .none, unlessIdentical, current.contentHash == object.contentHash,
      current.byteCount == object.byteCount, current.attributes.encoded == attributes.encoded
    {
      return MadeVersion(
        identity: current.identity, name: found.versioning == .off ? .unnamed : current.name)
    }
    // A version from before the commit was sent is still there: ours never came, and its session's end keeps it out. Where
    // versions stay, ours may have come and been taken away, and this one be current again.
    guard found.versioning == .off, current.identity <= before else { throw .outcomeUnknown }
    throw .refused(code: RefusalCode.noSuchUpload.rawValue, reason: "the session expired")
  }

  /// Stores the next piece (`first` before those of the reader); nil after the last. When this returns its share of the
  /// budget hangs on its chunks alone: an object that held a share while it waits for the next could wait for itself.
  private func storeNext(
    _ first: inout Piece?, _ reader: inout PieceReader, _ hash: ContentHash, _ upload: UploadShare
  ) async throws(DataPathError) -> [ChunkHandle]? {
    if let piece = first.take() { return try await store(piece, hash, upload) }
    guard let piece = try await reader.next() else { return nil }
    return try await store(piece, hash, upload)
  }

  /// Cuts a piece into chunks and sees to it that each is stored or held; returns their handles in order.
  private func store(_ piece: Piece, _ hash: ContentHash, _ upload: UploadShare)
    async throws(DataPathError) -> [ChunkHandle]
  {
    let parts = piece.chunks()
    for part in parts { hash.add(part.fingerprint, byteCount: part.slice.count) }
    var asked = Set<Fingerprint>()
    let unknown = parts.map(\.fingerprint).filter {
      upload.knownHandle($0) == nil && asked.insert($0).inserted
    }
    let found = try await finder.find(unknown, in: upload.domain)
    var locations: [Fingerprint: FindChunks.Location] = [:]
    for (fingerprint, location) in zip(unknown, found) where location.byteCount > 0 {
      locations[fingerprint] = location
    }
    var handles: [ChunkHandle] = []
    for (fingerprint, slice) in parts {
      // Another object may have brought it while the index was asked.
      if let handle = upload.knownHandle(fingerprint) {
        handles.append(handle)
        continue
      }
      let handle = ChunkHandle(fingerprint: fingerprint, byteCount: slice.count)
      upload.remember(handle)
      handles.append(handle)
      let bytes = ChunkBytes(slice: slice, share: piece.share)
      if let location = locations[fingerprint], Int(location.byteCount) == slice.count {
        upload.holder.hold(
          handle, bytes,
          at: ChunkHandle.Location(container: location.container, ordinal: location.ordinal))
      } else {
        await upload.packer.pack(handle, bytes)
        // The rest would fail as slowly.
        if case .failure(let error) = handle.outcome { throw error }
      }
    }
    return handles
  }

  /// The content hash of all of a source. One that is small enough to be inlined is one chunk, and so it is here: a
  /// chunk has at least 32 KiB, but at the end.
  private func hash(_ source: any ByteSource, _ keyDomain: KeyedDomain?)
    async throws(DataPathError) -> Fingerprint
  {
    var reader = PieceReader(source, self, keyDomain)
    let hash = ContentHash()
    while try await hashNext(&reader, hash) {
      if Task.isCancelled { throw .cancelled }
    }
    return hash.finish()
  }

  /// False after the last piece. As with `storeNext`, no share is held when it returns.
  private func hashNext(_ reader: inout PieceReader, _ hash: ContentHash)
    async throws(DataPathError) -> Bool
  {
    guard let piece = try await reader.next() else { return false }
    for chunk in piece.chunks() { hash.add(chunk.fingerprint, byteCount: chunk.slice.count) }
    return true
  }
}
