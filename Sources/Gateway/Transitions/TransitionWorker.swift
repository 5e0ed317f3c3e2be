import DataPath
import Messages
import Ring
import Service

/// Moves versions to the classes that their buckets' rules say, at a bounded rate beside all else. Loop-confined.
///
/// The leader says what is due; the bytes are read, stored anew and exchanged one version at a time, so that a worker may end at
/// any moment: what it did not do is found again, by it or by another gateway's.
final class TransitionWorker: @unchecked Sendable {
  // Loop-confined.
  private let backend: ClusterBackend
  private let driver: any Driver
  private let log: Log
  private let pacer: TransitionPacer
  private let worker: UInt64
  private var task: SpawnedTask?
  private var isFailing = false

  /// Versions under way together: small ones share groups and stripes.
  private static let batch: UInt32 = 32
  private static let memoryByteCount = 32 << 20
  private static let longestPause = Duration.seconds(60)

  /// - Parameter rate: bytes that are read in a second, on average.
  init(_ backend: ClusterBackend, rate: Int, driver: any Driver, log: Log) {
    self.backend = backend
    self.driver = driver
    self.log = log
    worker = driver.random()
    pacer = TransitionPacer(driver, rate: rate)
  }

  func start() {
    task = driver.spawn("transitions") { [self] in await run() }
  }

  /// What is under way ends in the middle, and changes nothing.
  func stop() async {
    task?.cancel()
    await task?.wait()
  }

  private func run() async {
    while !Task.isCancelled {
      var pause = Self.longestPause
      do throws(DataPathError) {
        let answer = try await backend.nextTransitions(worker, limit: Self.batch)
        pause = .milliseconds(Int64(answer.pauseMilliseconds))
        if !answer.versions.isEmpty { await move(answer.versions) }
      } catch {
        // A coordinator of a version before this has no such call; one that nobody answers for will be asked again.
        pause = .seconds(10)
      }
      if pause > .zero, !(await driver.sleep(min(pause, Self.longestPause))) { return }
    }
  }

  private func move(_ versions: [DueVersion]) async {
    var options = ObjectWriter.Options(memoryByteCount: Self.memoryByteCount)
    options.pieceByteCount = 1 << 20
    let writer = backend.writer(options)
    let busy = driver.spawn("transitions' claim") { [self] in
      while await driver.sleep(.seconds(60)) {
        _ = try? await backend.nextTransitions(worker, limit: 0)
      }
    }
    var moved: [String: (count: Int, byteCount: UInt64)] = [:]
    var failure: (name: ObjectName, error: DataPathError)?
    await withTaskGroup(of: (DueVersion, DataPathError?).self) { group in
      for version in versions {
        group.addTask { [pacer] in
          do throws(DataPathError) {
            try await writer.move(
              version, partCount: ObjectFacts(version.attributes, contentName: "").partCount
            ) { byteCount throws(DataPathError) in
              guard await pacer.wait(byteCount) else { throw .cancelled }
            }
            return (version, nil)
          } catch {
            return (version, error)
          }
        }
      }
      for await (version, error) in group {
        if let error {
          if !error.isOfVersion { failure = (version.name, error) }
        } else {
          moved[version.name.bucket, default: (0, 0)].count += 1
          moved[version.name.bucket]?.byteCount += version.byteCount
        }
      }
    }
    busy.cancel()
    await busy.wait()
    do throws(DataPathError) {
      if Task.isCancelled { await writer.abandon() } else { try await writer.finish() }
    } catch {
      // All that was exchanged is committed; what is held goes back with the session.
    }
    for (bucket, count) in moved.sorted(by: { $0.key < $1.key }) {
      log.info(
        "versions moved to other classes by their bucket's rules",
        ["bucket": bucket, "count": count.count, "bytes": count.byteCount])
    }
    if let failure, failure.error != .cancelled {
      if !isFailing {
        log.warning(
          "versions cannot be moved to other classes, and will be tried again",
          ["bucket": failure.name.bucket, "key": failure.name.key, "reason": "\(failure.error)"])
      }
      isFailing = true
      _ = await driver.sleep(.seconds(10))
    } else {
      isFailing = false
    }
  }
}

/// Lets bytes through at a rate, whoever they are of. Loop-confined.
final class TransitionPacer: @unchecked Sendable {
  // Loop-confined.
  private let driver: any Driver
  private let rate: Int
  /// When all that was let through is paid for.
  private var free = Duration.zero

  /// - Parameter rate: bytes a second.
  init(_ driver: any Driver, rate: Int) {
    self.driver = driver
    self.rate = rate
  }

  /// Returns when so many bytes may be read; false when the task is cancelled.
  func wait(_ byteCount: Int) async -> Bool {
    let now = driver.now
    let start = max(free, now)
    free = start + .nanoseconds(Int64(Double(byteCount) / Double(rate) * 1e9))
    guard start > now else { return !Task.isCancelled }
    return await driver.sleep(start - now)
  }
}

extension DataPathError {
  /// The version is gone, or was moved by another: nothing is wrong.
  fileprivate var isOfVersion: Bool {
    switch refusalCode {
    case .noSuchVersion, .noSuchBucket, .noSuchKey, .preconditionFailed, .isDeleteMarker: true
    default: self == .changed
    }
  }
}
