internal import CZstd

/// zstd frames (RFC 8878) that name their content's length, without a checksum of their own: what we store has others.
package enum Zstd {
  /// Levels below 1 trade size for speed.
  package static let levels = Int(ZSTD_minCLevel())...Int(ZSTD_maxCLevel())

  /// The most bytes that `byteCount` bytes can be compressed into.
  package static func bound(_ byteCount: Int) -> Int { ZSTD_compressBound(byteCount) }

  /// The length of a frame's content, as its header claims, so that memory for it can be had.
  ///
  /// - Throws: ``CodingError/tooLarge(claimed:limit:)`` when that is more than `limit`; ``CodingError/damaged`` when there
  ///   is no such header.
  package static func contentByteCount(
    of frame: UnsafeRawBufferPointer, limit: Int
  ) throws(CodingError) -> Int {
    // A frame to be skipped has a length by the library's account, but is no frame of ours.
    guard frame.count >= 4,
      UInt32(littleEndian: frame.loadUnaligned(as: UInt32.self)) == UInt32(ZSTD_MAGICNUMBER)
    else { throw .damaged }
    let claimed = ZSTD_getFrameContentSize(frame.baseAddress, frame.count)
    guard claimed != cairn_zstd_size_unknown, claimed != cairn_zstd_size_error else {
      throw .damaged
    }
    guard claimed <= UInt64(max(0, limit)) else {
      throw .tooLarge(claimed: claimed, limit: UInt64(max(0, limit)))
    }
    return Int(claimed)
  }

  /// A dictionary prepared once for compressing at one level and for reading; may be shared by any number of contexts.
  package final class Dictionary: @unchecked Sendable {
    // Sound: zstd only reads them.
    fileprivate let compressing: OpaquePointer
    fileprivate let reading: OpaquePointer

    package init(_ bytes: UnsafeRawBufferPointer, level: Int) {
      precondition(Zstd.levels.contains(level))
      guard let compressing = ZSTD_createCDict(bytes.baseAddress, bytes.count, Int32(level)),
        let reading = ZSTD_createDDict(bytes.baseAddress, bytes.count)
      else { fatalError("out of memory") }
      self.compressing = compressing
      self.reading = reading
    }

    deinit {
      ZSTD_freeCDict(compressing)
      ZSTD_freeDDict(reading)
    }
  }
}

/// Compresses one frame after another with the same memory.
package struct ZstdCompressor: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  private let context: OpaquePointer
  private let dictionary: Zstd.Dictionary?

  /// - Parameter level: one of ``Zstd/levels``.
  package init(level: Int) {
    precondition(Zstd.levels.contains(level))
    self.init(nil)
    let status = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, Int32(level))
    precondition(ZSTD_isError(status) == 0)
  }

  /// At the dictionary's level. The frames need the dictionary to be read.
  package init(dictionary: Zstd.Dictionary) {
    self.init(dictionary)
    precondition(ZSTD_isError(ZSTD_CCtx_refCDict(context, dictionary.compressing)) == 0)
  }

  private init(_ dictionary: Zstd.Dictionary?) {
    guard let context = ZSTD_createCCtx() else { fatalError("out of memory") }
    self.context = context
    self.dictionary = dictionary
  }

  deinit { ZSTD_freeCCtx(context) }

  /// Writes `source` as one frame to the start of `target`, which must not overlap it.
  ///
  /// - Parameter prefix: bytes that may be referred to and are needed again for reading; not with a dictionary.
  /// - Returns: the frame's length; nil when `target` is too short for it (never when it has ``Zstd/bound(_:)`` bytes).
  ///   What `target` holds is then undefined.
  package mutating func compress(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
    prefix: UnsafeRawBufferPointer = .empty
  ) -> Int? {
    if !prefix.isEmpty {
      precondition(dictionary == nil)
      let status = ZSTD_CCtx_refPrefix(context, prefix.baseAddress, prefix.count)
      precondition(ZSTD_isError(status) == 0)
    }
    let count = ZSTD_compress2(
      context, target.baseAddress, target.count, source.baseAddress, source.count)
    guard ZSTD_isError(count) != 0 else { return count }
    switch ZSTD_getErrorCode(count) {
    case ZSTD_error_dstSize_tooSmall:
      // Otherwise the next call would go on with this frame.
      ZSTD_CCtx_reset(context, ZSTD_reset_session_only)
      return nil
    case ZSTD_error_memory_allocation: fatalError("out of memory")
    default: preconditionFailure(String(cString: ZSTD_getErrorName(count)))
    }
  }
}

/// Reads one frame after another with the same memory, about 150 KiB whatever the frames say.
package struct ZstdDecompressor: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  private let context: OpaquePointer
  private let dictionary: Zstd.Dictionary?

  package init(dictionary: Zstd.Dictionary? = nil) {
    guard let context = ZSTD_createDCtx() else { fatalError("out of memory") }
    self.context = context
    self.dictionary = dictionary
    if let dictionary {
      precondition(ZSTD_isError(ZSTD_DCtx_refDDict(context, dictionary.reading)) == 0)
    }
  }

  deinit { ZSTD_freeDCtx(context) }

  /// Writes the content of `frame`, which is exactly one frame, to the start of `target`.
  ///
  /// - Parameter prefix: what was given for compressing.
  /// - Returns: the content's length.
  /// - Throws: ``CodingError/tooLarge(claimed:limit:)`` when the frame claims more than `target` holds: nothing is then
  ///   written; ``CodingError/damaged``: what `target` holds is then undefined.
  package mutating func decompress(
    _ frame: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer,
    prefix: UnsafeRawBufferPointer = .empty
  ) throws(CodingError) -> Int {
    let claimed = try Zstd.contentByteCount(of: frame, limit: target.count)
    guard ZSTD_findFrameCompressedSize(frame.baseAddress, frame.count) == frame.count else {
      throw .damaged
    }
    if !prefix.isEmpty {
      precondition(dictionary == nil)
      let status = ZSTD_DCtx_refPrefix(context, prefix.baseAddress, prefix.count)
      precondition(ZSTD_isError(status) == 0)
    }
    let count = ZSTD_decompressDCtx(
      context, target.baseAddress, target.count, frame.baseAddress, frame.count)
    guard ZSTD_isError(count) == 0, count == claimed else {
      ZSTD_DCtx_reset(context, ZSTD_reset_session_only)
      throw .damaged
    }
    return count
  }
}

extension UnsafeRawBufferPointer {
  /// No bytes.
  package static var empty: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: nil, count: 0)
  }
}
