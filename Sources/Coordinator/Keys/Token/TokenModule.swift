internal import CPKCS11
import Glibc

/// A PKCS#11 module: a library of somebody else's that speaks with tokens. It stays loaded until the process ends.
///
/// Blocks. Its calls may hang, and what they answer is not believed: counts are clamped to the room they were given.
/// Confined to the driver's `offload(within:)`, like all that uses it.
final class TokenModule: @unchecked Sendable {
  private let list: UnsafeMutablePointer<ck_function_list>
  private var isInitialized = false
  /// Rises when all sessions have ended: a number of an old one may then be another's.
  private(set) var generation = 0

  /// - Parameter path: absolute, so that no search path matters.
  /// - Throws: ``TokenError/unusable(_:)``.
  fileprivate init(loading path: String) throws(TokenError) {
    guard let library = dlopen(path, RTLD_NOW | RTLD_LOCAL) else {
      throw .unusable(
        "the PKCS#11 module cannot be loaded: \(dlerror().map { String(cString: $0) } ?? path)")
    }
    guard let entry = dlsym(library, "C_GetFunctionList") else {
      throw .unusable("\(path) is no PKCS#11 module: it has no C_GetFunctionList")
    }
    // Sound as far as the module is one: the standard says what is behind this name (PKCS#11 v2.40, 5.4).
    let getList = unsafeBitCast(entry, to: CK_C_GetFunctionList.self)
    var found: UnsafeMutablePointer<ck_function_list>?
    guard getList(&found) == UInt(CKR_OK), let found,
      (2...3).contains(found.pointee.version.major)
    else { throw .unusable("\(path) is no PKCS#11 module of version 2 or 3") }
    list = found
  }

  var functions: ck_function_list { list.pointee }
  fileprivate func isSame(_ other: TokenModule) -> Bool { list == other.list }

  func initialize() throws(TokenError) {
    if isInitialized { return }
    var arguments = ck_c_initialize_args()
    arguments.flags = UInt(CKF_OS_LOCKING_OK)
    let code = list.pointee.C_Initialize?(&arguments)
    if code != UInt(CKR_CRYPTOKI_ALREADY_INITIALIZED) {
      try TokenError.check(code, "C_Initialize")
    }
    isInitialized = true
  }

  /// Ends all sessions. Many modules look only at the next start for tokens that have come.
  func finalize() {
    generation += 1
    isInitialized = false
    _ = list.pointee.C_Finalize?(nil)
  }

  // MARK: Tokens

  /// The slot whose token has that label and serial number, where they are given.
  func slot(_ wanted: TokenName) throws(TokenError) -> UInt {
    var matching: [UInt] = []
    for slot in try slots() {
      var info = ck_token_info()
      guard functions.C_GetTokenInfo?(slot, &info) == UInt(CKR_OK) else { continue }
      let label = withUnsafeBytes(of: info.label) { Self.unpadded($0) }
      let serial = withUnsafeBytes(of: info.serial_number) { Self.unpadded($0) }
      if wanted.label.map({ Array($0.utf8) == label }) ?? true,
        wanted.serial.map({ Array($0.utf8) == serial }) ?? true
      {
        matching.append(slot)
      }
    }
    guard let first = matching.first else { throw .noSuchToken("\(wanted)") }
    guard matching.count == 1 else {
      throw .unusable(
        "\(matching.count) PKCS#11 tokens are called so: \(wanted); give its 'serial'")
    }
    return first
  }

  private static let slotLimit = 4096

  private func slots() throws(TokenError) -> [UInt] {
    var count: UInt = 0
    try TokenError.check(functions.C_GetSlotList?(1, nil, &count), "C_GetSlotList")
    // One more may have come in between.
    var slots = [UInt](repeating: 0, count: Int(min(count, UInt(Self.slotLimit))) + 8)
    count = UInt(slots.count)
    try TokenError.check(functions.C_GetSlotList?(1, &slots, &count), "C_GetSlotList")
    return Array(slots.prefix(Int(min(count, UInt(slots.count)))))
  }

  /// Fields have a fixed size, with spaces at the end.
  private static func unpadded(_ field: UnsafeRawBufferPointer) -> [UInt8] {
    var bytes = Array(field)
    while bytes.last == 32 || bytes.last == 0 { bytes.removeLast() }
    return bytes
  }
}

/// Modules that were loaded, each once: all who use one share its sessions' end. Confined as they are.
final class TokenModules: @unchecked Sendable {
  private var loaded: [TokenModule] = []

  func module(_ path: String) throws(TokenError) -> TokenModule {
    let module = try TokenModule(loading: path)
    if let known = loaded.first(where: { $0.isSame(module) }) { return known }
    loaded.append(module)
    return module
  }
}

/// What a token is called: by one of both at least.
package struct TokenName: Sendable, CustomStringConvertible {
  package var label: String?
  package var serial: String?

  package init(label: String?, serial: String?) {
    self.label = label
    self.serial = serial
  }

  package var description: String {
    let names = [label.map { "'\($0)'" }, serial.map { "with serial number '\($0)'" }]
    return "token " + names.compactMap { $0 }.joined(separator: " ")
  }
}
