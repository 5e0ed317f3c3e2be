// What the parts of Ring cost, one at a time, for choosing among them. `ring-measure` without words tells what it takes.
// Each line ends with CPU time an operation: of this process's thread, the kernel's work on it included. Rates on a shared
// machine mean little; run variants in turn and compare medians.
import Glibc
import Ring
import Wire

func cpuNanoseconds() -> Int {
  var time = timespec()
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

func wallNanoseconds() -> Int {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return time.tv_sec * 1_000_000_000 + time.tv_nsec
}

struct Words {
  var values: [String: String] = [:]
  var mode = ""
  init(_ arguments: [String]) {
    mode = arguments.first ?? ""
    for word in arguments.dropFirst() {
      let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
      values[parts[0]] = parts.count > 1 ? parts[1] : "1"
    }
  }
  func text(_ name: String, _ otherwise: String) -> String { values[name] ?? otherwise }
  func number(_ name: String, _ otherwise: Int) -> Int {
    values[name].flatMap { Int($0) } ?? otherwise
  }
  func flag(_ name: String) -> Bool { values[name] != nil }
}

let words = Words(Array(CommandLine.arguments.dropFirst()))

var options = EventLoop.Options()
if words.flag("plain") { options.usesPlainSetup = true }
if words.flag("no-files") { options.features.remove(.registeredFiles) }
if words.flag("no-provided") { options.features.remove(.providedBuffers) }
if words.flag("no-multishot") { options.features.remove(.multishotAccept) }
if words.flag("no-buffers") { options.features.remove(.registeredBuffers) }

/// xorshift, so that drawing places costs nothing beside reading them.
struct Places {
  private var state: UInt64 = 0x9E37_79B9_7F4A_7C15
  let count: UInt64
  init(_ count: UInt64) { self.count = count }
  mutating func next() -> UInt64 {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return state % count
  }
}

func report(_ name: String, _ count: Int, _ wall: Int, _ cpu: Int, _ more: String = "") {
  let count = max(count, 1)
  print(
    "\(name): \(count * 1_000_000_000 / max(wall, 1)) a second, \(cpu / count) ns CPU each\(more)")
}

final class Shared: @unchecked Sendable {
  var places: Places
  var count = 0
  var latencies: [Int] = []
  init(_ places: Places) { self.places = places }
}

/// 4 KiB random reads of a file at a depth, by tasks or by a queue.
func transfers(_ driver: any Driver) async {
  let path = words.text("file", "/var/tmp/ring-measure")
  let isWrite = words.flag("write")
  let depth = words.number("depth", 64)
  let size = words.number("bs", 4096)
  let span = words.number("ms", 2000)
  var flags = isWrite ? O_RDWR : O_RDONLY
  if !words.flag("buffered") { flags |= O_DIRECT }
  let file = try! await File.open(path, flags, on: driver)
  let outcome = Outcome<FileStatus>()
  _ = await driver.submit(.status(path: path, followLinks: true, outcome))
  let places = Places(outcome.value!.byteCount / UInt64(size))
  let shared = Shared(places)
  let end = wallNanoseconds() + span * 1_000_000
  let start = (wallNanoseconds(), cpuNanoseconds())
  if words.flag("queue") {
    let queue = TransferQueue(driver: driver, depth: depth)
    let slices = (0..<depth).map { _ in driver.buffers.slice(size) }
    func begin(_ tag: Int) {
      let offset = shared.places.next() * UInt64(size)
      if isWrite {
        queue.write(tag, file.descriptor, from: slices[tag], at: offset)
      } else {
        queue.read(tag, file.descriptor, into: slices[tag], at: offset)
      }
    }
    for tag in 0..<depth { begin(tag) }
    while wallNanoseconds() < end {
      await queue.wait()
      while let (tag, result) = queue.next() {
        precondition(result == size)
        shared.count += 1
        begin(tag)
      }
    }
    await queue.wait(for: depth)
  } else {
    await withTaskGroup { group in
      for _ in 0..<depth {
        group.addTask {
          let slice = driver.buffers.slice(size)
          while wallNanoseconds() < end {
            let offset = shared.places.next() * UInt64(size)
            let result = await driver.submit(
              isWrite
                ? .write(descriptor: file.descriptor, from: [slice], offset: offset)
                : .read(descriptor: file.descriptor, into: slice, offset: offset))
            precondition(result == size)
            shared.count += 1
          }
        }
      }
    }
  }
  report(
    "\(isWrite ? "write" : "read") \(size) depth \(depth)", shared.count,
    wallNanoseconds() - start.0, cpuNanoseconds() - start.1)
  await file.close()
}

/// Small durable appends, one after the other: write and sync apart, or one behind the other in the kernel, in turn.
func appends(_ driver: any Driver) async {
  let path = words.text("file", "/var/tmp/ring-measure-appends")
  let size = words.number("bs", 8192)
  let count = words.number("count", 1000)
  let file = try! await File.open(path, O_RDWR | O_CREAT | O_DIRECT, on: driver)
  try! await file.allocate(offset: 0, byteCount: UInt64(count * size))
  try! await file.synchronize(dataOnly: false)
  let slice = driver.buffers.slice(size)
  var times: [[Int]] = [[], []]
  var cpu = [0, 0]
  for index in 0..<count {
    let way = Int(driver.random() & 1)
    let start = (wallNanoseconds(), cpuNanoseconds())
    if way == 0 {
      try! await file.write([slice], at: UInt64(index * size))
      try! await file.synchronize()
    } else {
      try! await file.writeDurably([slice], at: UInt64(index * size))
    }
    times[way].append(wallNanoseconds() - start.0)
    cpu[way] += cpuNanoseconds() - start.1
  }
  for (way, name) in ["apart", "linked"].enumerated() {
    let sorted = times[way].sorted()
    func at(_ percent: Int) -> Int { sorted[sorted.count * percent / 100] / 1000 }
    print(
      "\(name): \(sorted.count) appends, us: p5 \(at(5)) p25 \(at(25)) median \(at(50)) p90 \(at(90))"
        + " mean \(sorted.reduce(0, +) / sorted.count / 1000), \(cpu[way] / sorted.count) ns CPU each"
    )
  }
  await file.close()
  try! await driver.remove(path)
}

func residentKiB() -> Int {
  let file = fopen("/proc/self/status", "r")!
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 256)
  while fgets(&line, 256, file) != nil {
    let words = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
      .split(whereSeparator: { " \t\n".contains($0) })
    if words.first == "RssAnon:" { return Int(words[1])! }
  }
  return 0
}

let key = ClusterKey(secret: [UInt8](repeating: 7, count: ClusterKey.byteCount))
let security: TransportSecurity = words.flag("tls") ? .always : .never

/// Tells what `count` connections cost, from the moment before the first to some seconds after the last.
func idleServer(_ driver: any Driver) async {
  let count = words.number("count", 5000)
  var limits = ServerLimits()
  limits.connectionCount = count + 10
  let server = WireServer(
    driver: driver, key: key, name: "server", security: security, limits: limits
  ) { (_, request, _) async throws(Refusal) in request }
  _ = try! await server.start(
    on: SocketAddress(host: "127.0.0.1", port: UInt16(words.number("port", 7999))))
  // What the first ones alone make is no part of the rest.
  while server.currentStatistics.openConnections < 10 { await driver.sleep(.milliseconds(10)) }
  await driver.sleep(.seconds(1))
  let before = residentKiB()
  while server.currentStatistics.openConnections < count { await driver.sleep(.milliseconds(10)) }
  for pause in [1, 12] {
    await driver.sleep(.seconds(pause))
    let kib = residentKiB() - before
    print("\(count) idle connections: \(kib * 1024 / (count - 10)) bytes each")
  }
  exit(0)
}

func idleClients(_ driver: any Driver) async {
  let count = words.number("count", 5000)
  let address = SocketAddress(host: "127.0.0.1", port: UInt16(words.number("port", 7999)))
  var clients: [WireClient] = []
  for number in 0..<count {
    let client = WireClient(driver: driver, key: key, name: "c\(number)", security: security)
    _ = try! await client.call(
      address, method: 1, Packet(message: [1, 2, 3]), deadline: .seconds(20))
    clients.append(client)
    if number == 9 { await driver.sleep(.seconds(3)) }
  }
  await driver.sleep(.seconds(60))
  exit(0)
}

/// Calls of one connection, client and server in one thread.
func calls(_ driver: any Driver) async {
  let size = words.number("bs", 0)
  let lanes = words.number("lanes", 16)
  let connections = words.number("connections", 1)
  let server = WireServer(driver: driver, key: key, name: "server", security: security) {
    (_, _, _) async throws(Refusal) in Packet(message: [7])
  }
  let address = try! await server.start(on: SocketAddress(host: "127.0.0.1", port: 0))
  let clients = (0..<connections).map {
    WireClient(driver: driver, key: key, name: "c\($0)", security: security)
  }
  let packet = Packet(
    message: [UInt8](repeating: 1, count: 32), body: size > 0 ? [driver.buffers.slice(size)] : [])
  let shared = Shared(Places(1))
  let end = wallNanoseconds() + words.number("ms", 2000) * 1_000_000
  let start = (wallNanoseconds(), cpuNanoseconds())
  await withTaskGroup { group in
    for lane in 0..<lanes {
      group.addTask {
        while wallNanoseconds() < end {
          _ = try! await clients[lane % connections].call(
            address, method: 1, packet, deadline: .seconds(10))
          shared.count += 1
        }
      }
    }
  }
  report(
    "calls of \(size) bytes, \(lanes) lanes, \(connections) connections", shared.count,
    wallNanoseconds() - start.0, cpuNanoseconds() - start.1)
  for client in clients { await client.close() }
  await server.stop()
}

switch words.mode {
case "transfers": try EventLoop.run(options, transfers)
case "appends": try EventLoop.run(options, appends)
case "idle-server": try EventLoop.run(options, idleServer)
case "idle-clients": try EventLoop.run(options, idleClients)
case "calls": try EventLoop.run(options, calls)
default:
  print(
    """
    transfers file=PATH [queue] [write] [buffered] [depth=64] [bs=4096] [ms=2000]
    appends file=PATH [bs=8192] [count=1000]
    calls [bs=0] [lanes=16] [connections=1] [ms=2000] [tls]
    idle-server [count=5000] [port=7999] [tls], and beside it idle-clients of the same count and port
    each with [plain] [no-provided] [no-multishot] [no-files] [no-buffers]
    """)
}
