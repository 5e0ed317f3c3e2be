internal import Cluster
internal import Coding
internal import Messages

/// The key schema: a family byte, then big-endian numbers, so that keys sort as their parts do.
/// docs/formats-metadata.md has it to the byte.
enum Key {
  enum Family: UInt8 {
    case state = 0x00
    case availableContainer = 0x61  // a
    case bucket = 0x62  // b
    case container = 0x63  // c
    case directory = 0x64  // d
    case containerEdge = 0x65  // e
    case fingerprint = 0x66  // f
    case pageEdge = 0x67  // g
    case pageName = 0x68  // h
    case endedGrant = 0x69  // i
    case rewrite = 0x6A  // j
    case doomedShard = 0x6B  // k
    case deviceContainer = 0x6C  // l
    case multipart = 0x6D  // m
    case node = 0x6E  // n
    case object = 0x6F  // o
    case page = 0x70  // p
    case pageInfo = 0x71  // q
    case grant = 0x72  // r
    case session = 0x73  // s
    case outcome = 0x74  // t
    case upload = 0x75  // u
    case version = 0x76  // v
    case held = 0x77  // w
    case trash = 0x78  // x
    case condemned = 0x79  // y
    case part = 0x7A  // z
    case storageClass = 0x41  // A
    case bucketSetting = 0x53  // S
    case nullVersion = 0x56  // V
    case user = 0x55  // U
    case bucketAccess = 0x57  // W
    case key = 0x4B  // K
  }

  static let state: [UInt8] = [Family.state.rawValue]

  static func family(_ family: Family) -> [UInt8] { [family.rawValue] }

  static func of(_ family: Family, _ first: UInt64) -> [UInt8] {
    build(family, 8) { $0.number(first) }
  }
  static func of(_ family: Family, _ first: UInt64, _ second: UInt64) -> [UInt8] {
    build(family, 16) {
      $0.number(first)
      $0.number(second)
    }
  }

  static func bucket(_ name: String) -> [UInt8] {
    build(.bucket, name.utf8.count) { $0.bytes.append(contentsOf: name.utf8) }
  }
  static func object(bucket: UInt64, key: some Collection<UInt8>) -> [UInt8] {
    build(.object, 8 + key.count) {
      $0.number(bucket)
      $0.bytes.append(contentsOf: key)
    }
  }
  static func storageClass(_ id: ClassID) -> [UInt8] {
    build(.storageClass, 2) { $0.number(id.raw) }
  }
  static func fingerprint(_ fingerprint: Fingerprint, in domain: ChunkDomain) -> [UInt8] {
    digest(.fingerprint, fingerprint, domain)
  }
  static func pageName(_ name: Fingerprint, in domain: ChunkDomain) -> [UInt8] {
    digest(.pageName, name, domain)
  }

  private static func digest(_ family: Family, _ digest: Fingerprint, _ domain: ChunkDomain)
    -> [UInt8]
  {
    build(family, 36) {
      $0.number(domain.raw)
      $0.number(digest.w0)
      $0.number(digest.w1)
      $0.number(digest.w2)
      $0.number(digest.w3)
    }
  }

  /// Edges kept at `target`: a container's raw id or a page's identity.
  static func edge(_ family: Family, target: UInt64, source: EdgeSource) -> [UInt8] {
    build(family, 17) {
      $0.number(target)
      $0.bytes.append(source.tag)
      $0.number(source.identity)
    }
  }
  /// An upload's edges to a container: one for each run of ordinals.
  static func uploadEdge(container: ContainerID, upload: UInt64, firstOrdinal: UInt64) -> [UInt8] {
    build(.containerEdge, 25) {
      $0.number(container.raw)
      $0.bytes.append(EdgeSource.upload(upload).tag)
      $0.number(upload)
      $0.number(firstOrdinal)
    }
  }
  /// What an upload holds: containers (tag 0) and pages (tag 1).
  static func held(upload: UInt64, container: ContainerID) -> [UInt8] {
    held(upload, 0, container.raw)
  }
  static func held(upload: UInt64, page: UInt64) -> [UInt8] { held(upload, 1, page) }
  private static func held(_ upload: UInt64, _ tag: UInt8, _ target: UInt64) -> [UInt8] {
    build(.held, 17) {
      $0.number(upload)
      $0.bytes.append(tag)
      $0.number(target)
    }
  }

  /// Containers of a domain with these devices, in this order, that may be granted.
  static func available(_ domain: ChunkDomain, scheme: Scheme, devices: [DeviceID]) -> [UInt8] {
    build(.availableContainer, 14 + devices.count * 8) {
      $0.number(domain.raw)
      $0.bytes.append(UInt8(scheme.k))
      $0.bytes.append(UInt8(scheme.m))
      for device in devices { $0.number(device.raw) }
    }
  }
  static func available(_ container: ContainerRecord) -> [UInt8] {
    available(container.domain, scheme: container.scheme, devices: container.devices)
      + bigEndian(container.id.raw)
  }

  static func doomed(_ doomed: DoomedShard) -> [UInt8] {
    build(.doomedShard, 25) {
      $0.number(doomed.device.raw)
      $0.number(doomed.shard.container.raw)
      $0.number(doomed.shard.generation)
      $0.number(doomed.shard.shardIndex)
    }
  }
  static func doomed(in key: [UInt8]) throws(StoreError) -> DoomedShard {
    guard key.count == 26 else { throw .corrupt("doomed shard key") }
    return DoomedShard(
      device: DeviceID(try number(in: key, at: 1)),
      shard: ShardKey(
        container: try container(in: key, at: 9), generation: try number(in: key, at: 17),
        shardIndex: key[25]))
  }

  /// Multipart uploads of a bucket by key, then by number: so that they sort as keys do, a byte 0 of a key is followed by FF and
  /// one by 00, the first byte of any number, ends it.
  static func multipart(_ row: MultipartRow) -> [UInt8] {
    multiparts(bucket: row.bucket, keyPrefix: row.key.utf8) + [0] + bigEndian(row.number)
  }
  /// What the rows of all keys begin with that begin so.
  static func multiparts(bucket: UInt64, keyPrefix: some Collection<UInt8>) -> [UInt8] {
    build(.multipart, 17 + keyPrefix.count) {
      $0.number(bucket)
      for byte in keyPrefix {
        $0.bytes.append(byte)
        if byte == 0 { $0.bytes.append(0xFF) }
      }
    }
  }
  static func multipart(in key: [UInt8]) throws(StoreError) -> MultipartRow {
    guard key.count >= 18, key[key.count - 9] == 0 else { throw .corrupt("multipart key") }
    var name: [UInt8] = []
    var index = 9
    while index < key.count - 9 {
      name.append(key[index])
      index += key[index] == 0 ? 2 : 1
    }
    return MultipartRow(
      bucket: try number(in: key, at: 1), key: String(decoding: name, as: UTF8.self),
      number: try number(in: key, at: key.count - 8))
  }
  static func part(_ multipart: UInt64, _ number: UInt32) -> [UInt8] {
    build(.part, 12) {
      $0.number(multipart)
      $0.number(number)
    }
  }
  static func partNumber(in key: [UInt8]) throws(StoreError) -> UInt32 {
    guard key.count == 13 else { throw .corrupt("part key") }
    return key[9...].reduce(0) { $0 << 8 | UInt32($1) }
  }

  static func trash(position: UInt64, index: UInt32) -> [UInt8] {
    build(.trash, 12) {
      $0.number(position)
      $0.number(index)
    }
  }

  private struct Builder {
    var bytes: [UInt8]
    mutating func number<Integer: FixedWidthInteger>(_ value: Integer) {
      withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }
  }
  private static func build(_ family: Family, _ size: Int, _ body: (inout Builder) -> Void)
    -> [UInt8]
  {
    var builder = Builder(bytes: [])
    builder.bytes.reserveCapacity(1 + size)
    builder.bytes.append(family.rawValue)
    body(&builder)
    return builder.bytes
  }
  static func bigEndian(_ value: UInt64) -> [UInt8] {
    withUnsafeBytes(of: value.bigEndian) { Array($0) }
  }

  /// The big-endian number at `offset` of a stored key.
  static func number(in key: [UInt8], at offset: Int) throws(StoreError) -> UInt64 {
    guard key.count >= offset + 8 else { throw .corrupt("short key") }
    var value: UInt64 = 0
    for byte in key[offset..<offset + 8] { value = value << 8 | UInt64(byte) }
    return value
  }
  /// The container whose raw id stands at `offset` of a stored key.
  static func container(in key: [UInt8], at offset: Int) throws(StoreError) -> ContainerID {
    try containerID(raw: number(in: key, at: offset))
  }
  static func containerID(raw: UInt64) throws(StoreError) -> ContainerID {
    guard let kind = ContainerKind(rawValue: UInt8(raw >> 56)) else {
      throw .corrupt("container kind")
    }
    return ContainerID(kind, raw & (1 << 56 - 1))
  }
}

/// What an edge comes from.
enum EdgeSource: Hashable, Comparable {
  case object(UInt64)
  case page(UInt64)
  case upload(UInt64)
  case part(UInt64)

  var tag: UInt8 {
    switch self {
    case .object: 0
    case .page: 1
    case .upload: 2
    // 3 is kept for containers.
    case .part: 4
    }
  }
  var identity: UInt64 {
    switch self {
    case .object(let identity), .page(let identity), .upload(let identity), .part(let identity):
      identity
    }
  }
}
