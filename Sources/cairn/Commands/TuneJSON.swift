import Service
import Tuning

extension TuneReport {
  /// What `cairn tune --json` prints.
  var json: JSON {
    var members: [(String, JSON)] = [
      ("path", .string(facts.path)), ("profile", .string(choice.profile.name)),
    ]
    members.append(("reasons", list(choice.reasons)))
    members.append(("disagreements", list(choice.disagreements)))
    members.append(("notes", list(fallbacks + notes)))
    members.append(("fileSystem", .string(facts.fileSystem)))
    members.append(("readOnly", .bool(facts.isReadOnly)))
    members.append(("free", .number(facts.freeByteCount)))
    members.append(("device", facts.device.map(json(of:)) ?? .null))
    members.append(("measured", figures.map(json(of:)) ?? .null))
    members.append(("values", .object(choice.profile.lines.map { ($0.key, value($0.value)) })))
    members.append(("system", .array(host.map(json(of:)))))
    return .object(members)
  }

  private func json(of device: BlockDevice) -> JSON {
    var members: [(String, JSON)] = [
      ("name", .string(device.name)), ("transport", .string(device.transport.rawValue)),
    ]
    members.append(("rotational", flag(device.isRotational)))
    members.append(("scheduler", text(device.scheduler)))
    members.append(("requests", count(device.requestCount)))
    members.append(("readAheadKiB", count(device.readAheadKiB)))
    members.append(("logicalBlock", count(device.logicalBlockByteCount)))
    members.append(("physicalBlock", count(device.physicalBlockByteCount)))
    members.append(("polling", flag(device.polls)))
    members.append(("writeCache", text(device.writeCache)))
    members.append(("dax", flag(device.isDAX)))
    members.append(("vendor", text(device.vendor)))
    members.append(("model", text(device.model)))
    members.append(("size", device.byteCount.map { .number($0) } ?? .null))
    members.append(("parts", .array(device.parts.map(json(of:)))))
    return .object(members)
  }

  private func json(of figures: DeviceFigures) -> JSON {
    var members: [(String, JSON)] = [
      ("direct", .bool(figures.isDirect)), ("seconds", .double(took / .seconds(1))),
    ]
    members.append(("scratchBytes", .number(figures.scratchByteCount)))
    members.append(("randomRead4KiB", latency(figures.randomRead)))
    members.append(("sequentialRead4KiB", latency(figures.sequentialRead)))
    members.append(("seekPenalty", number(figures.seekPenalty)))
    members.append(("randomReads4KiBPerSecondDepth32", number(figures.randomReadRate)))
    members.append(("reads1MiB", .array(figures.reads.map(json(of:)))))
    members.append(("writes1MiB", .array(figures.writes.map(json(of:)))))
    members.append(("syncAfter4KiB", latency(figures.smallSync)))
    members.append(("syncAfter1MiB", latency(figures.largeSync)))
    members.append(("directIO", flag(figures.hasDirectIO)))
    members.append(("fallocate", flag(figures.hasPreallocation)))
    members.append(("punching", flag(figures.hasPunching)))
    return .object(members)
  }

  private func json(of bandwidth: Bandwidth) -> JSON {
    .object([
      ("depth", .number(bandwidth.depth)), ("bytesPerSecond", .double(bandwidth.bytesPerSecond)),
    ])
  }

  private func json(of deviation: HostSettings.Deviation) -> JSON {
    .object([
      ("name", .string(deviation.name)), ("found", .string(deviation.found)),
      ("wanted", .string(deviation.wanted)), ("reason", .string(deviation.reason)),
    ])
  }

  private func latency(_ latency: Latency?) -> JSON {
    guard let latency else { return .null }
    return .object([
      ("medianMicroseconds", .double(latency.median / .microseconds(1))),
      ("p10Microseconds", .double(latency.quick / .microseconds(1))),
      ("p99Microseconds", .double(latency.tail / .microseconds(1))),
      ("count", .number(latency.count)),
    ])
  }

  private func list(_ values: [String]) -> JSON { .array(values.map { .string($0) }) }
  private func flag(_ value: Bool?) -> JSON { value.map { .bool($0) } ?? .null }
  private func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
  private func count(_ value: Int?) -> JSON { value.map { .number($0) } ?? .null }
  private func number(_ value: Double?) -> JSON { value.map { .double($0) } ?? .null }

  /// A value as TOML has it, which for what profiles hold is as JSON has it.
  private func value(_ text: String) -> JSON {
    if text == "true" || text == "false" { return .bool(text == "true") }
    if let number = UInt64(text) { return .number(number) }
    return .string(text.filter { $0 != "\"" })
  }
}
