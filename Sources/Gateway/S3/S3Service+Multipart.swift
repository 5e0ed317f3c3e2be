extension S3Service {
  func createUpload(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func putPart(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func copyPart(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func completeUpload(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func abortUpload(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func listParts(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
  func listUploads(_ call: Call) async throws(S3Error) { throw S3Error(.notImplemented) }
}
