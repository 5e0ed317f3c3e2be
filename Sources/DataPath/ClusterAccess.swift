package import Ring
package import Stripes

/// What reading and writing objects stands on; one for a process. Loop-confined.
package final class ClusterAccess: @unchecked Sendable {
  // Loop-confined.
  package let driver: any Driver
  package let coordinator: CoordinatorClient
  package let map: MapCache
  package let stripes: StripeIO
  /// Bytes that all readers together may have in memory.
  let readBudget: Semaphore
  let readBudgetByteCount: Int
  /// Bytes that all readers together may have on their way.
  let readPace: ReadPace
  /// Compress and decompress for all readers and writers.
  let codecs: GroupCodecs
  /// Of all readers.
  let groups: GroupCache
  /// That were given to this process.
  package let keys: KeyRing
  private let damageReports: DamageReports

  package init(
    driver: any Driver, coordinator: CoordinatorClient, map: MapCache, stripes: StripeIO,
    readBudgetByteCount: Int = 64 << 20
  ) {
    self.driver = driver
    self.coordinator = coordinator
    self.map = map
    self.stripes = stripes
    self.readBudgetByteCount = readBudgetByteCount
    readBudget = Semaphore(readBudgetByteCount)
    readPace = ReadPace(
      driver: driver, deadline: stripes.readDeadline, most: readBudgetByteCount)
    codecs = GroupCodecs(driver)
    groups = GroupCache()
    keys = KeyRing(coordinator, map)
    let reports = DamageReports(driver: driver, wire: coordinator.wire, directory: map)
    damageReports = reports
    stripes.onCorruption = { reports.add($0, $1) }
  }

  /// Tells nodes, for a second at most, what of theirs was found wrong and could not be told yet.
  package func close() async {
    await damageReports.close()
    await keys.close()
  }

  func translate(_ error: StripeError) -> DataPathError {
    switch error {
    case .unreadable(let missing, let needed, let found):
      .unreadable(
        missing: Array(Set(missing.map { map.nodeName(of: $0) })).sorted(), needed: needed,
        found: found)
    case .notFound: .corrupt("blocks are gone")
    case .corrupt(let what): .corrupt(what)
    case .cancelled: .cancelled
    }
  }
}
