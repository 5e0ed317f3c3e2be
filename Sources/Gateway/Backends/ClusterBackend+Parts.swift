package import DataPath
package import Messages
import Ring

extension ClusterBackend: PartBackend {
  /// An upload's id is its number in the log, 16 digits of hexadecimal.
  private static func id(_ number: UInt64) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
  }
  private static func number(_ id: String) throws(BackendError) -> UInt64 {
    guard id.utf8.count == 16, id.utf8.allSatisfy({ $0 != UInt8(ascii: "+") }),
      let number = UInt64(id, radix: 16), Self.id(number) == id
    else { throw .uploadNotFound }
    return number
  }
  private static func multipart(_ upload: UploadName) throws(BackendError) -> MultipartName {
    MultipartName(upload.name, number: try number(upload.id))
  }

  package func beginUpload(_ name: ObjectName, attributes: ObjectAttributes, owner: String)
    async throws(BackendError) -> String
  {
    let outcome = try await change(
      .createMultipart(name: name, attributes: attributes, owner: owner, modified: 0))
    guard case .number(let number) = outcome else { throw .failed("answered \(outcome)") }
    return Self.id(number)
  }

  package func putPart(
    _ upload: UploadName, number: UInt32, source: any ByteSource,
    describe: @escaping @Sendable () async throws(DataPathError) -> PartWords
  ) async throws(BackendError) {
    let multipart = try Self.multipart(upload)
    _ = try await write { writer throws(DataPathError) in
      try await writer.putPart(multipart, number: number, source: source, describe: describe)
    }
  }

  package func copyPart(
    _ upload: UploadName, number: UInt32, from source: FoundObject, range: Range<UInt64>,
    words: PartWords
  ) async throws(BackendError) {
    let multipart = try Self.multipart(upload)
    _ = try await write { writer throws(DataPathError) in
      try await writer.copyPart(
        multipart, number: number, from: source.name, identity: source.version, range: range,
        words: words)
    }
  }

  package func parts(_ upload: UploadName, after: UInt32, limit: Int) async throws(BackendError)
    -> PartPage
  {
    let answer = try await ask(
      ListParts(
        level: .strong, multipart: try Self.multipart(upload), after: after,
        limit: UInt32(clamping: limit)))
    return PartPage(
      description: answer.description, parts: answer.parts, isLast: answer.isLast)
  }

  package func complete(
    _ upload: UploadName, parts: [ListParts.Part], attributes: ObjectAttributes,
    precondition: Precondition
  ) async throws(BackendError) -> MadeVersion {
    let multipart = try Self.multipart(upload)
    return try await write { writer throws(DataPathError) in
      try await writer.complete(
        multipart, parts: parts, attributes: attributes, precondition: precondition)
    }
  }

  package func abort(_ upload: UploadName) async throws(BackendError) {
    _ = try await change(.abortMultipart(try Self.multipart(upload)))
  }

  package func uploads(_ request: UploadListRequest) async throws(BackendError) -> UploadPage {
    // An id that is none sorts somewhere all the same: before all is as good as any place.
    var afterNumber: UInt64 = 0
    if !request.afterID.isEmpty {
      afterNumber = (try? Self.number(request.afterID)) ?? 1
    }
    let answer = try await ask(
      ListMultiparts(
        level: .strong, bucket: request.bucket, prefix: request.prefix,
        delimiter: request.delimiter, afterKey: request.afterKey,
        afterNumber: min(afterNumber, 1 << 55), limit: UInt32(clamping: request.limit)))
    return UploadPage(
      entries: answer.entries.map {
        UploadPage.Entry(key: $0.key, id: Self.id($0.number), description: $0.description)
      }, prefixes: answer.prefixes, isLast: answer.isLast)
  }

  package func part(_ object: FoundObject, ordinal: UInt32, partCount: UInt32)
    async throws(BackendError) -> Range<UInt64>
  {
    do throws(BackendError) {
      let answer = try await ask(
        FindPart(
          level: .strong, name: object.name, identity: object.version, ordinal: ordinal,
          partCount: partCount))
      let (end, overflow) = answer.first.addingReportingOverflow(answer.byteCount)
      guard !overflow, end <= object.byteCount else { throw BackendError.failed("part \(answer)") }
      return answer.first..<end
    } catch {
      // It was this version when it was found.
      throw error == .preconditionFailed ? .changed : error
    }
  }
}
