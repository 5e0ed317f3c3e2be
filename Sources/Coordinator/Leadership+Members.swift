import Cluster
import Coding
import Messages
import Metadata
import Ring
import Service
import Wire

extension Leadership {
  /// Keeps the committed map and the root's domains as the nodes say they are.
  func watchMembers() async {
    while await pause(.milliseconds(250)) {
      guard isLeading() else { continue }
      await registerMembers()
    }
  }

  /// Takes what nodes said by now into the map and the root.
  func registerMembers() async {
    guard let root = arbiter.root else { return }
    let heard = server.nodes.all.filter {
      server.nodes.isUp($0.record.id) && [0, root.clusterID].contains($0.clusterID)
    }
    let changed = heard.compactMap { entry -> NodeRecord? in
      let known = keeper.map.node(entry.record.id)
      let wanted = Self.record(entry, known: known)
      return known == wanted || refusedRecords[wanted.id] == wanted ? nil : wanted
    }
    // All at once, so that a new cluster's nodes come in one batch.
    await withTaskGroup(of: Void.self) { group in
      for node in changed {
        group.addTask { [self] in await register(node) }
      }
    }
    server.nodes.note(keeper.map)
    let retired = retiredNodes(root)
    let domains = Self.domains(root.domains, heard: heard, retired: retired)
    guard domains != root.domains, arbiter.isHeld else { return }
    do throws(ArbiterError) {
      try await arbiter.swap(in: epoch) { root in
        var root = root!
        root.domains = Self.domains(root.domains, heard: heard, retired: retired)
        return root
      }
    } catch {
      log.warning("the root's nodes could not be changed", ["reason": describe(error)])
    }
  }

  private func register(_ node: NodeRecord) async {
    do throws(Refusal) {
      let (_, outcome) = try await submit(.setNode(node))
      if case .refused = outcome { refusedRecords[node.id] = node }
      log.info(
        "node registered", ["node": node.name, "address": node.address, "outcome": text(outcome)])
      for device in node.devices where device.state == .retired {
        log.warning("device retired", ["node": node.name, "device": device.id])
      }
    } catch {
      // Tried again with the next look.
    }
  }

  /// What is to be in the map: what the node says, but a device once retired stays so, and a capacity
  /// that hardly moved counts as the same.
  static func record(_ entry: NodeTable.Entry, known: NodeRecord?) -> NodeRecord {
    var record = entry.record
    for index in record.devices.indices {
      guard let before = known?.devices.first(where: { $0.id == record.devices[index].id }) else {
        continue
      }
      if record.devices[index].state == .healthy { record.devices[index].state = before.state }
      let capacity = record.devices[index].capacity
      let difference = max(capacity, before.capacity) - min(capacity, before.capacity)
      if difference <= before.capacity / 16 { record.devices[index].capacity = before.capacity }
    }
    return record
  }

  /// The root's domains with what nodes say of themselves now. One that another node has replaced, at the same
  /// address and under the same name, is gone for good and must not count for ever as missing.
  ///
  /// - Parameter retired: nodes that are given up: they are no failure domains any more, whether they answer or not.
  static func domains(
    _ domains: [RootRecord.Domain], heard: [NodeTable.Entry], retired: Set<NodeID> = []
  ) -> [RootRecord.Domain] {
    var byNode: [NodeID: RootRecord.Domain] = [:]
    for domain in domains { byNode[domain.node] = domain }
    for entry in heard { byNode[entry.record.id] = domain(entry) }
    let present = Set(heard.map(\.record.id))
    for domain in domains where !present.contains(domain.node) {
      let isReplaced = heard.contains {
        $0.record.name == domain.name && $0.record.address == domain.address
      }
      if isReplaced { byNode[domain.node] = nil }
    }
    return byNode.keys.sorted().filter { !retired.contains($0) }.map { byNode[$0]! }
  }

  /// Nodes all of whose devices are retired, once nothing of the log is on them. None when too few others would be left to
  /// hold it.
  private func retiredNodes(_ root: RootRecord) -> Set<NodeID> {
    let used = root.logDevices
    let retired = keeper.map.nodes.filter { node in
      !node.devices.isEmpty && node.devices.allSatisfy { $0.state == .retired }
        && !node.devices.contains { used.contains($0.id) }
    }.map(\.id)
    let left = root.domains.count { !retired.contains($0.node) }
    return left > root.scheme.m + 1 ? Set(retired) : []
  }

  private func text(_ outcome: CommandOutcome) -> String {
    if case .refused(_, let reason) = outcome { "refused: \(reason)" } else { "done" }
  }
}
