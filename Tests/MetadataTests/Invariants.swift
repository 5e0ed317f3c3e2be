import Coding
import Metadata

/// What does not fit in a store; empty when all is well.
func violations(in store: any OrderedStore) throws -> [String] {
  try StateAudit.violations(in: store)
}

/// One digest of every key and value.
func digest(of store: any OrderedStore) throws -> Fingerprint { try StateAudit.digest(of: store) }
