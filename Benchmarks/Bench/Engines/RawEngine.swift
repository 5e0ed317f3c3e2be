import Ring

/// A file or device, through Ring alone.
final class RawEngine: Engine, @unchecked Sendable {
  // Loop-confined.
  let spaceByteCount: UInt64
  private let file: File
  private let start: UInt64
  private let options: JobOptions
  private var serial: UInt64 = 0

  static func open(_ target: RawTarget, _ options: JobOptions, on driver: any Driver)
    async throws(BenchError) -> RawEngine
  {
    let flags =
      (options.pattern.writes ? OpenFlags.readWrite : OpenFlags.readOnly)
      | (options.isDirect ? OpenFlags.direct : 0)
    do throws(RingError) {
      return RawEngine(try await File.open(target.path, flags, on: driver), target, options)
    } catch {
      if options.isDirect && error.errno == Errno.invalid {
        throw .failed("its file system has no direct I/O: \(target.path)")
      }
      throw .system(error)
    }
  }

  private init(_ file: File, _ target: RawTarget, _ options: JobOptions) {
    self.file = file
    self.options = options
    start = options.offset
    spaceByteCount = target.byteCount
  }

  func perform(_ access: Access, _ worker: Worker) async throws(BenchError) -> Int {
    let result: Int32
    if access.direction == .read {
      result = await file.driver.submit(
        .read(
          descriptor: file.descriptor, into: worker.buffer[0..<access.count],
          offset: start + access.offset))
    } else {
      let block = worker.buffer[0..<access.count]
      serial &+= 1
      if options.verification == .none {
        Self.scramble(block, access.offset, serial)
      } else {
        ContentCheck.stamp(
          block, offset: access.offset, seed: options.randomSeed, serial: serial)
      }
      result = await file.driver.submit(
        .write(
          descriptor: file.descriptor,
          from: block.count == worker.buffer.count ? worker.whole : [block],
          offset: start + access.offset))
    }
    guard result == Int32(access.count) else {
      let what = access.direction.name
      if result < 0 {
        throw .system(RingError(errno: -result, operation: what, subject: file.path))
      }
      throw .failed("\(what) of \(access.count) bytes moved \(result): \(file.path)")
    }
    return access.count
  }

  /// Marks each 512 bytes, so that no two blocks are the same to a device that looks, as fio's `scramble_buffers` does.
  private static func scramble(_ block: Slice, _ offset: UInt64, _ serial: UInt64) {
    block.withMutableBytes { bytes in
      var at = 0
      while at + 16 <= bytes.count {
        bytes.storeBytes(of: offset, toByteOffset: at, as: UInt64.self)
        bytes.storeBytes(of: serial, toByteOffset: at + 8, as: UInt64.self)
        at += 512
      }
    }
  }

  func synchronize(dataOnly: Bool) async throws(BenchError) {
    do throws(RingError) {
      try await file.synchronize(dataOnly: dataOnly)
    } catch {
      throw .system(error)
    }
  }

  func verify(_ access: Access, _ worker: Worker) throws(BenchError) {
    if let fault = ContentCheck.fault(
      in: worker.buffer[0..<access.count], offset: access.offset, seed: options.randomSeed)
    {
      throw .failed("verify: \(fault): \(file.path) at \(start + access.offset)")
    }
  }

  func close() async { await file.close() }
}
