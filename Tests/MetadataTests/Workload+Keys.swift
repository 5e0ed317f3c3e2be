import Messages
import TestSupport

@testable import Metadata

/// Commands about key domains and data keys.
extension Workload {
  private static let names = ["d-1", "d-2"]

  mutating func wrappedKey() -> WrappedKey { WrappedKey(random.bytes(WrappedKey.byteCount))! }
  private mutating func masterWrap() -> MasterWrap {
    MasterWrap(masterKey: chance(50) ? "old" : "new", bytes: random.bytes(number(0..<70)))
  }

  /// Mostly none.
  mutating func keyDomainName() -> String {
    chance(95) ? "" : chance(5) ? "none" : pick(Self.names)!
  }

  mutating func keyCommand() -> Command {
    let id = pick(model.keyDomains.keys.sorted())
    guard let id, let domain = model.keyDomains[id], !chance(15) else {
      return .changeKeys(
        .create(
          name: chance(5) ? "No" : pick(Self.names)!, wrap: masterWrap(),
          fingerprintKey: wrappedKey()))
    }
    switch number(0..<10) {
    case 0, 1:
      return .changeKeys(
        .rewrap(
          domain.keys.keys.sorted().map {
            KeyChange.Rewrap(
              domain: chance(95) ? id : KeyDomainID(9),
              key: DomainKey(version: chance(95) ? $0 : 77, wrap: masterWrap()))
          }))
    case 2, 3, 4:
      return .changeKeys(
        .addKey(
          chance(95) ? id : KeyDomainID(9),
          key: DomainKey(version: domain.newest + (chance(70) ? 1 : 2), wrap: masterWrap()),
          fingerprintKey: wrappedKey()))
    case 5, 6, 7:
      let keys = model.dataKeys.keys.sorted()
        .filter { (model.dataKeys[$0]!.domain == id || chance(5)) && chance(60) }
      return .changeKeys(
        .rewrapDataKeys(
          chance(95) ? id : KeyDomainID(9), version: chance(85) ? domain.newest : 1,
          (keys + (chance(5) ? [3] : [])).map {
            KeyChange.Rewrapped(id: $0, wrapped: wrappedKey())
          }))
    default:
      return .changeKeys(
        .setBucket(
          bucket: "bucket-\(chance(90) ? 1 : number(0..<3))",
          keyDomain: chance(50) ? "" : domain.name))
    }
  }

  mutating func makeDataKey(_ upload: UInt64, _ domain: KeyDomainID) -> ClientCommand {
    let known = model.keyDomains[domain]
    let version = chance(90) ? known?.newest ?? 1 : UInt32(number(1..<4))
    return .makeDataKey(
      upload: upload, domain: chance(98) ? domain : KeyDomainID(9),
      key: chance(98) ? NewDataKey(version: version, wrapped: wrappedKey()) : nil)
  }

  /// Keys to register with, mostly those that fit.
  mutating func dataKeys(of upload: UInt64, in domain: KeyDomainID) -> [UInt64] {
    var keys = model.dataKeys.filter { $0.value.upload == upload && $0.value.domain == domain }
      .keys.sorted().filter { _ in chance(70) }
    if chance(2), let other = pick(model.dataKeys.keys.sorted()) { keys.append(other) }
    if chance(2) { keys.append(4) }
    return keys
  }
}
