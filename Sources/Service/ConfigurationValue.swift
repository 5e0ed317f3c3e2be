package import Ring

/// A type that a configuration file can hold.
package protocol ConfigurationValue: Sendable {
  init(from source: ConfigurationSource) throws(ConfigurationError)
}

extension String: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    self = try source.string()
  }
}

extension Int: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    self = try source.integer()
  }
}

extension Bool: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    self = try source.boolean()
  }
}

extension Double: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    self = try source.number()
  }
}

extension ByteSize: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    guard let size = ByteSize(try source.stringOrInteger()) else {
      throw source.error("must be a size such as \"256MiB\"")
    }
    self = size
  }
}

extension Duration: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    guard let duration = Duration(text: try source.string()) else {
      throw source.error("must be a time such as \"5s\"")
    }
    self = duration
  }
}

extension SocketAddress: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    guard let address = SocketAddress(try source.string()) else {
      throw source.error("must be an address such as \"10.0.0.1:7000\"")
    }
    self = address
  }
}

extension Array: ConfigurationValue where Element: ConfigurationValue {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    self = []
    for element in try source.elements() { append(try Element(from: element)) }
  }
}

/// An enum of strings: `enum Mode: String, ConfigurationChoice { case fast, safe }`.
package protocol ConfigurationChoice: ConfigurationValue, CaseIterable, RawRepresentable
where RawValue == String {}

extension ConfigurationChoice {
  package init(from source: ConfigurationSource) throws(ConfigurationError) {
    guard let choice = Self(rawValue: try source.string()) else {
      let names = Self.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
      throw source.error("must be one of \(names)")
    }
    self = choice
  }
}
