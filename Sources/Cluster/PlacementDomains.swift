package import Coding

/// What fails together: a node, or a single device where the cluster has one node.
package struct FailureDomain: Hashable, Sendable {
  /// The node's number, or the device's where there is one node.
  package var id: UInt64
  /// What it lies in, widest first: ["rack2"]. Domains that differ here early are the better spread.
  package var path: [String]
  package var node: NodeID
  /// Those that may take new containers, ascending.
  package var devices: [DeviceID]
}

extension ClusterMap {
  /// Every failure domain with a healthy device, ascending by id.
  package var failureDomains: [FailureDomain] {
    let healthy = nodes.map { node in
      (node, node.devices.filter { $0.state == .healthy }.map(\.id).sorted())
    }
    let domains =
      if nodes.count == 1 {
        healthy.flatMap { node, devices in
          devices.map {
            FailureDomain(id: $0.raw, path: node.domain, node: node.id, devices: [$0])
          }
        }
      } else {
        healthy.filter { !$0.1.isEmpty }.map { node, devices in
          FailureDomain(id: node.id.raw, path: node.domain, node: node.id, devices: devices)
        }
      }
    return domains.sorted { $0.id < $1.id }
  }
}

/// The scheme a class can have with `liveDomains` failure domains to write to: fewer than k + m keep m and
/// shrink k. Nil below 1 + m: writing must stop.
package func effectiveScheme(class wanted: Scheme, liveDomains: Int) -> Scheme? {
  guard liveDomains > wanted.m else { return nil }
  return Scheme(k: min(wanted.k, liveDomains - wanted.m), m: wanted.m)
}

extension Scheme {
  /// The widest of the usual schemes for so many failure domains: 6+3, 4+2, 3+2, 2+1, 1+1, or one copy.
  package static func widest(forDomains count: Int) -> Scheme {
    switch count {
    case 9...: Scheme(k: 6, m: 3)!
    case 6...: Scheme(k: 4, m: 2)!
    case 5: Scheme(k: 3, m: 2)!
    case 3...: Scheme(k: 2, m: 1)!
    case 2: Scheme(k: 1, m: 1)!
    default: Scheme(k: 1, m: 0)!
    }
  }
}
