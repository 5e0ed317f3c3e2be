import Glibc
internal import Ring

extension RingOperation {
  /// A small number for each kind, for the event hash.
  var code: UInt64 {
    switch self {
    case .open: 1
    case .close: 2
    case .read: 3
    case .write: 4
    case .synchronize: 5
    case .allocate: 6
    case .truncate: 7
    case .lock: 8
    case .status: 9
    case .list: 10
    case .makeDirectory: 11
    case .remove: 12
    case .rename: 13
    case .makeSymbolicLink: 14
    case .readSymbolicLink: 15
    case .setAttributes: 16
    case .space: 17
    case .listen: 18
    case .accept: 19
    case .connect: 20
    case .receive: 21
    case .send: 22
    case .shutdown: 23
    case .sleep: 24
    case .fileSystem: 25
    case .receiveAny: 26
    case .writeDurably: 27
    case .fileStatus: 28
    default: 99
    }
  }

  /// The case's name, also of one that came after this module was written.
  var name: String {
    let mirror = Mirror(reflecting: self)
    return mirror.children.first?.label ?? "\(self)"
  }

  /// One short line for error messages.
  var summary: String { summary { "\($0)" } }

  /// - Parameter name: what to call a descriptor.
  func summary(_ name: (Int32) -> String) -> String {
    switch self {
    case .open(let path, let flags, _): "open \(path) flags 0o\(String(flags, radix: 8))"
    case .close(let descriptor): "close \(name(descriptor))"
    case .read(let descriptor, let into, let offset):
      "read \(name(descriptor)) \(into.count) bytes at \(offset)"
    case .write(let descriptor, let from, let offset):
      "write \(name(descriptor)) \(from.reduce(0) { $0 + $1.count }) bytes at \(offset)"
    case .writeDurably(let descriptor, let from, let offset):
      "writeDurably \(name(descriptor)) \(from.reduce(0) { $0 + $1.count }) bytes at \(offset)"
    case .synchronize(let descriptor, let dataOnly):
      "synchronize \(name(descriptor))\(dataOnly ? " data" : "")"
    case .allocate(let descriptor, let mode, let offset, let byteCount):
      "allocate \(name(descriptor)) mode \(mode) \(byteCount) bytes at \(offset)"
    case .truncate(let descriptor, let byteCount): "truncate \(name(descriptor)) to \(byteCount)"
    case .lock(let descriptor): "lock \(name(descriptor))"
    case .status(let path, _, _): "status \(path)"
    case .fileStatus(let descriptor, _): "status \(name(descriptor))"
    case .list(let path, _, _): "list \(path)"
    case .makeDirectory(let path, _): "makeDirectory \(path)"
    case .remove(let path, _): "remove \(path)"
    case .rename(let from, let to, _): "rename \(from) to \(to)"
    case .makeSymbolicLink(let path, _): "makeSymbolicLink \(path)"
    case .readSymbolicLink(let path, _): "readSymbolicLink \(path)"
    case .setAttributes(let path, _, _): "setAttributes \(path)"
    case .space(let path, _): "space \(path)"
    case .fileSystem(let path, _): "fileSystem \(path)"
    case .listen(let address, _, _): "listen \(address)"
    case .accept(let descriptor, _): "accept \(name(descriptor))"
    case .connect(let address): "connect \(address)"
    case .receive(let descriptor, let into, let waitForAll):
      "receive \(name(descriptor)) \(waitForAll ? "all of " : "")\(into.count) bytes"
    case .receiveAny(let descriptor, _): "receiveAny \(name(descriptor))"
    case .send(let descriptor, let from):
      "send \(name(descriptor)) \(from.reduce(0) { $0 + $1.count }) bytes"
    case .shutdown(let descriptor): "shutdown \(name(descriptor))"
    case .sleep(let duration): "sleep \(duration)"
    default: self.name
    }
  }
}

enum OperationText {
  /// A kernel's answer, with the errors one meets here by name.
  static func result(_ result: Int32) -> String {
    let known: [Int32: String] = [
      EIO: "EIO", ENOSPC: "ENOSPC", EROFS: "EROFS", ENOENT: "ENOENT", EEXIST: "EEXIST",
      EBADF: "EBADF", EINVAL: "EINVAL", ECANCELED: "ECANCELED", ECONNRESET: "ECONNRESET",
      ECONNREFUSED: "ECONNREFUSED", ETIMEDOUT: "ETIMEDOUT", EPIPE: "EPIPE",
      EHOSTUNREACH: "EHOSTUNREACH", EWOULDBLOCK: "EWOULDBLOCK", ENOSYS: "ENOSYS",
      ENOTDIR: "ENOTDIR", EISDIR: "EISDIR", ENOTEMPTY: "ENOTEMPTY", EADDRINUSE: "EADDRINUSE",
      ENOTCONN: "ENOTCONN",
    ]
    return result < 0 ? "-" + (known[-result] ?? "\(-result)") : "\(result)"
  }
}

extension SimulatedProcess {
  /// One short line, with paths and peers in the place of descriptors; of what goes to the console, the words.
  func describe(_ operation: RingOperation) -> String {
    if case .write(1...2, let slices, _) = operation {
      let text = String(decoding: slices.flatMap(\.array), as: UTF8.self)
      return "says \(text.split(separator: "\n").joined(separator: " | "))"
    }
    return operation.summary { descriptor in
      switch descriptors[descriptor] {
      case .file(let file): file.path
      case .listener(let listener): "port \(listener.port)"
      case .endpoint(let endpoint): "\(descriptor)/\(endpoint.peerHost)"
      case nil: "\(descriptor)"
      }
    }
  }
}
