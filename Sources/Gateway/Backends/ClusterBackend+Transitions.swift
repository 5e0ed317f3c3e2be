import DataPath
import Messages

/// Storage classes, and versions that go from one to another.
extension ClusterBackend {
  func nextTransitions(_ worker: UInt64, limit: UInt32) async throws(DataPathError)
    -> NextTransitions.Answer
  {
    try await access.coordinator.query(NextTransitions(worker: worker, limit: limit))
  }

  /// One beside those that clients' objects are stored with.
  func writer(_ options: ObjectWriter.Options) -> ObjectWriter {
    ObjectWriter(access, options: options)
  }
}

/// Storage classes as a backend has them.
package protocol ClassBackend: AnyObject, Sendable {
  /// Names of the classes that there are.
  func storageClasses() async throws(BackendError) -> Set<String>
}

extension ClusterBackend: ClassBackend {
  package func storageClasses() async throws(BackendError) -> Set<String> {
    Set(try await ask(ListClasses(level: .strong)).classes.map(\.storageClass.name))
  }
}

/// Plain files are what they are.
extension FilesystemBackend: ClassBackend {
  package func storageClasses() async throws(BackendError) -> Set<String> { [] }
}
