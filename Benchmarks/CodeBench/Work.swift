import Coding
import Ring

/// Something to do again and again.
struct Work {
  /// Bytes of input that `run` goes through.
  var byteCount: Int
  var run: () -> Void
  /// Says what came out of the last `run`.
  var check: () -> UInt64
  var outputByteCount: (() -> Int)?
  /// What the name leaves open.
  var note: String?
}

/// What is measured under one name.
struct Subject {
  var name: String
  /// The sizes that say something.
  var units: [Int]
  var make: (_ unit: Int) -> Work

  static var all: [Subject] {
    var all = [chunk, sha256("chosen", .current)]
    for kernel in HashKernel.available { all.append(sha256("\(kernel)", kernel)) }
    all.append(crc32c)
    for text in ["4+2", "6+3", "10+4"] {
      let scheme = Scheme(text)!
      all += [encode(scheme), rebuild(scheme)]
    }
    for level in [1, 3, 9, 19] { all += zstd(level: level) }
    for level in [1, 9] { all += lz4(level: level) }
    all += xz(level: 6)
    all += [seal, open]
    return all
  }

  private static let small = 64 << 10
  private static let large = 1 << 20

  /// The results of the last run of something. One user at a time, as all here.
  private final class Results<Value> {
    var values: [Value] = []
  }

  /// A context that runs share.
  private final class Holder<Value: ~Copyable> {
    var value: Value
    init(_ value: consuming Value) { self.value = value }
  }

  // MARK: Cutting, hashing, summing

  /// A unit is a whole stream.
  private static var chunk: Subject {
    Subject(name: "chunk", units: [8 << 20]) { unit in
      let source = Material.noise(unit, seed: 1)
      let lengths = Results<Int>()
      return Work(
        byteCount: unit,
        run: { lengths.values = Chunker.standard.lengths(of: source.bytes(0..<unit)) },
        check: { lengths.values.reduce(0) { $0 &* 31 &+ UInt64($1) } })
    }
  }

  /// 48 pieces, which is a multiple of every kernel's lanes.
  private static func sha256(_ name: String, _ kernel: HashKernel) -> Subject {
    Subject(name: "sha256/\(name)", units: [small]) { unit in
      let count = 48
      let source = Material.noise(count * unit, seed: 2)
      let pieces = (0..<count).map { source.bytes($0 * unit..<($0 + 1) * unit) }
      let found = Results<Fingerprint>()
      return Work(
        byteCount: count * unit, run: { found.values = Fingerprint.of(pieces, by: kernel) },
        check: {
          withExtendedLifetime(source) { found.values.reduce(0) { $0 &* 31 &+ $1.w0 } }
        }, note: name == "\(kernel)" ? nil : "\(kernel)")
    }
  }

  private static var crc32c: Subject {
    Subject(name: "crc32c", units: [4096, small]) { unit in
      let count = max(1, large / unit)
      let source = Material.noise(count * unit, seed: 3)
      let sums = Results<UInt32>()
      return Work(
        byteCount: count * unit,
        run: {
          sums.values.removeAll(keepingCapacity: true)
          for index in 0..<count {
            sums.values.append(CRC32C.checksum(source.bytes(index * unit..<(index + 1) * unit)))
          }
        }, check: { sums.values.reduce(0) { $0 &* 31 &+ UInt64($1) } })
    }
  }

  // MARK: Reed-Solomon

  /// One stripe whose blocks lie a page more than their length apart, so that they do not all fall on the same lines of
  /// the cache.
  private final class Stripe {
    let scheme: Scheme
    let coder: StripeCoder
    let unit: Int
    let memory: Buffer
    private let distance: Int

    init(_ scheme: Scheme, unit: Int) {
      self.scheme = scheme
      coder = StripeCoder.shared(scheme)
      self.unit = unit
      distance = (unit + 4095) / 4096 * 4096 + 4096
      memory = Material.noise(scheme.width * distance, seed: 4)
      encode()
    }

    func block(_ index: Int) -> UnsafeMutableRawPointer { memory.base + index * distance }

    private(set) lazy var data = (0..<scheme.k).map { UnsafeRawPointer(block($0)) }
    private(set) lazy var parity = (scheme.k..<scheme.width).map { block($0) }

    func encode() {
      coder.encode(data: data, parity: parity, byteCount: unit)
    }

    func checksum(_ blocks: Range<Int>) -> UInt64 {
      UInt64(
        blocks.reduce(0) {
          CRC32C.checksum(UnsafeRawBufferPointer(start: block($1), count: unit), seed: $0)
        })
    }
  }

  private static func encode(_ scheme: Scheme) -> Subject {
    Subject(name: "rs/\(scheme)/encode", units: [small, large]) { unit in
      let stripe = Stripe(scheme, unit: unit)
      return Work(
        byteCount: scheme.k * unit, run: { stripe.encode() },
        check: { stripe.checksum(scheme.k..<scheme.width) })
    }
  }

  /// The first m data blocks from the others.
  private static func rebuild(_ scheme: Scheme) -> Subject {
    Subject(name: "rs/\(scheme)/rebuild", units: [small, large]) { unit in
      let stripe = Stripe(scheme, unit: unit)
      let wanted = (0..<scheme.m).map { (index: $0, into: stripe.block($0)) }
      let present = (scheme.m..<scheme.width).map { index in
        (index: index, bytes: UnsafeRawPointer(stripe.block(index)))
      }
      return Work(
        byteCount: scheme.k * unit,
        run: {
          do throws(CodingError) {
            try stripe.coder.rebuild(
              wanted: wanted, present: present,
              zeros: [],
              byteCount: unit)
          } catch { preconditionFailure("\(error)") }
        }, check: { stripe.checksum(0..<scheme.m) })
    }
  }

  // MARK: Compression

  /// Pieces of text, and room for each of them compressed.
  private final class Pieces {
    let unit: Int
    let count: Int
    let source: Buffer
    let room: Int
    let target: Buffer
    let back: Buffer
    var sizes: [Int]

    init(unit: Int, total: Int, room: Int) {
      self.unit = unit
      self.room = room
      count = max(1, total / unit)
      source = Material.text(count * unit, seed: 5)
      target = Material.memory(count * room)
      back = Material.memory(unit)
      sizes = Array(repeating: 0, count: count)
    }

    func piece(_ index: Int) -> UnsafeRawBufferPointer {
      source.bytes(index * unit..<(index + 1) * unit)
    }

    func compressed(_ index: Int) -> UnsafeRawBufferPointer {
      target.bytes(index * room..<index * room + sizes[index])
    }

    func compress(_ body: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) -> Int?) {
      for index in 0..<count {
        sizes[index] = body(piece(index), target.mutableBytes(index * room..<(index + 1) * room))!
      }
    }

    func decompress(
      _ body: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) throws(CodingError) -> Int
    ) {
      for index in 0..<count {
        do throws(CodingError) {
          let found = try body(compressed(index), back.mutableBytes(0..<unit))
          precondition(found == unit)
        } catch { preconditionFailure("\(error)") }
      }
    }

    var outputByteCount: Int { sizes.reduce(0, +) }

    /// Of the last piece read back.
    var checksum: UInt64 { UInt64(CRC32C.checksum(back.bytes(0..<unit))) }
  }

  /// The two directions of one method.
  private static func pair(
    _ name: String, units: [Int], total: Int, bound: @escaping (Int) -> Int,
    context:
      @escaping () -> (
        compress: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) -> Int?,
        decompress: (UnsafeRawBufferPointer, UnsafeMutableRawBufferPointer) throws(CodingError) ->
          Int
      )
  ) -> [Subject] {
    [
      Subject(name: "\(name)/compress", units: units) { unit in
        let pieces = Pieces(unit: unit, total: total, room: bound(unit))
        let context = context()
        return Work(
          byteCount: pieces.count * unit, run: { pieces.compress(context.compress) },
          check: { UInt64(pieces.outputByteCount) }, outputByteCount: { pieces.outputByteCount })
      },
      Subject(name: "\(name)/decompress", units: units) { unit in
        let pieces = Pieces(unit: unit, total: total, room: bound(unit))
        let context = context()
        pieces.compress(context.compress)
        return Work(
          byteCount: pieces.count * unit, run: { pieces.decompress(context.decompress) },
          check: { pieces.checksum })
      },
    ]
  }

  private static func zstd(level: Int) -> [Subject] {
    pair(
      "zstd/\(level)", units: [small, large], total: level < 10 ? 4 * large : large,
      bound: Zstd.bound
    ) {
      let compressor = Holder(ZstdCompressor(level: level))
      let decompressor = Holder(ZstdDecompressor())
      return (
        { compressor.value.compress($0, into: $1) },
        { source, target throws(CodingError) in
          try decompressor.value.decompress(source, into: target)
        }
      )
    }
  }

  private static func lz4(level: Int) -> [Subject] {
    pair("lz4/\(level)", units: [small, large], total: 4 * large, bound: LZ4.bound) {
      let compressor = Holder(LZ4Compressor(level: level))
      return (
        { compressor.value.compress($0, into: $1) },
        { source, target throws(CodingError) in try LZ4.decompress(source, into: target) }
      )
    }
  }

  private static func xz(level: Int) -> [Subject] {
    pair("xz/\(level)", units: [large], total: large, bound: XZ.bound) {
      let compressor = Holder(XZCompressor(level: level))
      let decompressor = Holder(XZDecompressor())
      return (
        { compressor.value.compress($0, into: $1) },
        { source, target throws(CodingError) in
          try decompressor.value.decompress(source, into: target)
        }
      )
    }
  }

  // MARK: Encryption

  private static let key = (0..<32).map { UInt8($0) }

  /// The bytes are no secret; otherwise no nonce could be used again.
  private static let nonce = AES256GCM.Nonce(high: 1, low: 2)

  private static var seal: Subject {
    Subject(name: "aes256gcm/seal", units: [4096, small, large]) { unit in
      let count = max(1, large / unit)
      let source = Material.noise(count * unit, seed: 6)
      let target = Material.memory(unit + AES256GCM.tagByteCount)
      let cipher = Holder(AES256GCM(key: key))
      let sealed = target.mutableBytes(0..<unit + AES256GCM.tagByteCount)
      return Work(
        byteCount: count * unit,
        run: {
          for index in 0..<count {
            cipher.value.seal(
              source.bytes(index * unit..<(index + 1) * unit), into: sealed, nonce: nonce)
          }
        },
        check: {
          UInt64(CRC32C.checksum(target.bytes(0..<unit + AES256GCM.tagByteCount)))
        })
    }
  }

  private static var open: Subject {
    Subject(name: "aes256gcm/open", units: [4096, small, large]) { unit in
      let count = max(1, large / unit)
      let room = unit + AES256GCM.tagByteCount
      let source = Material.noise(count * unit, seed: 6)
      let sealed = Material.memory(count * room)
      let target = Material.memory(unit)
      let cipher = Holder(AES256GCM(key: key))
      for index in 0..<count {
        cipher.value.seal(
          source.bytes(index * unit..<(index + 1) * unit),
          into: sealed.mutableBytes(index * room..<(index + 1) * room), nonce: nonce)
      }
      let plain = target.mutableBytes(0..<unit)
      return Work(
        byteCount: count * unit,
        run: {
          for index in 0..<count {
            do throws(CodingError) {
              try cipher.value.open(
                sealed.bytes(index * room..<(index + 1) * room), into: plain, nonce: nonce)
            } catch { preconditionFailure("\(error)") }
          }
        }, check: { UInt64(CRC32C.checksum(target.bytes(0..<unit))) })
    }
  }
}
