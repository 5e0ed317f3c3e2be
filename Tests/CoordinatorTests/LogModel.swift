import Cluster
import Coding
import Messages
import Metadata
import Ring
import Simulation
import Wire

@testable import Coordinator

/// Devices as dictionaries, called without a wire in between, so that a test can afford thousands of take-overs.
/// Every call takes a random time before and after its effect; a device that is down answers nothing useful.
final class ModelDevices: @unchecked Sendable {
  // Loop-confined.
  struct Device {
    var isUp = true
    var highestEpoch: UInt64 = 0
    var blocks: [BlockKey: (bytes: [UInt8], layout: StripeLayout, acknowledged: UInt64)] = [:]
  }
  var devices: [DeviceID: Device] = [:]
  var random: SimulationRandom
  /// How much longer than usual a device may take, now and then.
  var lag = Duration.milliseconds(3)

  init(_ count: Int, random: SimulationRandom) {
    self.random = random
    for index in 1...count { devices[DeviceID(UInt64(index))] = Device() }
  }

  var ids: [DeviceID] { devices.keys.sorted() }

  /// As the root and the table see them: one node to a device.
  func domains() -> [RootRecord.Domain] {
    ids.map {
      RootRecord.Domain(
        node: NodeID($0.raw), name: "n\($0.raw)",
        address: SocketAddress(host: "n\($0.raw)", port: 7000), devices: [$0])
    }
  }

  func delay() -> Duration {
    let longest = random.chance(1, in: 6) ? lag : .microseconds(300)
    return .nanoseconds(random.within(.zero...longest))
  }
}

/// One leader's way to the devices, on its own process.
final class ModelPort: NodePort, @unchecked Sendable {
  // Loop-confined.
  let process: SimulatedProcess
  let harness: SimulatedProcess
  let devices: ModelDevices

  init(_ process: SimulatedProcess, _ devices: ModelDevices, harness: SimulatedProcess) {
    self.process = process
    self.harness = harness
    self.devices = devices
  }

  /// The effect happens once the request has travelled, even when its sender has died since.
  private func call<Value: Sendable>(
    _ device: DeviceID,
    _ effect: @escaping @Sendable (inout ModelDevices.Device) -> Result<Value, WireError>
  ) async -> Result<Value, WireError> {
    if Task.isCancelled { return .failure(.cancelled) }
    // A request that has left reaches the device whatever becomes of the leader.
    let there = devices.delay()
    let back = devices.delay()
    let answer = Promise<Result<Value, WireError>>()
    let world = harness
    world.spawn("device") { [devices] in
      await world.sleep(there)
      guard devices.devices[device]!.isUp else {
        await world.sleep(back)
        return answer.fulfil(.failure(.unreachable("down")))
      }
      let result = effect(&devices.devices[device]!)
      await world.sleep(back)
      answer.fulfil(result)
    }
    let result = await answer.get()
    guard process.isAlive else { return .failure(.cancelled) }
    return result
  }

  private static func check(_ device: inout ModelDevices.Device, _ epoch: UInt64) -> WireError? {
    guard epoch >= device.highestEpoch else {
      return .refused(
        code: RefusalCode.staleEpoch.rawValue, reason: "\(device.highestEpoch)")
    }
    device.highestEpoch = epoch
    return nil
  }

  func holdLease(_ request: HoldLease, at address: SocketAddress, deadline: Duration) async
    -> Result<HoldLease.Answer, WireError>
  {
    .failure(.unreachable("no arbiter here"))
  }

  private func shard(_ link: LogContainer, _ index: Int) -> ShardKey {
    ShardKey(container: link.container, generation: link.generation, shardIndex: UInt8(index))
  }

  func write(
    _ link: LogContainer, stripe: UInt64, bytes: [UInt8], acknowledged: UInt64, epoch: UInt64,
    deadline: Duration
  ) async -> [LinkFailure] {
    let layout = StripeLayout.smallest(for: bytes.count, scheme: link.scheme)
    return await withTaskGroup(of: LinkFailure?.self) { group in
      for (index, device) in link.devices.enumerated() {
        let key = BlockKey(shard: shard(link, index), stripe: stripe)
        group.addTask { [self] in
          let result = await call(device) { device -> Result<Bool, WireError> in
            if let stale = Self.check(&device, epoch) { return .failure(stale) }
            if let known = device.blocks[key], known.bytes != bytes {
              return .failure(.refused(code: RefusalCode.blockExists.rawValue, reason: ""))
            }
            device.blocks[key] = device.blocks[key] ?? (bytes, layout, acknowledged)
            return .success(true)
          }
          guard case .failure(let error) = result else { return nil }
          return LinkFailure(device: device, error: error)
        }
      }
      var failures: [LinkFailure] = []
      for await case let failure? in group { failures.append(failure) }
      return failures.sorted { $0.device < $1.device }
    }
  }

  func read(_ link: LogContainer, stripe: UInt64, layout: StripeLayout) async
    -> Result<[UInt8], LinkReadError>
  {
    var silent: [DeviceID] = []
    for (index, device) in link.devices.enumerated() {
      let key = BlockKey(shard: shard(link, index), stripe: stripe)
      let result = await call(device) { device -> Result<[UInt8]?, WireError> in
        .success(device.blocks[key]?.bytes)
      }
      switch result {
      case .success(let bytes?): return .success(bytes)
      case .success(nil): break
      case .failure: silent.append(device)
      }
    }
    return .failure(silent.isEmpty ? .lost("gone") : .unreachable(silent))
  }

  func fence(_ link: LogContainer, shard index: Int, epoch: UInt64, deadline: Duration) async
    -> Result<ShardListing, WireError>
  {
    let shard = shard(link, index)
    return await call(link.devices[index]) { device in
      if let stale = Self.check(&device, epoch) { return .failure(stale) }
      return .success(Self.listing(shard, device))
    }
  }

  func list(_ link: LogContainer, shard index: Int, deadline: Duration) async
    -> Result<ShardListing, WireError>
  {
    let shard = shard(link, index)
    return await call(link.devices[index]) { .success(Self.listing(shard, $0)) }
  }

  private static func listing(_ shard: ShardKey, _ device: ModelDevices.Device) -> ShardListing {
    let blocks = device.blocks.filter { $0.key.shard == shard }.sorted { $0.key < $1.key }
    return ShardListing(
      shard: shard,
      blocks: blocks.map {
        ShardListing.Entry(
          stripe: $0.key.stripe, layout: $0.value.layout, acknowledged: $0.value.acknowledged)
      })
  }
}

/// The root as one value that all see at once; who acquires last holds it.
final class ModelRegister: @unchecked Sendable {
  // Loop-confined.
  var root: RootRecord
  var holder = 0
  var epoch: UInt64 = 0
  init(_ root: RootRecord) { self.root = root }
}

final class ModelArbiter: Arbiter, @unchecked Sendable {
  // Loop-confined.
  let register: ModelRegister
  let number: Int
  let epoch: UInt64
  private let loss = Promise<ArbiterError>()
  /// A leader that does not notice that its lease is over: what it does must be harmless all the same.
  var isBlind = false

  init(_ register: ModelRegister) {
    self.register = register
    register.holder += 1
    register.epoch += 1
    number = register.holder
    epoch = register.epoch
  }
  func acquire() async throws(ArbiterError) -> Term { Term(epoch: epoch, root: register.root) }
  var isHeld: Bool { !loss.isFulfilled && (isBlind || register.holder == number) }
  func waitForLoss() async -> ArbiterError {
    isHeld ? await loss.get() : loss.isFulfilled ? await loss.get() : .expired
  }
  func lose(_ reason: ArbiterError) { loss.fulfil(reason) }
  var root: RootRecord? { register.root }
  func swap(in epoch: UInt64, _ edit: (RootRecord?) -> RootRecord) async throws(ArbiterError)
    -> RootRecord
  {
    guard register.holder == number else {
      lose(.deposed(epoch: register.epoch))
      throw .deposed(epoch: register.epoch)
    }
    var next = edit(register.root)
    next.version = register.root.version + 1
    next.epoch = epoch
    register.root = next
    return next
  }
  func release() async { lose(.stopped) }
  var detail: String { "" }
}
