internal import DataPath
internal import Messages
internal import Ring
internal import Simulation

/// Objects in parts. Nobody else knows of an upload, so what it holds is known; when it is completed that is a put like others.
extension WorkloadClient {
  func multipart(
    _ operation: PlannedOperation, _ planned: PlannedOperation.Multipart, _ life: Life
  ) async {
    // Beginning and parts change nothing that others see: no entry of the history.
    let quiet = Pending(entry: -1, life: life, begun: run.world.now)
    let use = life.writer
    use.putCount += 1
    defer {
      use.putCount -= 1
      use.isIdle.wakeAll()
    }
    var told = History.Outcome.inDoubt
    defer { count(operation, told) }
    do throws(DataPathError) {
      let begun = try await life.client.coordinator.execute(
        .createMultipart(
          name: planned.name, attributes: History.attributes(tag: planned.tag), owner: "swarm",
          modified: 0))
      guard case .number(let number) = begun else {
        return run.fail("answer", "a multipart upload was begun with \(begun)")
      }
      let multipart = MultipartName(planned.name, number: number)
      var parts: [UInt32: PutPart] = [:]
      for (number, source) in planned.parts {
        if let part = try await put(
          number, source, multipart, operation, planned, life, use.writer)
        {
          parts[number] = part
        }
      }
      switch planned.ending {
      case .leave: told = .done
      case .abort:
        _ = try await life.client.coordinator.execute(.abortMultipart(multipart))
        told = .done
        try await expectGone(multipart, life)
      case .complete:
        told = .failed
        guard !parts.isEmpty else { return }
        told = await complete(multipart, parts, operation, planned, quiet, use.writer)
      }
    } catch {
      told = .failed
      if isGone(error, quiet, planned.name) { return }
      switch error.refusalCode {
      case .noSuchBucket: return
      default: told = outcome(of: error, quiet, operation)
      }
    }
  }

  private struct PutPart {
    var identity: UInt64
    var content: Content
  }

  /// Whether an upload, or its parts with it, is said to be gone and may be: it was begun long ago, or its bucket may have been
  /// removed since.
  private func isGone(_ error: DataPathError, _ begun: Pending, _ name: ObjectName) -> Bool {
    guard [.noSuchMultipart, .noSuchPart].contains(error.refusalCode) else { return false }
    let lifetime = run.cluster.scenario.coordinator.multipartLifetime
    return run.cluster.areClocksWild || run.world.now - begun.begun > lifetime / 2
      || !isHeard(begun) || run.plan.passingBuckets.contains(name.bucket)
  }

  /// Nil when there was nothing to copy.
  private func put(
    _ number: UInt32, _ source: PlannedOperation.Multipart.Source, _ multipart: MultipartName,
    _ operation: PlannedOperation, _ planned: PlannedOperation.Multipart, _ life: Life,
    _ writer: ObjectWriter
  ) async throws(DataPathError) -> PutPart? {
    switch source {
    case .content(let content):
      let bytes = ContentSource(
        content, isSized: number % 2 == 0, failsAt: nil, longestPause: planned.longestPause,
        driver: life.client.driver,
        random: run.world.random(named: "source/\(operation.number)/\(number)"))
      let result = try await writer.putPart(multipart, number: number, source: bytes) {
        PartWords(digest: [UInt8(number)])
      }
      run.byteCount += bytes.given
      return PutPart(identity: result.identity, content: content)
    case .copy(let name, let part):
      // What cannot be known for sure cannot be compared later.
      guard !run.mayBeStale else { return nil }
      let record: ObjectRecord
      do throws(DataPathError) {
        record = try await life.client.coordinator.query(StatObject(level: .strong, name: name))
          .record
      } catch {
        guard [.noSuchKey, .noSuchBucket].contains(error.refusalCode) else { throw error }
        return nil
      }
      let version = History.Version(
        identity: record.identity, byteCount: record.byteCount, contentHash: record.contentHash,
        tag: History.tag(of: record.attributes))
      let contents = run.contents(of: version)
      guard contents.count == 1, contents[0].byteCount == record.byteCount else { return nil }
      let low = record.byteCount.multipliedReportingOverflow(by: part.lowerBound).partialValue
      let high = record.byteCount.multipliedReportingOverflow(by: part.upperBound).partialValue
      let range = low / 1_000_000..<high / 1_000_000
      do throws(DataPathError) {
        let result = try await writer.copyPart(
          multipart, number: number, from: name, identity: record.identity, range: range,
          words: PartWords(digest: [UInt8(number)]))
        return PutPart(identity: result.identity, content: contents[0].part(range))
      } catch {
        guard error == .changed || error.refusalCode == .noSuchKey else { throw error }
        return nil
      }
    }
  }

  private func expectGone(_ multipart: MultipartName, _ life: Life) async throws(DataPathError) {
    do throws(DataPathError) {
      _ = try await life.client.coordinator.query(
        ListParts(level: .strong, multipart: multipart, after: 0, limit: 1000))
      if !run.mayBeStale {
        run.fail("parts", "multipart upload \(multipart.number) is there after its end")
      }
    } catch {
      guard [.noSuchMultipart, .noSuchBucket].contains(error.refusalCode) else { throw error }
    }
  }

  private func complete(
    _ multipart: MultipartName, _ parts: [UInt32: PutPart], _ operation: PlannedOperation,
    _ planned: PlannedOperation.Multipart, _ begun: Pending, _ writer: ObjectWriter
  ) async -> History.Outcome {
    let life = begun.life
    let listed: [ListParts.Part]
    do throws(DataPathError) {
      listed = try await life.client.coordinator.query(
        ListParts(level: .strong, multipart: multipart, after: 0, limit: 1000)
      ).parts
    } catch {
      if isGone(error, begun, planned.name) { return .failed }
      return outcome(of: error, begun, operation)
    }
    let numbers = parts.keys.sorted()
    guard
      listed.map(\.part.number) == numbers,
      listed.map(\.identity) == numbers.map({ parts[$0]!.identity }),
      listed.map(\.part.byteCount) == numbers.map({ parts[$0]!.content.byteCount })
    else {
      if !run.mayBeStale, isHeard(begun) {
        run.fail(
          "parts", "client\(index) \(operation.number): \(listed) are listed, \(parts) were put")
      }
      return .failed
    }
    let content = Content(numbers.flatMap { parts[$0]!.content.pieces })
    let condition = precondition(planned.condition, planned.name)
    run.note(
      PlannedOperation.Put(name: planned.name, content: content, tag: planned.tag))
    let pending = invoke(
      operation, life,
      .put(
        planned.name, tag: planned.tag, byteCount: content.byteCount, condition: condition,
        unlessIdentical: false))
    var told: History.Outcome
    do throws(DataPathError) {
      let identity = try await writer.complete(
        multipart, parts: listed, attributes: History.attributes(tag: planned.tag),
        precondition: condition
      ).identity
      told = .written(identity: identity, contentHash: nil)
      if isHeard(pending) { lastSeen[planned.name] = identity }
    } catch {
      told =
        isGone(error, begun, planned.name) ? .failed : outcome(of: error, pending, operation)
    }
    answer(pending, told)
    return told
  }
}
