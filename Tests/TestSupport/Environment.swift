import Glibc

/// An environment variable's text.
public func environment(_ name: String) -> String? {
  getenv(name).map { String(cString: $0) }
}
