import Ring

/// What a run stands on besides its jobs: files made ready, daemons beside them. Constant once opened.
enum Stage: Sendable {
  /// By job.
  case raw([RawTarget])
  case store
  case node(Beside<BenchNode.Reach>, ScratchDirectory)
  case cluster(BenchCluster, ScratchDirectory, ClusterPlace.Kind)
  case s3(BenchGateway, ScratchDirectory)
  case net(Beside<NetServer.Reach>)

  /// - Throws: before anything is changed, when anything is to be refused.
  static func open(
    _ request: BenchRequest, _ waves: [[JobInstance]], _ surroundings: Bench.Surroundings,
    on driver: any Driver
  ) async throws(BenchError) -> Stage {
    let jobs = waves.flatMap { $0 }
    switch request.engine {
    case .raw:
      for job in jobs {
        _ = try await RawTarget.inspect(
          RawTarget.path(job.options, job: job.number), job.options, on: driver)
      }
      var targets: [RawTarget] = []
      for job in jobs {
        targets.append(
          try await RawTarget.prepare(
            RawTarget.path(job.options, job: job.number), job.options, on: driver))
      }
      return .raw(targets)
    case .store:
      for job in jobs { try await Self.storeDirectory(job).check(on: driver) }
      return .store
    case .node:
      let directory = ScratchDirectory(jobs[0].options, "node")
      try await directory.check(on: driver)
      try await directory.make(on: driver)
      let capacity = jobs.reduce(0) { $0 + BlockEngine<NodePlace>.capacity($1.options) }
      do throws(BenchError) {
        return .node(
          try await BenchNode.start(directory.path, capacity: capacity, on: driver), directory)
      } catch {
        do throws(BenchError) { try await directory.remove(jobs[0].options, on: driver) } catch {}
        throw error
      }
    case .cluster, .meta:
      let kind: ClusterPlace.Kind = request.engine == .meta ? .metadata : .data
      let directory = ScratchDirectory(jobs[0].options, "cluster")
      if let running = try await surroundings.cluster(jobs[0].options.configuration) {
        return .cluster(
          try await BenchCluster.open(
            running, jobs[0].options, directory: directory.path, capacity: 0, on: driver),
          directory, kind)
      }
      return try await Self.temporary(jobs, directory, on: driver) {
        cluster throws(BenchError) in .cluster(cluster, directory, kind)
      }
    case .s3:
      let directory = ScratchDirectory(jobs[0].options, "s3")
      if let endpoint = jobs[0].options.endpoint {
        return .s3(
          try await BenchGateway.open(try surroundings.gateway(endpoint), on: driver), directory)
      }
      return try await Self.temporary(jobs, directory, on: driver) {
        cluster throws(BenchError) in
        .s3(try await BenchGateway.start(before: cluster, on: driver), directory)
      }
    case .net:
      let largest = jobs.map { max($0.options.readSizes.largest, $0.options.writeSizes.largest) }
      return .net(
        try await NetServer.start(
          jobs[0].options.netProtocol, largest: max(4096, largest.max()!), on: driver))
    }
  }

  /// What stands on a cluster of the run's own.
  private static func temporary(
    _ jobs: [JobInstance], _ directory: ScratchDirectory, on driver: any Driver,
    _ make: (BenchCluster) async throws(BenchError) -> Stage
  ) async throws(BenchError) -> Stage {
    try await directory.check(on: driver)
    try await directory.make(on: driver)
    let size = jobs.reduce(0) { $0 + 4 * ($1.options.byteCount ?? 0) }
    do throws(BenchError) {
      return try await make(
        try await BenchCluster.open(
          nil, jobs[0].options, directory: directory.path, capacity: size, on: driver))
    } catch {
      do throws(BenchError) { try await directory.remove(jobs[0].options, on: driver) } catch {}
      throw error
    }
  }

  private static func storeDirectory(_ job: JobInstance) -> ScratchDirectory {
    ScratchDirectory(job.options, "\(job.number).store")
  }

  /// One job from its start to its end, on its own loop.
  func measure(_ job: JobInstance, _ line: StartLine, isAlone: Bool, on driver: any Driver) async
    -> Result<JobStatistics, BenchError>
  {
    let options = job.options
    do throws(BenchError) {
      switch self {
      case .raw(let targets):
        let target = targets[job.index]
        return .success(
          try await Self.run(job, line, isAlone ? .process : .thread, on: driver) {
            () async throws(BenchError) in
            try await RawEngine.open(target, options, on: driver)
          })
      case .store:
        let directory = Self.storeDirectory(job)
        return .success(
          try await Self.run(
            job, line, isAlone ? .process : .thread, isAppending: true, on: driver
          ) { () async throws(BenchError) in
            try await directory.make(on: driver)
            let place = try await StorePlace.open(
              directory.path, capacity: BlockEngine<StorePlace>.capacity(options), on: driver)
            return try await Self.filled(BlockEngine(place, options, job: job.index, on: driver))
          })
      case .node(let node, _):
        return .success(
          try await Self.run(job, line, .thread, isAppending: true, on: driver) {
            () async throws(BenchError) in
            let place = NodePlace(node.value, on: driver)
            return try await Self.filled(BlockEngine(place, options, job: job.index, on: driver))
          })
      case .cluster(let cluster, _, let kind):
        return .success(
          try await Self.run(job, line, .thread, isAppending: true, on: driver) {
            () async throws(BenchError) in
            let isMetadata = kind == .metadata
            return try await Self.filled(
              ObjectEngine(
                ClusterPlace(cluster, kind, on: driver), options, job: job.index,
                largestObject: isMetadata ? nil : 64 << 20, fillWidth: isMetadata ? 256 : 4,
                isTemporary: cluster.isTemporary, on: driver))
          })
      case .s3(let gateway, _):
        return .success(
          try await Self.run(job, line, .thread, isAppending: true, on: driver) {
            () async throws(BenchError) in
            let largest = max(options.readSizes.largest, options.writeSizes.largest)
            let place = S3Place(
              gateway.reach, connections: max(16, options.depth), largest: largest, on: driver)
            return try await Self.filled(
              ObjectEngine(
                place, options, job: job.index, largestObject: nil, fillWidth: 16,
                isTemporary: gateway.isTemporary, on: driver))
          })
      case .net(let server):
        switch options.netProtocol {
        case .tcp:
          return .success(
            try await Self.run(job, line, .thread, on: driver) { () async throws(BenchError) in
              try await TCPEngine.open(server.value, options, on: driver)
            })
        case .wire:
          return .success(
            try await Self.run(job, line, .thread, on: driver) { () async throws(BenchError) in
              WireEngine(server.value, options, on: driver)
            })
        }
      }
    } catch {
      return .failure(error)
    }
  }

  private static func filled<E: FilledEngine>(_ engine: E) async throws(BenchError) -> E {
    do throws(BenchError) {
      try await engine.fill()
    } catch {
      await engine.close()
      throw error
    }
    return engine
  }

  private static func run<E: Engine>(
    _ job: JobInstance, _ line: StartLine, _ scope: UsageScope, isAppending: Bool = false,
    on driver: any Driver, _ open: () async throws(BenchError) -> E
  ) async throws(BenchError) -> JobStatistics {
    let engine: E
    do throws(BenchError) {
      engine = try await open()
    } catch {
      line.arrive()
      throw error
    }
    line.arrive()
    await line.wait(on: driver)
    let run = JobRun(
      job.options, job: job.index, engine: engine, usageScope: scope, isAppending: isAppending,
      on: driver)
    do throws(BenchError) {
      let statistics = try await run.run()
      await engine.close()
      return statistics
    } catch {
      await engine.close()
      throw error
    }
  }

  func close(_ jobs: [JobInstance], on driver: any Driver) async throws(BenchError) {
    switch self {
    case .raw(let targets):
      var closed: Set<String> = []
      for job in jobs {
        let target = targets[job.index]
        if closed.insert(target.path).inserted { try await target.close(job.options, on: driver) }
      }
    case .store:
      for job in jobs { try await Self.storeDirectory(job).remove(job.options, on: driver) }
    case .node(let node, let directory):
      await node.stop()
      try await directory.remove(jobs[0].options, on: driver)
    case .cluster(let cluster, let directory, _):
      let isTemporary = cluster.isTemporary
      try await cluster.close(on: driver)
      if isTemporary { try await directory.remove(jobs[0].options, on: driver) }
    case .s3(let gateway, let directory):
      try await gateway.close(on: driver)
      if gateway.isTemporary { try await directory.remove(jobs[0].options, on: driver) }
    case .net(let server): await server.stop()
    }
  }
}
