package import DataPath
package import Messages

/// A multipart upload as clients name it.
package struct UploadName: Sendable, Equatable {
  package var name: ObjectName
  /// Letters and digits; of two of one key the later sorts after the other.
  package var id: String
  package init(_ name: ObjectName, id: String) {
    self.name = name
    self.id = id
  }
}

/// The parts of one upload, or some of them.
package struct PartPage: Sendable {
  package var description: MultipartDescription
  /// By number.
  package var parts: [ListParts.Part]
  package var isLast: Bool
}

package struct UploadListRequest: Sendable, Equatable {
  package var bucket: String
  package var prefix = ""
  /// Empty: no grouping.
  package var delimiter = ""
  /// Keys after this one, exclusive, by bytes.
  package var afterKey = ""
  /// Where it is not empty, also the uploads of `afterKey` that sort after this one.
  package var afterID = ""
  /// 0 ... 1,000, of uploads and prefixes together.
  package var limit = 1000
  package init(bucket: String) { self.bucket = bucket }
}

package struct UploadPage: Sendable {
  package struct Entry: Sendable {
    package var key: String
    package var id: String
    package var description: MultipartDescription
  }
  /// By key, then by id.
  package var entries: [Entry] = []
  /// Groups of keys up to the delimiter, ascending.
  package var prefixes: [String] = []
  package var isLast = true
}

/// Objects that come in parts. All throw `bucketNotFound`, and all that name an upload `uploadNotFound`.
package protocol PartBackend: AnyObject, Sendable {
  /// - Parameter owner: whoever began it, for listings.
  /// - Returns: the upload's id.
  func beginUpload(_ name: ObjectName, attributes: ObjectAttributes, owner: String)
    async throws(BackendError) -> String
  /// Stores one part, in the place of one put before under its number. Durable when this returns.
  ///
  /// - Parameter describe: what to keep with it; asked when the source has ended.
  func putPart(
    _ upload: UploadName, number: UInt32, source: any ByteSource,
    describe: @escaping @Sendable () async throws(DataPathError) -> PartWords
  ) async throws(BackendError)
  /// Makes bytes of an object a part. Moves none where the backend can spare it.
  ///
  /// - Throws: `changed` when `source` was replaced since it was found.
  func copyPart(
    _ upload: UploadName, number: UInt32, from source: FoundObject, range: Range<UInt64>,
    words: PartWords
  ) async throws(BackendError)
  /// - Parameters:
  ///   - after: parts with higher numbers.
  ///   - limit: 0 ... 1,000.
  func parts(_ upload: UploadName, after: UInt32, limit: Int) async throws(BackendError)
    -> PartPage
  /// Makes the parts one object, visible as a whole, and ends the upload.
  ///
  /// - Parameter parts: as ``parts(_:after:limit:)`` gave them, by number.
  /// - Throws: `partNotFound` when one is another by now; `invalidPartOrder`; `preconditionFailed`. The upload is then as before.
  func complete(
    _ upload: UploadName, parts: [ListParts.Part], attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion
  func abort(_ upload: UploadName) async throws(BackendError)
  func uploads(_ request: UploadListRequest) async throws(BackendError) -> UploadPage
  /// Where one of the parts is that an object was completed from.
  ///
  /// - Parameters:
  ///   - ordinal: from 1.
  ///   - partCount: of the object.
  /// - Throws: `changed`; `invalidRange` when there is no such part.
  func part(_ object: FoundObject, ordinal: UInt32, partCount: UInt32) async throws(BackendError)
    -> Range<UInt64>
}
