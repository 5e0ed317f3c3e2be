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
    default: 99
    }
  }

  /// The case's name, also of one that came after this module was written.
  var name: String {
    let mirror = Mirror(reflecting: self)
    return mirror.children.first?.label ?? "\(self)"
  }

  /// One short line for traces and error messages.
  var summary: String {
    switch self {
    case .open(let path, let flags, _): "open \(path) flags 0o\(String(flags, radix: 8))"
    case .close(let descriptor): "close \(descriptor)"
    case .read(let descriptor, let into, let offset):
      "read \(descriptor) \(into.count) bytes at \(offset)"
    case .write(let descriptor, let from, let offset):
      "write \(descriptor) \(from.reduce(0) { $0 + $1.count }) bytes at \(offset)"
    case .synchronize(let descriptor, let dataOnly):
      "synchronize \(descriptor)\(dataOnly ? " data" : "")"
    case .allocate(let descriptor, let mode, let offset, let byteCount):
      "allocate \(descriptor) mode \(mode) \(byteCount) bytes at \(offset)"
    case .truncate(let descriptor, let byteCount): "truncate \(descriptor) to \(byteCount)"
    case .lock(let descriptor): "lock \(descriptor)"
    case .status(let path, _, _): "status \(path)"
    case .list(let path, _): "list \(path)"
    case .makeDirectory(let path, _): "makeDirectory \(path)"
    case .remove(let path, _): "remove \(path)"
    case .rename(let from, let to, _): "rename \(from) to \(to)"
    case .makeSymbolicLink(let path, _): "makeSymbolicLink \(path)"
    case .readSymbolicLink(let path, _): "readSymbolicLink \(path)"
    case .setAttributes(let path, _, _): "setAttributes \(path)"
    case .space(let path, _): "space \(path)"
    case .listen(let address, _, _): "listen \(address)"
    case .accept(let descriptor, _): "accept \(descriptor)"
    case .connect(let address): "connect \(address)"
    case .receive(let descriptor, let into, let waitForAll):
      "receive \(descriptor) \(waitForAll ? "all of " : "")\(into.count) bytes"
    case .send(let descriptor, let from):
      "send \(descriptor) \(from.reduce(0) { $0 + $1.count }) bytes"
    case .shutdown(let descriptor): "shutdown \(descriptor)"
    case .sleep(let duration): "sleep \(duration)"
    default: name
    }
  }
}
