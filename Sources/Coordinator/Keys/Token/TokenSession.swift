internal import CPKCS11
import Coding
import Glibc

/// A user's session on a PKCS#11 token: finds keys by label, and has the token seal and open with them. Confined as its
/// module is.
struct TokenSession {
  private let module: TokenModule
  private let slot: UInt
  private let handle: UInt
  private let generation: Int

  /// Opens a session and logs in.
  ///
  /// - Throws: also when the token does not offer AES-GCM.
  init(on slot: UInt, of module: TokenModule, pin: [UInt8]) throws(TokenError) {
    var info = ck_mechanism_info()
    try TokenError.check(
      module.functions.C_GetMechanismInfo?(slot, UInt(CKM_AES_GCM), &info), "C_GetMechanismInfo")
    guard info.flags & UInt(CKF_ENCRYPT) != 0, info.flags & UInt(CKF_DECRYPT) != 0 else {
      throw .refused(UInt(CKR_MECHANISM_INVALID), call: "C_GetMechanismInfo")
    }
    var handle: UInt = 0
    try TokenError.check(
      module.functions.C_OpenSession?(slot, UInt(CKF_SERIAL_SESSION), nil, nil, &handle),
      "C_OpenSession")
    self.module = module
    self.slot = slot
    self.handle = handle
    generation = module.generation
    do throws(TokenError) {
      try logIn(pin)
    } catch {
      close()
      throw error
    }
  }

  /// False: it has ended, and its number says nothing.
  var isOpen: Bool { generation == module.generation }

  func close() {
    if isOpen { _ = module.functions.C_CloseSession?(handle) }
  }

  private func logIn(_ pin: [UInt8]) throws(TokenError) {
    let placed = Placed(pin)
    defer { placed.free() }
    let code = module.functions.C_Login?(handle, UInt(CKU_USER), placed.base, UInt(pin.count))
    switch code {
    // The user is logged in on a token, not in a session.
    case UInt(CKR_USER_ALREADY_LOGGED_IN): break
    case UInt(CKR_PIN_INCORRECT), UInt(CKR_PIN_INVALID), UInt(CKR_PIN_LEN_RANGE): throw .wrongPIN
    default: try TokenError.check(code, Self.login)
    }
  }

  // MARK: Keys

  /// The one AES-256 key of that label.
  func key(named label: String) throws(TokenError) -> UInt {
    let placed = Placed(Array(label.utf8))
    defer { placed.free() }
    var kind = UInt(CKO_SECRET_KEY)
    var found = [UInt](repeating: 0, count: 2)
    var count: UInt = 0
    let code = withUnsafeMutablePointer(to: &kind) { kind in
      var wanted = [
        ck_attribute(
          type: UInt(CKA_CLASS), value: kind, value_len: UInt(MemoryLayout<UInt>.size)),
        ck_attribute(
          type: UInt(CKA_LABEL), value: placed.base, value_len: UInt(placed.count)),
      ]
      return module.functions.C_FindObjectsInit?(handle, &wanted, UInt(wanted.count))
    }
    try TokenError.check(code, "C_FindObjectsInit")
    let finding = module.functions.C_FindObjects?(handle, &found, UInt(found.count), &count)
    let ending = module.functions.C_FindObjectsFinal?(handle)
    try TokenError.check(finding, "C_FindObjects")
    try TokenError.check(ending, "C_FindObjectsFinal")
    guard count > 0 else { throw .noSuchKey(label) }
    guard count == 1 else { throw .unusable("the PKCS#11 token has two keys called '\(label)'") }
    guard try attribute(UInt(CKA_KEY_TYPE), of: found[0]) == UInt(CKK_AES),
      try attribute(UInt(CKA_VALUE_LEN), of: found[0]) == UInt(AES256GCM.keyByteCount)
    else { throw .unusable("the PKCS#11 token's key '\(label)' is not one for AES-256") }
    return found[0]
  }

  private func attribute(_ type: UInt, of object: UInt) throws(TokenError) -> UInt {
    var value: UInt = 0
    let code = withUnsafeMutablePointer(to: &value) { value in
      var wanted = ck_attribute(
        type: type, value: value, value_len: UInt(MemoryLayout<UInt>.size))
      return module.functions.C_GetAttributeValue?(handle, object, &wanted, 1)
    }
    try TokenError.check(code, "C_GetAttributeValue")
    return value
  }

  // MARK: Sealing

  /// - Parameter nonce: 12 random bytes; a token that makes its own uses that.
  /// - Returns: as ``SealedSecret`` has it: the nonce, the secret encrypted, the tag.
  func seal(_ secret: [UInt8], key: UInt, nonce: [UInt8], binding: [UInt8]) throws(TokenError)
    -> [UInt8]
  {
    let iv = Placed(nonce)
    let plain = Placed(secret)
    let wanted = secret.count + AES256GCM.tagByteCount
    let out = Placed(room: wanted + Self.spareRoom)
    defer {
      iv.free()
      plain.free()
      out.free()
    }
    var count = UInt(out.count)
    try withMechanism(iv, binding) { (mechanism) throws(TokenError) in
      try TokenError.check(
        module.functions.C_EncryptInit?(handle, mechanism, key), "C_EncryptInit")
      try TokenError.check(
        module.functions.C_Encrypt?(
          handle, plain.base, UInt(plain.count), out.base, &count), "C_Encrypt")
    }
    guard count == UInt(wanted) else {
      throw .unusable("the PKCS#11 token's AES-GCM gives \(count) bytes where \(wanted) are due")
    }
    return iv.bytes(nonce.count) + out.bytes(wanted)
  }

  /// - Throws: ``TokenError/notAuthentic`` also for bytes that no key has sealed.
  func open(_ sealed: [UInt8], key: UInt, binding: [UInt8]) throws(TokenError) -> [UInt8] {
    guard sealed.count > SealedSecret.overhead else { throw .notAuthentic }
    let iv = Placed(Array(sealed.prefix(AES256GCM.nonceByteCount)))
    let body = Placed(Array(sealed.dropFirst(AES256GCM.nonceByteCount)))
    let out = Placed(room: body.count + Self.spareRoom)
    defer {
      iv.free()
      body.free()
      out.free()
    }
    var count = UInt(out.count)
    try withMechanism(iv, binding) { (mechanism) throws(TokenError) in
      try TokenError.check(
        module.functions.C_DecryptInit?(handle, mechanism, key), "C_DecryptInit")
      let code = module.functions.C_Decrypt?(
        handle, body.base, UInt(body.count), out.base, &count)
      switch code {
      case UInt(CKR_ENCRYPTED_DATA_INVALID), UInt(CKR_ENCRYPTED_DATA_LEN_RANGE),
        Self.aeadDecryptFailed:
        throw .notAuthentic
      default: try TokenError.check(code, Self.decryption)
      }
    }
    guard count == UInt(sealed.count - SealedSecret.overhead) else { throw .notAuthentic }
    return out.bytes(Int(count))
  }

  static let login = "C_Login"
  /// Of that call some modules say of a wrong tag just that it has failed.
  static let decryption = "C_Decrypt"
  /// CKR_AEAD_DECRYPT_FAILED of version 3.
  private static let aeadDecryptFailed: UInt = 0x42
  /// Some modules want more room than they use.
  private static let spareRoom = 64

  private func withMechanism(
    _ iv: Placed, _ binding: [UInt8],
    _ body: (UnsafeMutablePointer<ck_mechanism>) throws(TokenError) -> Void
  ) throws(TokenError) {
    let additional = Placed(binding)
    defer { additional.free() }
    var parameters = ck_gcm_params(
      iv_ptr: iv.base, iv_len: UInt(iv.count), iv_bits: UInt(iv.count * 8),
      aad_ptr: additional.base, aad_len: UInt(additional.count),
      tag_bits: UInt(AES256GCM.tagByteCount * 8))
    try withUnsafeMutablePointer(to: &parameters) { (parameters) throws(TokenError) in
      var mechanism = ck_mechanism(
        mechanism: UInt(CKM_AES_GCM), parameter: parameters,
        parameter_len: UInt(MemoryLayout<ck_gcm_params>.size))
      try withUnsafeMutablePointer(to: &mechanism) { (mechanism) throws(TokenError) in
        try body(mechanism)
      }
    }
  }
}

/// Bytes where C can find them from one call to the next; wiped when given back.
private struct Placed {
  let base: UnsafeMutablePointer<UInt8>
  let count: Int

  init(_ bytes: [UInt8]) {
    self.init(room: bytes.count)
    base.update(from: bytes, count: bytes.count)
  }
  init(room: Int) {
    count = room
    base = .allocate(capacity: max(1, room))
    base.initialize(repeating: 0, count: max(1, room))
  }
  func bytes(_ count: Int) -> [UInt8] {
    Array(UnsafeBufferPointer(start: base, count: min(count, self.count)))
  }
  func free() {
    explicit_bzero(base, max(1, count))
    base.deallocate()
  }
}
