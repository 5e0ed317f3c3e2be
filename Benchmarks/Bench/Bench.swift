package import Ring

/// `cairn bench`: the harness that runs Cairn's parts under the same loads, asked for and reported in the same words, as
/// fio runs a disk.
///
/// Where to read on:
///
///     Options/     fio's words: the command line, job files, sizes and times
///     Jobs/        a job under way: which transfers, at what pace, and what came of each
///     Statistics/  histograms and averages, bucket for bucket fio's
///     Report/      for people and as JSON, both in fio's layout
///     Engines/     what is measured: Ring alone, the store, a node, a cluster, connections, metadata, a gateway
///
/// ``IdleConnections`` stands beside all that: it moves nothing.
package struct Bench: Sendable {
  /// What the program around it knows.
  package struct Surroundings: Sendable {
    package var version: String
    /// How to reach the cluster whose client configuration is at a path.
    package var loadCluster: @Sendable (String) async throws(BenchError) -> ClusterReach
    /// A variable of the environment.
    package var environment: @Sendable (String) -> String?

    package init(
      version: String, environment: @escaping @Sendable (String) -> String?,
      loadCluster: @escaping @Sendable (String) async throws(BenchError) -> ClusterReach
    ) {
      self.version = version
      self.environment = environment
      self.loadCluster = loadCluster
    }

    /// What signs is where S3's tools look for it.
    func gateway(_ endpoint: String) throws(BenchError) -> S3Endpoint {
      guard let address = SocketAddress(String(endpoint.dropFirst("http://".utf8.count))) else {
        throw .usage("endpoint takes an address such as http://127.0.0.1:9000: \(endpoint)")
      }
      guard let key = environment("AWS_ACCESS_KEY_ID"),
        let secret = environment("AWS_SECRET_ACCESS_KEY")
      else {
        throw .usage(
          "endpoint needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
      }
      return S3Endpoint(
        address: address, accessKey: key, secret: secret,
        region: environment("AWS_DEFAULT_REGION") ?? "us-east-1")
    }

    /// Nil where no configuration is named.
    func cluster(_ path: String?) async throws(BenchError) -> ClusterReach? {
      guard let path else { return nil }
      return try await loadCluster(path)
    }
  }

  private let request: BenchRequest
  private let surroundings: Surroundings
  private let driver: any Driver

  package init(_ request: BenchRequest, _ surroundings: Surroundings, on driver: any Driver) {
    self.request = request
    self.surroundings = surroundings
    self.driver = driver
  }

  /// Reads job files and the words after `cairn bench`.
  package static func request(_ words: [String], on driver: any Driver) async throws(BenchError)
    -> BenchRequest
  {
    let line = try BenchCommandLine(words)
    var texts: [(path: String, text: String)] = []
    for path in line.files {
      let bytes: [UInt8]
      do throws(RingError) {
        bytes = try await driver.readFile(path, limit: 1 << 20)
      } catch {
        throw .failed("cannot read the job file: \(error.reason): \(path)")
      }
      guard let text = String(validating: bytes, as: UTF8.self) else {
        throw .usage("a job file is UTF-8 text: \(path)")
      }
      texts.append((path, text))
    }
    return try line.request(files: texts)
  }

  /// Runs all jobs and returns what came of them. What is to be refused is refused before anything is changed.
  ///
  /// - Parameter heading: told a line for each job before it starts.
  package func run(heading: (String) async -> Void) async throws(BenchError) -> RunOutcome {
    let waves = JobInstance.waves(of: request.jobs)
    let stage = try await Stage.open(request, waves, surroundings, on: driver)
    var outcome = RunOutcome(request: request, jobs: [], version: surroundings.version)
    do throws(BenchError) {
      for wave in waves {
        for job in wave {
          await heading(HumanReport.heading(job.options, group: job.group, engine: request.engine))
        }
        let statistics = try await run(wave, on: stage)
        outcome.add(wave, statistics)
        if Task.isCancelled { break }
      }
    } catch {
      // What went wrong first is what counts.
      do throws(BenchError) { try await close(stage, waves) } catch {}
      throw error
    }
    try await close(stage, waves)
    outcome.time = driver.wallClock
    return outcome
  }

  /// Also when the run was cancelled.
  private func close(_ stage: Stage, _ waves: [[JobInstance]]) async throws(BenchError) {
    let driver = driver
    let outcome = Promise<BenchError?>()
    await driver.uncancelled {
      do throws(BenchError) {
        try await stage.close(waves.flatMap { $0 }, on: driver)
        outcome.fulfil(nil)
      } catch {
        outcome.fulfil(error)
      }
    }
    if let failure = await outcome.get() { throw failure }
  }

  /// All jobs of a wave at once, each on a loop of its own.
  private func run(_ wave: [JobInstance], on stage: Stage) async throws(BenchError)
    -> [JobStatistics]
  {
    let line = StartLine(wave.count)
    let driver = driver
    let isAlone = wave.count == 1
    let results = await withTaskGroup(of: (Int, Result<JobStatistics, BenchError>).self) { group in
      for (place, job) in wave.enumerated() {
        group.addTask {
          let result: Result<JobStatistics, BenchError>
          do throws(RingError) {
            result = try await driver.onOwnLoop("bench \(job.index)") { driver in
              await stage.measure(job, line, isAlone: isAlone, on: driver)
            }
          } catch {
            line.arrive()
            result = .failure(.system(error))
          }
          return (place, result)
        }
      }
      var results = [Result<JobStatistics, BenchError>?](repeating: nil, count: wave.count)
      for await (place, result) in group { results[place] = result }
      return results
    }
    var statistics: [JobStatistics] = []
    for result in results { statistics.append(try result!.get()) }
    return statistics
  }
}

/// One of a job's `numjobs`.
struct JobInstance: Sendable {
  var options: JobOptions
  /// Among those of the same job.
  var number: Int
  /// Among all.
  var index: Int
  /// Which wave it runs in.
  var group: Int

  /// Jobs that run at once, wave after wave.
  static func waves(of jobs: [JobOptions]) -> [[JobInstance]] {
    var waves: [[JobInstance]] = []
    var index = 0
    for options in jobs {
      if waves.isEmpty || options.waitsForOthers { waves.append([]) }
      for number in 0..<options.jobCount {
        waves[waves.count - 1].append(
          JobInstance(options: options, number: number, index: index, group: waves.count - 1))
        index += 1
      }
    }
    return waves
  }
}

extension RunOutcome {
  /// Reports of a wave: one for each job, or one for all where its first job says so.
  fileprivate mutating func add(_ wave: [JobInstance], _ statistics: [JobStatistics]) {
    if let longest = statistics.max(by: { $0.elapsed < $1.elapsed }) {
      usage.user += longest.processUsage.user
      usage.system += longest.processUsage.system
    }
    guard let first = wave.first else { return }
    if first.options.isGroupReported {
      var all = statistics[0]
      for other in statistics.dropFirst() { all.merge(other) }
      jobs.append(
        JobOutcome(
          options: first.options, group: first.group, jobCount: wave.count, statistics: all))
    } else {
      for (job, statistics) in zip(wave, statistics) {
        jobs.append(
          JobOutcome(options: job.options, group: job.group, jobCount: 1, statistics: statistics))
      }
    }
  }
}
