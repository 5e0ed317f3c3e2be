package import Coding
package import Messages
import Ring
import Wire

/// The keys that this process was given, in memory alone. What is not known is asked for, many at once. Loop-confined.
package final class KeyRing: @unchecked Sendable {
  // Loop-confined.
  let coordinator: CoordinatorClient
  private let map: MapCache
  private let tasks: OwnedTasks
  /// What opens domains whose keys are their clients'.
  package var passphrase: [UInt8]?
  /// Those that it opened.
  var opened: [KeyDomainID: ClientDomain] = [:]
  private var domains: [KeyDomainID: KeyedDomain] = [:]
  private var dataKeys: [UInt64: DataKey] = [:]
  /// Those before: who waits for one is woken while others make room already.
  private var olderDataKeys: [UInt64: DataKey] = [:]
  private var waiting: [(wanted: Wanted, promise: Promise<DataPathError?>)] = []
  private var isAsking = false

  private enum Wanted: Hashable {
    case domain(KeyDomainID)
    case dataKey(UInt64)
  }

  /// About 400 KiB, and as much of those before.
  private static let dataKeyLimit = 4096

  init(_ coordinator: CoordinatorClient, _ map: MapCache) {
    self.coordinator = coordinator
    self.map = map
    tasks = OwnedTasks(coordinator.driver)
  }

  /// Nil for the plain one.
  package func domain(_ id: KeyDomainID) async throws(DataPathError) -> KeyedDomain? {
    if id == .plain { return nil }
    if domains[id] == nil { try await ask(.domain(id)) }
    guard let domain = domains[id] else {
      throw .refused(code: RefusalCode.noSuchKeyDomain.rawValue, reason: "\(id)")
    }
    return domain
  }

  /// Nil when there is no such key any more.
  package func dataKey(_ id: UInt64) async throws(DataPathError) -> DataKey? {
    if let known = knownDataKey(id) { return known }
    try await ask(.dataKey(id))
    return knownDataKey(id)
  }

  /// Without asking.
  func knownDataKey(_ id: UInt64) -> DataKey? { dataKeys[id] ?? olderDataKeys[id] }

  func close() async {
    tasks.cancelAll()
    await tasks.wait()
  }

  private func ask(_ wanted: Wanted) async throws(DataPathError) {
    let promise = Promise<DataPathError?>()
    waiting.append((wanted, promise))
    if !isAsking {
      isAsking = true
      tasks.spawn("ask for keys") { [self] in await askAll() }
    }
    let error = await withTaskCancellationHandler {
      await promise.get()
    } onCancel: {
      promise.fulfil(.cancelled)
    }
    if let error { throw error }
  }

  private func askAll() async {
    while !waiting.isEmpty {
      let batch = waiting
      waiting = []
      let failure = await fetch(batch.map(\.wanted))
      for (wanted, promise) in batch {
        // A domain that cannot be opened must not keep the others' keys from those who wait.
        let isAlone = batch.allSatisfy { $0.wanted == wanted }
        promise.fulfil(failure?.refusalCode == nil || isAlone ? failure : await fetch([wanted]))
      }
    }
    isAsking = false
  }

  /// Asks at the level that readers have, and the leader for what others do not know yet.
  private func fetch(_ wanted: [Wanted]) async -> DataPathError? {
    var wanted = wanted
    if map.level != .strong {
      _ = await fetch(wanted, at: map.level)
      wanted.removeAll {
        switch $0 {
        case .domain(let id): domains[id] != nil
        case .dataKey(let id): knownDataKey(id) != nil
        }
      }
      if wanted.isEmpty { return nil }
    }
    return await fetch(wanted, at: .strong)
  }

  private func fetch(_ wanted: [Wanted], at level: ReadLevel) async -> DataPathError? {
    var ids: [KeyDomainID] = []
    var keys: [UInt64] = []
    for one in wanted {
      switch one {
      case .domain(let id) where !ids.contains(id): ids.append(id)
      case .dataKey(let id) where !keys.contains(id): keys.append(id)
      case .domain, .dataKey: break
      }
    }
    if dataKeys.count + keys.count > Self.dataKeyLimit {
      olderDataKeys = dataKeys
      dataKeys = [:]
    }
    while !ids.isEmpty || !keys.isEmpty {
      var request = GetKeys(
        level: level, domains: Array(ids.prefix(GetKeys.limit)),
        dataKeys: Array(keys.prefix(GetKeys.limit)))
      ids.removeFirst(request.domains.count)
      keys.removeFirst(request.dataKeys.count)
      do throws(DataPathError) {
        // Where one was opened, the next wanted is likely to be a client's too.
        if !opened.isEmpty { try await fetchWrapped(&request) }
        try await fetchPlain(&request)
      } catch {
        return error
      }
    }
    return nil
  }

  /// Takes from the request what came.
  private func fetchPlain(_ request: inout GetKeys) async throws(DataPathError) {
    if request.domains.isEmpty && request.dataKeys.isEmpty { return }
    let answer: GetKeys.Answer
    do throws(DataPathError) {
      answer = try await coordinator.query(request, at: request.level)
    } catch {
      guard error.refusalCode == .keyIsClients, passphrase != nil else { throw error }
      let isAlone = request.domains.count + request.dataKeys.count == 1
      try await fetchWrapped(&request)
      // The others are asked for again, each by itself.
      if !isAlone && !(request.domains.isEmpty && request.dataKeys.isEmpty) { throw error }
      return
    }
    guard let plain = answer.opened(key: coordinator.wire.keyTransport) else {
      throw .corrupt("answer to a question for keys")
    }
    // What was not asked for is not taken, and nothing of a domain whose keys only we have.
    for domain in plain.domains
    where request.domains.contains(domain.id) && opened[domain.id] == nil {
      domains[domain.id] = domain
    }
    for key in plain.dataKeys
    where request.dataKeys.contains(key.id) && opened[key.domain] == nil {
      dataKeys[key.id] = key
    }
    request.domains = []
    request.dataKeys = []
  }

  /// Asks for those whose domains' keys are their clients', opens them, and takes them from the request.
  private func fetchWrapped(_ request: inout GetKeys) async throws(DataPathError) {
    let answer = try await coordinator.query(GetWrappedKeys(request), at: request.level)
    for domain in answer.domains where opened[domain.id] == nil {
      let (found, keyed) = try await open(domain)
      opened[domain.id] = found
      domains[domain.id] = keyed
    }
    for key in answer.dataKeys where request.dataKeys.contains(key.id) {
      guard let domain = opened[key.domain] else { throw .corrupt("\(key.domain) of a data key") }
      dataKeys[key.id] = try domain.opened(key)
    }
    request.domains.removeAll { opened[$0] != nil }
    request.dataKeys.removeAll { knownDataKey($0) != nil }
  }
}

/// A key domain as readers and writers know it: chunks in it are named by keyed fingerprints, so that nobody without the key can
/// tell by them what is stored.
package typealias KeyedDomain = PlainKeys.Domain

extension KeyedDomain {
  /// HMAC-SHA-256 over the plain fingerprint: chunks are hashed several at a time as in plain domains, and four blocks more for each
  /// cost less than 1 % of a chunk of 32 KiB.
  package func keyed(_ fingerprint: Fingerprint) -> Fingerprint {
    Fingerprint(HMACSHA256.authenticate(fingerprint.bytes, key: fingerprintKey))!
  }
}

/// A key that groups are sealed with.
package typealias DataKey = PlainKeys.DataKey
