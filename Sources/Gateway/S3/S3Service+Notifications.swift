import HTTP
import Messages
import Ring

/// Who is told of writes: a bucket's rules, and telling.
extension S3Service {
  func getNotifications(_ call: Call) async throws(S3Error) {
    guard let bucket = call.request.bucket else { throw S3Error(.invalidBucketName) }
    let found = try await ask { () async throws(BackendError) in
      try await self.backend.settings(bucket, [.notifications])
    }
    var none = XMLText("NotificationConfiguration")
    await call.answer(xml: found.first?.bytes ?? none.finish())
  }

  /// As S3 does, each target is asked to take a test event before anything is set.
  func putNotifications(_ call: Call) async throws(S3Error) {
    let request = call.request
    guard let bucket = request.bucket else { throw S3Error(.invalidBucketName) }
    let body = try await wholeBody(call, limit: NotificationRules.documentByteLimit)
    let wanted = try NotificationRules(document: body, region: configuration.region)
    try await requireBucket(request)
    let isSkipped =
      try request.header("x-amz-skip-destination-validation")?.lowercased() == "true"
    var asked: Set<String> = []
    for rule in wanted.rules {
      guard let target = notifier.target(rule.arn.name) else {
        throw NotificationARN.unknown(rule.arn.text)
      }
      guard !isSkipped, asked.insert(rule.arn.name).inserted else { continue }
      let test = NotificationEvent.test(
        bucket: bucket, requestID: call.requestID, host: configuration.name,
        time: driver.wallClock)
      if let reason = await target.test(test) {
        throw S3Error(
          .invalidArgument,
          "Unable to validate the following destination configurations: the webhook does not take events"
        ).with("ArgumentName", rule.arn.text).with("ArgumentValue", reason)
      }
    }
    try await set(.notifications, call, wanted.rules.isEmpty ? [] : wanted.document)
    await call.answer(200)
  }

  // MARK: Telling

  /// The rules of a bucket that something is about to be written to; nil: nobody is told. Asked for before, so that nothing is
  /// written that could not be told.
  func listeners(_ call: Call) async throws(S3Error) -> NotificationRules? {
    guard let bucket = call.request.bucket else { return nil }
    return try await ask { () async throws(BackendError) in
      try await self.notifier.rules(of: bucket)
    }
  }

  /// Returns when those that are to be told have it, as far as their queues go.
  func tell(_ event: NotificationEvent, _ listeners: NotificationRules?, _ call: Call) async {
    guard let listeners else { return }
    await notifier.tell(
      event, listeners,
      NotificationEvent.Origin(
        region: configuration.region, principal: call.context[ConditionKeys.userID] ?? "",
        peer: call.exchange.peer.host, requestID: call.requestID, host: configuration.name))
  }
}
