import Messages
import Ring

/// What one `put` is to make.
struct PutPlan: Sendable {
  var items: [PutItem] = []
  /// Things that were there when their folder was listed and gone a moment later; each was named.
  var lostCount = 0

  fileprivate mutating func lose(_ path: String, _ error: RingError, _ context: Context) async {
    lostCount += 1
    await context.output.error(line(.failed(error.reason, path)))
  }
}

/// Turns the operands of `put` into the list of objects to make, before anything is stored: what cannot be
/// read or named is refused here.
///
/// With `-r`, `SRC` makes `p/<path below SRC>`; several sources make `p/<last name of SRC>/…`, as cp does.
func planPut(sources: [String], target: Location, recursive: Bool, _ context: Context)
  async throws(Failure) -> PutPlan
{
  var plan = PutPlan()
  let intoFolder = target.key.isEmpty || endsInSlash(target.key)
  if sources.count > 1 && !recursive && !intoFolder {
    throw .usage("several sources need a target that ends in a slash: \(target.text)")
  }
  for source in sources {
    if source == "-" {
      if sources.count > 1 { throw .usage("standard input cannot be one of several sources") }
      try Location.checkKey(target.key, shown: target.text)
      plan.items.append(
        PutItem(
          source: .standardInput, key: target.key, shown: target.text,
          attributes: ObjectAttributes(), byteCount: 0))
      continue
    }
    let path = withoutTrailingSlashes(source)
    let status: FileStatus
    do throws(RingError) {
      status = try await context.driver.status(
        path, followLinks: !recursive || endsInSlash(source))
    } catch {
      throw .failed(error.reason, source)
    }
    let lastName = lastComponent(of: path)
    if status.kind == .directory {
      guard recursive else { throw .failed("is a directory (use put -r)", source) }
      var base = target.key
      if sources.count > 1 { base = joined(base, lastName) }
      if !base.isEmpty && !endsInSlash(base) { base += "/" }
      if !base.isEmpty {
        try Location.checkKey(base, shown: target.text)
        plan.items.append(directoryItem(key: base, path: path, status))
      }
      try await walk(path, base: base, context, into: &plan)
    } else {
      let key =
        intoFolder || sources.count > 1 ? joined(target.key, lastName) : target.key
      try Location.checkKey(key, shown: target.text)
      plan.items.append(try await leafItem(key: key, path: path, status, context))
    }
  }
  if sources.count > 1 {
    // One would replace the other, whichever was stored last. Folders merge.
    var taken: Set<[UInt8]> = []
    for item in plan.items where item.source != .directory {
      if !taken.insert(Array(item.key.utf8)).inserted {
        throw .failed("another source makes the same key \(item.key)", item.shown)
      }
    }
  }
  return plan
}

private func walk(_ root: String, base: String, _ context: Context, into plan: inout PutPlan)
  async throws(Failure)
{
  var pending = [(path: root, prefix: base)]
  while let (folder, prefix) = pending.popLast() {
    if Task.isCancelled { throw .failed("cancelled", root) }
    let entries: [DirectoryEntry]
    do throws(RingError) {
      entries = try await context.driver.list(folder, withStatus: true)
    } catch {
      guard error.errno == Errno.noEntry, folder.utf8.count != root.utf8.count else {
        throw .failed(error.reason, folder)
      }
      await plan.lose(folder, error, context)
      continue
    }
    for entry in entries {
      if Task.isCancelled { throw .failed("cancelled", root) }
      let name = PathText.string(entry.name)
      let path = folder == "/" ? "/" + name : folder + "/" + name
      let key = prefix + name
      let status: FileStatus
      do throws(RingError) {
        // Mostly known by the listing; where not, this says why.
        status =
          if let known = entry.status { known } else {
            try await context.driver.status(path, followLinks: false)
          }
      } catch {
        guard error.errno == Errno.noEntry else { throw .failed(error.reason, path) }
        await plan.lose(path, error, context)
        continue
      }
      switch status.kind {
      case .directory:
        if let rule = Location.brokenRule(key: key + "/") { throw .failed(rule, path) }
        plan.items.append(directoryItem(key: key + "/", path: path, status))
        pending.append((path, key + "/"))
      case .file, .symbolicLink:
        if let rule = Location.brokenRule(key: key) { throw .failed(rule, path) }
        plan.items.append(try await leafItem(key: key, path: path, status, context))
      case .other:
        await context.output.error("cairn: left out, neither file, link nor directory: \(path)")
      }
    }
  }
}

private func directoryItem(key: String, path: String, _ status: FileStatus) -> PutItem {
  PutItem(
    source: .directory, key: key, shown: path,
    attributes: ObjectAttributes(
      kind: .directory, mode: status.mode, sourceModified: status.modified), byteCount: 0)
}

private func leafItem(key: String, path: String, _ status: FileStatus, _ context: Context)
  async throws(Failure) -> PutItem
{
  switch status.kind {
  case .file:
    return PutItem(
      source: .file(path: path), key: key, shown: path,
      attributes: ObjectAttributes(
        kind: .file, mode: status.mode, sourceModified: status.modified),
      byteCount: status.byteCount)
  case .symbolicLink:
    let outcome = Outcome<[UInt8]>()
    do throws(RingError) {
      try await context.driver.perform(.readSymbolicLink(path: path, outcome), "readlink", path)
    } catch {
      throw .failed(error.reason, path)
    }
    let target = outcome.value ?? []
    return PutItem(
      source: .link(target: target), key: key, shown: path,
      attributes: ObjectAttributes(kind: .symbolicLink, sourceModified: status.modified),
      byteCount: UInt64(target.count))
  case .directory, .other:
    throw .failed("neither file nor link", path)
  }
}
