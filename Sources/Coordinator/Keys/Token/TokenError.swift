internal import CPKCS11

/// What went wrong between this process and a PKCS#11 token.
enum TokenError: Error, Equatable, Sendable {
  /// Why, for people.
  case unusable(String)
  /// Which, for people.
  case noSuchToken(String)
  case noSuchKey(String)
  case wrongPIN
  case notAuthentic
  /// What a module answered to a call.
  case refused(UInt, call: String)

  /// Whether a new session may do better. That a key is not there may be said of a token that is not there either.
  var mayBeOfTheSession: Bool {
    switch self {
    case .noSuchKey, .refused: true
    case .unusable, .noSuchToken, .wrongPIN, .notAuthentic: false
    }
  }

  func reason(token: String, pinFile: String) -> String {
    switch self {
    case .unusable(let why): why
    case .noSuchToken(let token): "there is no PKCS#11 \(token)"
    case .noSuchKey(let name): KeyProviderError.noSuchKey(name).description
    case .wrongPIN:
      "PKCS#11 \(token) refuses the PIN in \(pinFile), which is not tried again until it is another: tokens lock themselves"
    case .notAuthentic: "not what the key sealed"
    case .refused(let code, let call):
      "PKCS#11 \(token): \(Self.words(code) ?? "error 0x" + String(code, radix: 16)) (\(call))"
    }
  }

  /// What operators can do something about.
  private static func words(_ code: UInt) -> String? {
    switch code {
    case UInt(CKR_DEVICE_REMOVED), UInt(CKR_TOKEN_NOT_PRESENT), UInt(CKR_SLOT_ID_INVALID):
      "the token was taken away"
    case UInt(CKR_DEVICE_ERROR): "the device has failed"
    case UInt(CKR_DEVICE_MEMORY), UInt(CKR_HOST_MEMORY): "not enough memory"
    case UInt(CKR_GENERAL_ERROR), UInt(CKR_FUNCTION_FAILED): "the module has failed"
    case UInt(CKR_KEY_SIZE_RANGE), UInt(CKR_KEY_TYPE_INCONSISTENT): "the key is not for AES-256"
    case UInt(CKR_KEY_FUNCTION_NOT_PERMITTED): "the key may not encrypt, or not decrypt"
    case UInt(CKR_MECHANISM_INVALID): "AES-GCM is not offered"
    case UInt(CKR_MECHANISM_PARAM_INVALID):
      "AES-GCM with 12 bytes of nonce and 16 of tag is not offered"
    case UInt(CKR_PIN_LOCKED): "the PIN is locked, after too many wrong ones"
    case UInt(CKR_PIN_EXPIRED): "the PIN has expired"
    case UInt(CKR_USER_PIN_NOT_INITIALIZED): "the token has no user's PIN"
    case UInt(CKR_SESSION_COUNT): "the token has too many sessions"
    case UInt(CKR_SESSION_HANDLE_INVALID), UInt(CKR_SESSION_CLOSED): "the session was closed"
    case UInt(CKR_USER_NOT_LOGGED_IN): "the user was logged out"
    default: nil
    }
  }

  /// Nil: the module's list has no such function.
  static func check(_ code: UInt?, _ call: String) throws(TokenError) {
    guard let code else { throw .unusable("the PKCS#11 module has no \(call)") }
    guard code == UInt(CKR_OK) else { throw .refused(code, call: call) }
  }
}
