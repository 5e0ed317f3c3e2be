import Cluster
import Coding
import Messages
import Metadata
import Ring
import Wire

/// Opens links: chooses devices, writes what a link begins with at full width, then lets the arbiter name it.
final class LinkOpener: @unchecked Sendable {
  // Loop-confined.
  struct Opened: Sendable {
    var link: RootRecord.Link
    /// Stripes it begins with, all acknowledged.
    var stripeCount: UInt64
    /// Of these on each device.
    var byteCount: Int
  }

  private let driver: any Driver
  private let port: any NodePort
  private let nodes: NodeTable
  private let arbiter: any Arbiter
  private let epoch: UInt64
  private let slow: Duration
  /// When a device last failed to take a block of the log.
  private var failed: [DeviceID: Duration] = [:]
  /// Numbers this leader has tried; one is never tried twice, for what it left behind may differ.
  private var lastNumber: UInt64 = 0
  /// The term is over: whoever leads now may be this coordinator again, under another epoch.
  private var isStopped = false
  /// What keeps a link from being opened, for people.
  private(set) var detail = ""

  init(
    driver: any Driver, port: any NodePort, nodes: NodeTable, arbiter: any Arbiter, epoch: UInt64,
    slow: Duration
  ) {
    self.driver = driver
    self.port = port
    self.nodes = nodes
    self.arbiter = arbiter
    self.epoch = epoch
    self.slow = slow
  }

  /// Ends with the term: no link is opened any more.
  func stop() { isStopped = true }

  func noteFailures(_ failures: [LinkFailure]) {
    for failure in failures { failed[failure.device] = driver.now }
  }

  private func avoided(within duration: Duration) -> [DeviceID] {
    failed.keys.filter { driver.now - failed[$0]! < duration }.sorted()
  }

  private func devices(_ root: RootRecord) -> [DeviceID]? {
    let placement = Placement(map: nodes.linkMap(root.domains), free: nodes.freeForLog)
    let copies = root.scheme.m + 1
    return placement.linkDevices(copies: copies, avoiding: avoided(within: .seconds(30)))
      ?? placement.linkDevices(copies: copies, avoiding: avoided(within: .seconds(1)))
  }

  /// Opens the next link, sealing the one that is open.
  ///
  /// - Parameters:
  ///   - firstPosition: of the first command in it.
  ///   - copies: framed batches to begin with.
  ///   - sealing: the length at which the open link ends; nil when none is open. A link without a batch
  ///     is dropped from the chain.
  func open(firstPosition: UInt64, copies: [[UInt8]], sealing: UInt64?) async throws(LogError)
    -> Opened
  {
    while true {
      if isStopped { throw .stopped }
      guard arbiter.isHeld else { throw .lost(await lossReason()) }
      guard let root = arbiter.root else { throw .unreadable("no root record") }
      guard let devices = devices(root) else {
        let failing = avoided(within: .seconds(30)).map { nodes.nodeName(of: $0) }
        let known = nodes.linkMap(root.domains).failureDomains.count
        detail =
          "the log needs \(root.scheme.m + 1) failure domains that take writes; "
          + (failing.isEmpty ? "\(known) are left" : "failing: " + failing.joined(separator: ", "))
        guard await driver.sleep(.milliseconds(200)) else { throw .stopped }
        continue
      }
      lastNumber = max(lastNumber, root.links.last?.number ?? 0) + 1
      let link = RootRecord.Link(
        number: lastNumber, generation: epoch, scheme: Scheme(k: 1, m: root.scheme.m)!,
        devices: devices, firstPosition: firstPosition, sealedStripes: nil)
      // While too few answer, nothing is left behind on those that do.
      let silent = await silent(link)
      guard silent.isEmpty else {
        noteFailures(silent)
        detail =
          "the log cannot be written to "
          + Set(silent.map { nodes.nodeName(of: $0.device) }).sorted().joined(separator: ", ")
        continue
      }
      var proposal = Self.adding(link, sealing: sealing, to: root)
      proposal.epoch = epoch
      proposal.version += 1
      let stripes = [LinkStripe.framed(proposal)] + copies
      let failures = await write(stripes, to: link)
      if isStopped { throw .stopped }
      if let stale = failures.first(where: { $0.error.refusalCode == .staleEpoch }) {
        arbiter.lose(.deposed(epoch: stale.error.staleEpoch ?? epoch))
        throw .lost(await lossReason())
      }
      guard failures.isEmpty else {
        noteFailures(failures)
        detail =
          "the log cannot be written to "
          + Set(failures.map { nodes.nodeName(of: $0.device) }).sorted().joined(separator: ", ")
        continue
      }
      do {
        try await arbiter.swap(in: epoch) { Self.adding(link, sealing: sealing, to: $0!) }
      } catch .unanswered {
        // Nothing was changed, and we still lead: what was written is deleted with the old links.
        detail = "the arbiter could not name the next link"
        guard await driver.sleep(.milliseconds(200)) else { throw .stopped }
        continue
      } catch {
        throw .lost(error)
      }
      detail = ""
      return Opened(
        link: link, stripeCount: UInt64(stripes.count),
        byteCount: stripes.reduce(0) { $0 + LinkStripe.storedByteCount($1.count, link.scheme) })
    }
  }

  /// Asks those devices that may be away whether they are there.
  private func silent(_ link: RootRecord.Link) async -> [LinkFailure] {
    let doubtful = link.devices.indices.filter {
      nodes.isDown(link.devices[$0]) || failed[link.devices[$0]] != nil
    }
    if doubtful.isEmpty { return [] }
    return await withTaskGroup(of: LinkFailure?.self) { group in
      for shard in doubtful {
        group.addTask { [self] in
          guard case .failure(let error) = await port.list(link.place, shard: shard, deadline: slow)
          else { return nil }
          return LinkFailure(device: link.devices[shard], error: error)
        }
      }
      var failures: [LinkFailure] = []
      for await case let failure? in group { failures.append(failure) }
      return failures.sorted { $0.device < $1.device }
    }
  }

  private func lossReason() async -> ArbiterError {
    if !arbiter.isHeld { arbiter.lose(.expired) }
    return await arbiter.waitForLoss()
  }

  private static func adding(
    _ link: RootRecord.Link, sealing: UInt64?, to root: RootRecord
  ) -> RootRecord {
    var root = root
    if let sealing, let last = root.links.indices.last {
      if sealing > 1 {
        root.links[last].sealedStripes = sealing
      } else {
        root.links.removeLast()
      }
    }
    root.links.append(link)
    return root
  }

  /// Writes the stripes a link begins with, a few at a time; the first failures end it.
  private func write(_ stripes: [[UInt8]], to link: RootRecord.Link) async -> [LinkFailure] {
    var next = 0
    while next < stripes.count {
      let some = next..<min(stripes.count, next + 8)
      let failures = await withTaskGroup(of: [LinkFailure].self) { group in
        for index in some {
          group.addTask { [self] in
            await port.write(
              link.place, stripe: UInt64(index), bytes: stripes[index], acknowledged: 0,
              epoch: epoch,
              deadline: slow)
          }
        }
        var failures: [LinkFailure] = []
        for await one in group { failures += one }
        return failures
      }
      if !failures.isEmpty { return failures.sorted { $0.device < $1.device } }
      next = some.upperBound
    }
    return []
  }
}

extension WireError {
  /// The higher epoch a node has seen, when it refused for that.
  var staleEpoch: UInt64? {
    guard case .refused(_, let reason) = self, refusalCode == .staleEpoch else { return nil }
    return UInt64(reason.prefix { $0.isNumber })
  }
}
