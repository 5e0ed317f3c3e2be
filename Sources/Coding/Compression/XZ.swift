internal import CXZ

/// .xz streams of one LZMA2 block, without a checksum of their own: what we store has others.
package enum XZ {
  /// As `xz` has them.
  package static let levels = 0...9

  /// The most bytes that `byteCount` bytes can be compressed into.
  package static func bound(_ byteCount: Int) -> Int { lzma_stream_buffer_bound(byteCount) }
}

/// Compresses one stream after another; memory is kept while sources have the same length.
package struct XZCompressor: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  private let stream: UnsafeMutablePointer<lzma_stream>
  private let level: UInt32

  /// - Parameter level: one of ``XZ/levels``.
  package init(level: Int) {
    precondition(XZ.levels.contains(level))
    self.level = UInt32(level)
    stream = .allocate(capacity: 1)
    stream.initialize(to: lzma_stream())
  }

  deinit {
    lzma_end(stream)
    stream.deallocate()
  }

  /// Writes `source` as one stream to the start of `target`, which must not overlap it.
  ///
  /// The dictionary is no larger than the source, which saves memory here and when it is read: level 6 takes 94 MiB for
  /// large sources and 12 MiB for one of 1 MiB.
  ///
  /// - Returns: the stream's length; nil when `target` is too short for it (never when it has ``XZ/bound(_:)`` bytes).
  ///   What `target` holds is then undefined.
  package mutating func compress(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> Int? {
    var options = lzma_options_lzma()
    precondition(lzma_lzma_preset(&options, level) == 0)
    options.dict_size = min(options.dict_size, UInt32(clamping: max(4096, source.count)))
    let ready = withUnsafeMutablePointer(to: &options) { options in
      var filters = [
        lzma_filter(id: cairn_xz_filter_lzma2, options: options),
        lzma_filter(id: cairn_xz_filters_end, options: nil),
      ]
      return lzma_stream_encoder(stream, &filters, LZMA_CHECK_NONE)
    }
    guard ready == LZMA_OK else { fatalError("xz cannot compress: \(ready.rawValue)") }
    switch stream.pointee.run(source, into: target) {
    case LZMA_STREAM_END: return target.count - stream.pointee.avail_out
    case LZMA_OK, LZMA_BUF_ERROR: return nil
    case LZMA_MEM_ERROR: fatalError("out of memory")
    case let status: preconditionFailure("xz: \(status.rawValue)")
    }
  }
}

/// Reads one stream after another; memory is kept while streams ask for the same.
package struct XZDecompressor: ~Copyable, @unchecked Sendable {
  // Sound: all use is mutating, so there is one user at a time.
  private let stream: UnsafeMutablePointer<lzma_stream>
  private let memoryLimit: Int

  /// - Parameter memoryLimit: bytes a stream may make us allocate; the largest part is the dictionary it was made with.
  package init(memoryLimit: Int = 20 << 20) {
    precondition(memoryLimit > 0)
    self.memoryLimit = memoryLimit
    stream = .allocate(capacity: 1)
    stream.initialize(to: lzma_stream())
  }

  deinit {
    lzma_end(stream)
    stream.deallocate()
  }

  /// Writes the content of `compressed`, which is exactly one stream, to the start of `target`. A checksum, if the stream
  /// has one, is verified.
  ///
  /// - Returns: the content's length.
  /// - Throws: ``CodingError/tooLarge(claimed:limit:)`` when the stream needs more memory than is allowed, before any of it
  ///   is allocated; ``CodingError/damaged``, also when there is more than `target` holds. What `target` holds is then
  ///   undefined.
  package mutating func decompress(
    _ compressed: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) throws(CodingError) -> Int {
    guard lzma_stream_decoder(stream, UInt64(memoryLimit), 0) == LZMA_OK else {
      fatalError("out of memory")
    }
    switch stream.pointee.run(compressed, into: target) {
    case LZMA_STREAM_END where stream.pointee.avail_in == 0:
      return target.count - stream.pointee.avail_out
    case LZMA_MEM_ERROR: fatalError("out of memory")
    case LZMA_MEMLIMIT_ERROR:
      throw .tooLarge(claimed: lzma_memusage(stream), limit: UInt64(memoryLimit))
    default: throw .damaged
    }
  }
}

extension lzma_stream {
  /// Everything at once; what is not done after that never will be.
  fileprivate mutating func run(
    _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
  ) -> lzma_ret {
    next_in = source.baseAddress?.assumingMemoryBound(to: UInt8.self)
    avail_in = source.count
    next_out = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
    avail_out = target.count
    defer {
      next_in = nil
      next_out = nil
    }
    return lzma_code(&self, LZMA_FINISH)
  }
}
