import HTTP
import Messages
import Service

/// Objects and versions that go.
extension S3Service {
  func deleteObject(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let name = request.name else { throw S3Error(.invalidURI) }
    var version = try Self.version(request)
    var precondition = Precondition.none
    if let text = try request.header("If-Match") {
      let found = try await find(name, version)
      let facts = ObjectFacts(found.attributes, contentName: found.contentName)
      guard Conditions.names(text, facts.etag) else {
        throw S3Error(.preconditionFailed).with("Condition", "If-Match")
      }
      if version == .unnamed {
        precondition = .identity(found.version)
      } else if found.versionName != .unnamed {
        // What was looked at, and no other null version.
        version = .identity(found.version)
      }
    }
    let bypasses = try S3Lock.bypassesGovernance(request)
    let listeners = try await listeners(call)
    let deleted = try await delete(name, version, precondition, bypasses: bypasses)
    await tell(deleted, name, listeners, call)
    await call.answer(204, deleted.fields)
  }

  /// What became of a key or a version.
  struct Deleted {
    /// What was asked for, or the marker that was made.
    var version = VersionName.unnamed
    /// It is, or was, a delete marker.
    var isMarker = false
    /// It was asked for by its id.
    var wasNamed = false
    /// Nothing was there.
    var isNothing = false

    var fields: [HTTPFields.Line] {
      S3Service.versionFields(version)
        + (isMarker ? [.init("x-amz-delete-marker", "true")] : [])
    }
  }

  /// What is not there is as good as deleted.
  private func delete(
    _ name: ObjectName, _ version: VersionName, _ precondition: Precondition, bypasses: Bool
  ) async throws(S3Error) -> Deleted {
    do throws(BackendError) {
      guard version == .unnamed else {
        let wasMarker = try await backend.delete(
          name, version: version, bypassesGovernance: bypasses)
        return Deleted(version: version, isMarker: wasMarker, wasNamed: true)
      }
      let marker = try await backend.delete(name, precondition: precondition)
      return Deleted(version: marker, isMarker: marker != .unnamed)
    } catch {
      guard error.isMissing || error == .versionNotFound else { throw S3Error(backend: error) }
      return Deleted(version: version, isNothing: true)
    }
  }

  private func tell(
    _ deleted: Deleted, _ name: ObjectName, _ listeners: NotificationRules?, _ call: Call
  ) async {
    if deleted.isNothing { return }
    // A marker that was asked for by its id is gone.
    let isMade = deleted.isMarker && !deleted.wasNamed
    await tell(
      NotificationEvent(
        event: isMade ? .markerCreated : .deleted, name: name, version: deleted.version),
      listeners, call)
  }

  // MARK: Many at once

  func deleteObjects(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let claims = try BodyClaims(call.request)
    let body = try await wholeBody(call, limit: 2 << 20)
    guard claims.md5 != nil || claims.checksum != nil || call.payload.isSigned else {
      throw S3Error(.invalidRequest, "Missing required header for this request: Content-MD5")
    }
    let tree: XMLTree
    do throws(XMLTree.Malformed) {
      tree = try XMLTree.read(body, root: "Delete", elementLimit: 16 + 8 * Self.deleteKeyLimit)
    } catch {
      throw S3Error(.malformedXML)
    }
    let isQuiet = tree.value("Quiet") == "true"
    let objects = tree.all("Object")
    guard (1...Self.deleteKeyLimit).contains(objects.count) else { throw S3Error(.malformedXML) }
    var keys: [(key: String, version: String?)] = []
    for object in objects {
      guard let key = object.value("Key"), !key.isEmpty else { throw S3Error(.malformedXML) }
      keys.append((key, object.value("VersionId")))
    }
    let wantsBypass = try S3Lock.bypassesGovernance(call.request)
    try await requireBucket(call.request)
    let listeners = try await listeners(call)
    let outcomes = await withTaskGroup(of: (Int, Result<Deleted, S3Error>).self) { group in
      var outcomes = [Result<Deleted, S3Error>](repeating: .success(Deleted()), count: keys.count)
      var running = 0
      for (index, item) in keys.enumerated() {
        if running == Self.deletesAtOnce, let (index, outcome) = await group.next() {
          outcomes[index] = outcome
          running -= 1
        }
        group.addTask { [self] in
          guard call.mayDelete(item.key, version: item.version) else {
            return (index, .failure(S3Error(.accessDenied)))
          }
          let bypasses = wantsBypass && call.mayBypassLocks(item.key)
          do throws(S3Error) {
            let version =
              if let text = item.version { try Self.version(text) } else { VersionName.unnamed }
            let name = ObjectName(bucket: bucket, key: item.key)
            let deleted = try await delete(name, version, .none, bypasses: bypasses)
            await tell(deleted, name, listeners, call)
            return (index, .success(deleted))
          } catch {
            return (index, .failure(error))
          }
        }
        running += 1
      }
      for await (index, outcome) in group { outcomes[index] = outcome }
      return outcomes
    }
    var xml = XMLText("DeleteResult")
    for (item, outcome) in zip(keys, outcomes) {
      switch outcome {
      case .failure(let error):
        xml.group("Error") {
          $0.element("Key", item.key)
          if let version = item.version { $0.element("VersionId", version) }
          $0.element("Code", error.code.rawValue)
          $0.element("Message", error.message)
        }
      case .success(let deleted) where !isQuiet:
        xml.group("Deleted") {
          $0.element("Key", item.key)
          if let version = item.version { $0.element("VersionId", version) }
          guard deleted.isMarker else { return }
          $0.element("DeleteMarker", true)
          $0.element("DeleteMarkerVersionId", deleted.version.text ?? "null")
        }
      case .success: break
      }
    }
    await call.answer(xml: xml.finish())
  }

  private static let deletesAtOnce = 64
  private static let deleteKeyLimit = 1000
}
