internal import DataPath
internal import Messages
internal import Simulation

/// Buckets with versions, once all has settled.
extension FinalChecks {
  /// Lists every version, reads all of each, and judges what was ever said of versions.
  func lookAtVersions() async throws {
    let client = cluster.client(named: "versions \(round)")
    (versionedObjectCount, versionedByteCount) = (0, 0)
    do throws(DataPathError) {
      for bucket in WorkloadPlan.versionedBuckets {
        let entries = try await run.listVersions(bucket, limit: 1000, "final versions", client)
        for entry in entries {
          if entry.isCurrent && !entry.isMarker { versionedObjectCount += 1 }
          versionedByteCount += entry.byteCount
          let name = ObjectName(bucket: bucket, key: entry.key)
          let place = VersionHistory.Place(name: name, identity: entry.identity)
          guard try await run.read(place, client) != nil else {
            throw .refused(
              code: RefusalCode.noSuchVersion.rawValue, reason: "\(name) \(entry.identity)")
          }
          guard entry.isCurrent else { continue }
          let invoked = run.versions.now()
          var seen: UInt64?
          do throws(DataPathError) {
            seen = try await client.coordinator.query(StatObject(level: .strong, name: name))
              .record.identity
          } catch {
            guard error.refusalCode == .noSuchKey else { throw error }
          }
          run.versions.looks.append(
            .init(
              label: "final look", name: name, invoked: invoked, returned: run.versions.now(),
              seen: seen))
        }
      }
    } catch {
      throw failure("serves again", "versions after the last fault: \(error)")
    }
    if let failure = run.failure { throw failure }
    if let failure = run.versions.check(at: run.world.now) { throw failure }
    await client.close()
  }

  /// Takes every version and marker away.
  func removeVersions(_ client: SwarmClient) async throws {
    do throws(DataPathError) {
      for bucket in WorkloadPlan.versionedBuckets {
        let entries = try await run.listVersions(bucket, limit: 1000, "cleaner", client)
        for entry in entries {
          let name = ObjectName(bucket: bucket, key: entry.key)
          let index = run.versions.beginRemoval(
            "cleaner", VersionHistory.Place(name: name, identity: entry.identity))
          let outcome = try await client.coordinator.execute(
            .deleteVersion(name: name, version: .identity(entry.identity)))
          run.versions.endRemoval(index, outcome.made == nil ? .object : .marker)
        }
      }
    } catch {
      throw failure("room to shrink", "versions cannot be removed: \(error)")
    }
  }
}
