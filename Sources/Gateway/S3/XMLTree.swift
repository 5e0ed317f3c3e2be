internal import CExpat

/// An element of a small XML document that a client sent. Namespaces are read over, attributes too.
final class XMLTree {
  let name: String
  private(set) var children: [XMLTree] = []
  private(set) var text = ""

  fileprivate init(_ name: String) { self.name = name }

  func all(_ name: String) -> [XMLTree] { children.filter { $0.name == name } }
  /// The text of the only element of this name; nil when there is none or several.
  func value(_ name: String) -> String? {
    let found = all(name)
    return found.count == 1 && found[0].children.isEmpty ? found[0].text : nil
  }

  struct Malformed: Error {}

  /// Reads a document, strictly: no document type (so no entities of its own), at most 16 levels, UTF-8.
  ///
  /// - Parameters:
  ///   - root: what the outermost element must be called.
  ///   - elementLimit: how many there may be, so that a body of a few megabytes does not become a hundred times as much.
  static func read(_ bytes: [UInt8], root: String, elementLimit: Int = 1000) throws(Malformed)
    -> XMLTree
  {
    guard let parser = XML_ParserCreate("UTF-8") else {
      preconditionFailure("no memory for an XML parser")
    }
    defer { XML_ParserFree(parser) }
    let reading = Reading(parser, elementLimit: elementLimit)
    return try withExtendedLifetime(reading) { () throws(Malformed) -> XMLTree in
      XML_SetUserData(parser, Unmanaged.passUnretained(reading).toOpaque())
      XML_SetElementHandler(
        parser, { user, name, _ in Reading.of(user)?.start(name) },
        { user, _ in Reading.of(user)?.end() })
      XML_SetCharacterDataHandler(parser) { Reading.of($0)?.text($1, Int($2)) }
      XML_SetStartDoctypeDeclHandler(parser) { user, _, _, _, _ in Reading.of(user)?.fail() }
      let status = bytes.withUnsafeBufferPointer { buffer in
        buffer.withMemoryRebound(to: CChar.self) {
          XML_Parse(parser, $0.baseAddress, Int32(clamping: $0.count), 1)
        }
      }
      guard status == XML_STATUS_OK, !reading.hasFailed, let tree = reading.root, tree.name == root
      else { throw Malformed() }
      return tree
    }
  }

  private final class Reading {
    private let parser: XML_Parser
    private var open: [XMLTree] = []
    private(set) var root: XMLTree?
    private(set) var hasFailed = false
    private static let depthLimit = 16
    private var elementsLeft: Int

    init(_ parser: XML_Parser, elementLimit: Int) {
      self.parser = parser
      elementsLeft = elementLimit
    }

    static func of(_ user: UnsafeMutableRawPointer?) -> Reading? {
      user.map { Unmanaged<Reading>.fromOpaque($0).takeUnretainedValue() }
    }

    func start(_ name: UnsafePointer<CChar>?) {
      guard let name, open.count < Self.depthLimit, elementsLeft > 0 else { return fail() }
      elementsLeft -= 1
      let full = String(cString: name)
      let local = full.utf8.lastIndex(of: UInt8(ascii: ":")).map {
        String(full[full.utf8.index(after: $0)...])
      }
      let element = XMLTree(local ?? full)
      if let parent = open.last { parent.children.append(element) } else { root = element }
      open.append(element)
    }
    func end() { _ = open.popLast() }
    func text(_ bytes: UnsafePointer<CChar>?, _ count: Int) {
      guard let bytes, let element = open.last else { return }
      bytes.withMemoryRebound(to: UInt8.self, capacity: count) {
        element.text += String(
          decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self)
      }
    }
    func fail() {
      hasFailed = true
      XML_StopParser(parser, 0)
    }
  }
}
