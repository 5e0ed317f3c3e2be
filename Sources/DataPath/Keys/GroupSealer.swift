import Coding
import Messages
import Ring

/// Gives each group of an upload in one key domain its data key and a nonce. Loop-confined.
///
/// No nonce is used twice with one key, by construction: a data key is made for one upload, in its session's own command, which has one
/// answer however often it is sent, and is never given to anybody to seal with again; nonces under it are counted here,
/// and nowhere else. A group that is packed again for another container goes as it is, sealed once.
final class GroupSealer: @unchecked Sendable {
  // Loop-confined.
  private let access: ClusterAccess
  private let upload: UploadIdentity
  private let domain: KeyedDomain
  private let making: SharedWork<Void>
  private var key: DataKey?
  private var nonceCount: UInt64 = 0
  private var byteCount: UInt64 = 0

  struct Turn: Sendable {
    var key: DataKey
    var seal: GroupHeader.Seal
  }

  /// Far below what AES-GCM allows (2^36 blocks of 16 bytes under one key: an advantage of 2^-57 to whoever wants to tell it from
  /// noise), and still one key for each TiB.
  private static let byteLimit: UInt64 = 1 << 40
  private static let nonceLimit: UInt64 = 1 << 32
  /// How often a key is asked for while the domain's own key changes, or the leader.
  private static let attemptLimit = 20

  init(
    _ access: ClusterAccess, upload: UploadIdentity, tasks: OwnedTasks, domain: KeyedDomain
  ) {
    self.access = access
    self.upload = upload
    self.domain = domain
    making = SharedWork(tasks, "make data key")
  }

  /// - Parameter count: bytes that will be sealed.
  func next(_ count: Int) async throws(DataPathError) -> Turn {
    while true {
      if let key, nonceCount < Self.nonceLimit, byteCount < Self.byteLimit,
        !access.driver.meets(.dataKeyFull)
      {
        return take(key, count)
      }
      // A key that was made in vain is left for the next group.
      let full = key
      try await making.run(evenIfCancelled: true) { [self] () async throws(DataPathError) in
        if key == full { try await makeKey() }
      }
      if let key, key != full { return take(key, count) }
    }
  }

  private func take(_ key: DataKey, _ count: Int) -> Turn {
    defer {
      nonceCount += 1
      byteCount += UInt64(count)
    }
    return Turn(
      key: key,
      seal: GroupHeader.Seal(
        keyID: key.id, nonce: AES256GCM.Nonce(high: 0, low: nonceCount)))
  }

  private func makeKey() async throws(DataPathError) {
    var attempt = 0
    while true {
      do throws(DataPathError) {
        key =
          if let client = access.keys.opened[domain.id] {
            try await madeHere(client)
          } else {
            try await madeByLeader()
          }
        nonceCount = 0
        byteCount = 0
        return
      } catch {
        attempt += 1
        guard error.refusalCode == .unavailable, attempt < Self.attemptLimit, !Task.isCancelled
        else { throw error }
        await access.driver.sleep(.milliseconds(100))
      }
    }
  }

  private func make(_ offered: NewDataKey?) async throws(DataPathError) -> UInt64 {
    let outcome = try await access.coordinator.execute(
      .makeDataKey(upload: try await upload.number(), domain: domain.id, key: offered))
    guard case .number(let id) = outcome else { throw .corrupt("answer to makeDataKey") }
    return id
  }

  private func madeByLeader() async throws(DataPathError) -> DataKey {
    guard let made = try await access.keys.dataKey(try await make(nil)) else {
      // The session expired meanwhile, and with the upload its key went.
      throw .refused(
        code: RefusalCode.noSuchUpload.rawValue, reason: "the upload's data key is gone")
    }
    guard made.domain == domain.id else { throw .corrupt("answer to makeDataKey") }
    return made
  }

  /// Its secret never comes back from the cluster: one that answered with an older key could have nonces used twice.
  private func madeHere(_ client: ClientDomain) async throws(DataPathError) -> DataKey {
    let secret = access.driver.randomBytes(AES256GCM.keyByteCount)
    let offered = client.wrapped(
      secret, nonce: access.driver.randomBytes(AES256GCM.nonceByteCount))
    return client.dataKey(try await make(offered), secret)
  }
}
