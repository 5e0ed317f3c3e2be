import Messages

/// What S3 answers when it does not do what was asked.
package struct S3Error: Error, Equatable {
  package var code: Code
  package var message: String
  /// Further elements of the document.
  var details: [Detail] = []
  /// Further headers of the answer.
  var headers: [Detail] = []
  /// For the log alone: what clients are not told.
  var cause = ""
  struct Detail: Equatable {
    var name: String
    var value: String
  }

  package init(_ code: Code, _ message: String? = nil) {
    self.code = code
    self.message = message ?? code.usualMessage
  }

  func with(_ name: String, _ value: String) -> S3Error {
    var copy = self
    copy.details.append(Detail(name: name, value: value))
    return copy
  }

  func with(header name: String, _ value: String) -> S3Error {
    var copy = self
    copy.headers.append(Detail(name: name, value: value))
    return copy
  }

  /// Every code that the gateway answers with; docs/s3.md has the same table.
  package enum Code: String, Sendable, CaseIterable {
    case accessDenied = "AccessDenied"
    case accessForbidden = "AccessForbidden"
    case aclNotSupported = "AccessControlListNotSupported"
    case authorizationHeaderMalformed = "AuthorizationHeaderMalformed"
    case authorizationQueryParametersError = "AuthorizationQueryParametersError"
    case badDigest = "BadDigest"
    case badRequest = "BadRequest"
    case bucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou"
    case bucketNotEmpty = "BucketNotEmpty"
    case entityTooLarge = "EntityTooLarge"
    case entityTooSmall = "EntityTooSmall"
    case illegalVersioningConfiguration = "IllegalVersioningConfigurationException"
    case illegalLocationConstraint = "IllegalLocationConstraintException"
    case incompleteBody = "IncompleteBody"
    case invalidEncryptionAlgorithm = "InvalidEncryptionAlgorithmError"
    case kmsDisabled = "KMS.DisabledException"
    case kmsNotFound = "KMS.NotFoundException"
    case internalError = "InternalError"
    case invalidBucketACLWithOwnership = "InvalidBucketAclWithObjectOwnership"
    case invalidAccessKeyId = "InvalidAccessKeyId"
    case invalidArgument = "InvalidArgument"
    case invalidBucketName = "InvalidBucketName"
    case invalidBucketState = "InvalidBucketState"
    case invalidDigest = "InvalidDigest"
    case invalidPart = "InvalidPart"
    case invalidPartNumber = "InvalidPartNumber"
    case invalidPartOrder = "InvalidPartOrder"
    case invalidRange = "InvalidRange"
    case invalidRequest = "InvalidRequest"
    case invalidStorageClass = "InvalidStorageClass"
    case invalidTag = "InvalidTag"
    case invalidURI = "InvalidURI"
    case keyTooLong = "KeyTooLongError"
    case invalidPolicyDocument = "InvalidPolicyDocument"
    case malformedPOST = "MalformedPOSTRequest"
    case malformedPolicy = "MalformedPolicy"
    case maxPostPreDataLengthExceeded = "MaxPostPreDataLengthExceeded"
    case malformedTrailer = "MalformedTrailerError"
    case malformedXML = "MalformedXML"
    case metadataTooLarge = "MetadataTooLarge"
    case methodNotAllowed = "MethodNotAllowed"
    case missingContentLength = "MissingContentLength"
    case missingSecurityHeader = "MissingSecurityHeader"
    case noSuchBucket = "NoSuchBucket"
    case noSuchKey = "NoSuchKey"
    case noSuchUpload = "NoSuchUpload"
    case noSuchVersion = "NoSuchVersion"
    case notImplemented = "NotImplemented"
    /// Told by the status alone.
    case notModified = "NotModified"
    case preconditionFailed = "PreconditionFailed"
    case requestTimeTooSkewed = "RequestTimeTooSkewed"
    case serviceUnavailable = "ServiceUnavailable"
    case signatureDoesNotMatch = "SignatureDoesNotMatch"
    case slowDown = "SlowDown"
    case contentSHA256Mismatch = "XAmzContentSHA256Mismatch"
    // What a bucket does not have is told by a code of its own.
    case noSuchBucketPolicy = "NoSuchBucketPolicy"
    case noSuchCORSConfiguration = "NoSuchCORSConfiguration"
    case noSuchLifecycleConfiguration = "NoSuchLifecycleConfiguration"
    case noSuchObjectLockConfiguration = "NoSuchObjectLockConfiguration"
    case noSuchTagSet = "NoSuchTagSet"
    case noSuchWebsiteConfiguration = "NoSuchWebsiteConfiguration"
    case objectLockConfigurationNotFound = "ObjectLockConfigurationNotFoundError"
    case replicationConfigurationNotFound = "ReplicationConfigurationNotFoundError"
    case encryptionConfigurationNotFound = "ServerSideEncryptionConfigurationNotFoundError"
    case noSuchPublicAccessBlockConfiguration = "NoSuchPublicAccessBlockConfiguration"
    case ownershipControlsNotFound = "OwnershipControlsNotFoundError"

    package var status: Int {
      switch self {
      case .accessDenied, .accessForbidden, .invalidAccessKeyId, .requestTimeTooSkewed,
        .signatureDoesNotMatch:
        403
      case .notModified: 304
      case .noSuchBucket, .noSuchKey, .noSuchUpload, .noSuchVersion, .noSuchBucketPolicy,
        .noSuchCORSConfiguration, .noSuchLifecycleConfiguration, .noSuchTagSet,
        .noSuchObjectLockConfiguration,
        .noSuchWebsiteConfiguration, .objectLockConfigurationNotFound,
        .replicationConfigurationNotFound, .encryptionConfigurationNotFound,
        .noSuchPublicAccessBlockConfiguration, .ownershipControlsNotFound:
        404
      case .methodNotAllowed: 405
      case .bucketAlreadyOwnedByYou, .bucketNotEmpty, .invalidBucketState: 409
      case .missingContentLength: 411
      case .preconditionFailed: 412
      case .invalidRange, .invalidPartNumber: 416
      case .internalError: 500
      case .notImplemented: 501
      case .serviceUnavailable, .slowDown: 503
      default: 400
      }
    }

    var usualMessage: String {
      switch self {
      case .accessDenied, .accessForbidden: "Access Denied"
      case .aclNotSupported: "The bucket does not allow ACLs"
      case .authorizationHeaderMalformed: "The authorization header is malformed."
      case .authorizationQueryParametersError: "The authorization query parameters are not valid."
      case .badRequest: "Bad Request"
      case .badDigest:
        "The digest you specified did not match what we received."
      case .bucketAlreadyOwnedByYou:
        "Your previous request to create the named bucket succeeded and you already own it."
      case .bucketNotEmpty: "The bucket you tried to delete is not empty"
      case .entityTooLarge: "Your proposed upload exceeds the maximum allowed size"
      case .entityTooSmall: "Your proposed upload is smaller than the minimum allowed size"
      case .illegalLocationConstraint: "The specified location constraint is not valid here."
      case .incompleteBody:
        "You did not provide the number of bytes specified by the Content-Length HTTP header"
      case .internalError: "We encountered an internal error. Please try again."
      case .invalidEncryptionAlgorithm:
        "The encryption request you specified is not valid. The valid values are AES256 and aws:kms."
      case .kmsDisabled:
        "The key that this bucket is encrypted with cannot be had at the moment. Whoever runs the service finds the reason in its log."
      case .kmsNotFound: "The key that is named is not there."
      case .invalidBucketACLWithOwnership:
        "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
      case .invalidAccessKeyId:
        "The AWS Access Key Id you provided does not exist in our records."
      case .invalidArgument: "Invalid Argument"
      case .invalidBucketName: "The specified bucket is not valid."
      case .invalidBucketState:
        "The request is not valid with the current state of the bucket."
      case .invalidDigest: "The Content-MD5 you specified was invalid."
      case .invalidPart:
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
      case .invalidPartOrder:
        "The list of parts was not in ascending order. Parts must be ordered by part number."
      case .invalidPartNumber: "The requested partnumber is not satisfiable"
      case .invalidRange: "The requested range is not satisfiable"
      case .invalidRequest: "Invalid Request"
      case .invalidTag: "The tag provided was not a valid tag"
      case .illegalVersioningConfiguration:
        "The versioning configuration specified in the request is invalid."
      case .invalidStorageClass: "The storage class you specified is not valid"
      case .invalidURI: "Couldn't parse the specified URI."
      case .keyTooLong: "Your key is too long"
      case .invalidPolicyDocument:
        "The content of the form does not meet the conditions specified in the policy document."
      case .malformedPOST:
        "The body of your POST request is not well-formed multipart/form-data."
      case .malformedPolicy: "The policy is malformed."
      case .maxPostPreDataLengthExceeded:
        "Your POST request fields preceding the upload file were too large."
      case .malformedTrailer:
        "The request contained trailing data that was not well-formed or did not conform to our published schema."
      case .malformedXML:
        "The XML you provided was not well-formed or did not validate against our published schema"
      case .metadataTooLarge: "Your metadata headers exceed the maximum allowed metadata size"
      case .methodNotAllowed: "The specified method is not allowed against this resource."
      case .missingContentLength: "You must provide the Content-Length HTTP header."
      case .missingSecurityHeader: "Your request was missing a required header"
      case .noSuchBucket: "The specified bucket does not exist"
      case .noSuchKey: "The specified key does not exist."
      case .noSuchUpload:
        "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed."
      case .noSuchVersion: "The specified version does not exist."
      case .notImplemented:
        "A header or query you provided implies functionality that is not implemented"
      case .notModified: "Not Modified"
      case .preconditionFailed: "At least one of the pre-conditions you specified did not hold"
      case .requestTimeTooSkewed:
        "The difference between the request time and the current time is too large."
      case .serviceUnavailable, .slowDown: "Please reduce your request rate."
      case .signatureDoesNotMatch:
        "The request signature we calculated does not match the signature you provided. Check your key and signing method."
      case .contentSHA256Mismatch:
        "The provided 'x-amz-content-sha256' header does not match what was computed."
      case .noSuchBucketPolicy: "The bucket policy does not exist"
      case .noSuchCORSConfiguration: "The CORS configuration does not exist"
      case .noSuchLifecycleConfiguration: "The lifecycle configuration does not exist"
      case .noSuchTagSet: "The TagSet does not exist"
      case .noSuchObjectLockConfiguration:
        "The specified object does not have a ObjectLock configuration"
      case .noSuchWebsiteConfiguration:
        "The specified bucket does not have a website configuration"
      case .objectLockConfigurationNotFound:
        "Object Lock configuration does not exist for this bucket"
      case .replicationConfigurationNotFound: "The replication configuration was not found"
      case .encryptionConfigurationNotFound:
        "The server side encryption configuration was not found"
      case .noSuchPublicAccessBlockConfiguration:
        "The public access block configuration was not found"
      case .ownershipControlsNotFound: "The bucket ownership controls were not found"
      }
    }
  }

  func document(resource: String, requestID: String) -> [UInt8] {
    var xml = XMLText("Error", namespace: nil)
    xml.element("Code", code.rawValue)
    xml.element("Message", message)
    for detail in details { xml.element(detail.name, detail.value) }
    xml.element("Resource", resource)
    xml.element("RequestId", requestID)
    return xml.finish()
  }
}

extension S3Error {
  /// Labelled: both have cases of the same names, and the one of a code would never be meant.
  init(backend error: BackendError) {
    switch error {
    case .notFound: self.init(.noSuchKey)
    case .deleted(let marker):
      self = S3Error(.noSuchKey).with(header: "x-amz-delete-marker", "true")
        .with(header: "x-amz-version-id", marker.text ?? "null")
    case .versionNotFound: self.init(.noSuchVersion)
    case .isDeleteMarker:
      self = S3Error(.methodNotAllowed).with(header: "x-amz-delete-marker", "true")
        .with(header: "Allow", "DELETE")
    case .locked: self.init(.accessDenied, "Access Denied because object protected by object lock.")
    case .noLocks: self.init(.invalidRequest, "Bucket is missing Object Lock Configuration")
    case .bucketState(let reason): self.init(.invalidBucketState, reason)
    case .bucketNotFound: self.init(.noSuchBucket)
    case .bucketExists: self.init(.bucketAlreadyOwnedByYou)
    case .bucketNotEmpty: self.init(.bucketNotEmpty)
    case .invalidName(let reason): self.init(.invalidArgument, reason)
    case .invalidRange: self.init(.invalidRange)
    case .preconditionFailed: self.init(.preconditionFailed)
    case .changed: self.init(.slowDown, "The object was replaced while it was used. Try again.")
    case .uploadNotFound: self.init(.noSuchUpload)
    case .notImplemented: self.init(.notImplemented)
    case .partNotFound: self.init(.invalidPart)
    case .invalidPartOrder: self.init(.invalidPartOrder)
    case .userNotFound: self.init(.invalidAccessKeyId)
    case .keyDomainNotFound(let name): self = S3Encryption.noKey(name)
    case .keyUnavailable(let reason):
      self.init(.kmsDisabled)
      cause = reason
    case .unavailable(let reason): self.init(.serviceUnavailable, reason)
    case .quorumNotMet(let reason): self.init(.serviceUnavailable, reason)
    case .source(let reason): self.init(.serviceUnavailable, reason)
    case .sink(let reason), .failed(let reason): self.init(.internalError, reason)
    case .cancelled: self.init(.serviceUnavailable, "The gateway is stopping.")
    }
  }
}
