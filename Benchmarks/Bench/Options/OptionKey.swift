/// One of fio's keys, or one of our own: `--KEY=VALUE` on the command line, `KEY=VALUE` in a job file.
package struct OptionKey: Sendable {
  package let name: String
  /// Other spellings of fio's.
  let aliases: [String]
  /// What its value is called in help; nil for one that is on or off.
  package let value: String?
  package let help: String
  /// Sets it, or says what it takes.
  let apply: @Sendable (inout JobOptions, String) -> Refusal?

  /// What a key takes, for the one who gave it something else.
  struct Refusal: Sendable {
    let takes: String
    init(_ takes: String) { self.takes = takes }
  }

  static func find(_ name: Substring) -> OptionKey? {
    all.first { $0.name == name || $0.aliases.contains(String(name)) }
  }

  private init(
    _ name: String, aliases: [String] = [], value: String, _ help: String,
    _ apply: @escaping @Sendable (inout JobOptions, String) -> Refusal?
  ) {
    self.name = name
    self.aliases = aliases
    self.value = value
    self.help = help
    self.apply = apply
  }

  /// A switch.
  private init(
    _ name: String, _ help: String,
    set: @escaping @Sendable (inout JobOptions, Bool) -> Void
  ) {
    self.name = name
    aliases = []
    value = nil
    self.help = help
    apply = { options, text in
      switch text {
      case "", "1": set(&options, true)
      case "0": set(&options, false)
      default: return Refusal("0 or 1")
      }
      return nil
    }
  }

  /// Keys in the order of the help.
  package static let all: [OptionKey] = [
    OptionKey("name", value: "NAME", "what the job is called; begins another job when given again")
    {
      guard !$1.isEmpty, !$1.contains("/") else { return Refusal("a name without a slash") }
      $0.name = $1
      return nil
    },
    OptionKey(
      "rw", aliases: ["readwrite"], value: "HOW",
      "read, write, randread, randwrite, rw or randrw (default: read)"
    ) {
      // fio's own second name.
      guard let pattern = JobOptions.Pattern(rawValue: $1 == "readwrite" ? "rw" : $1) else {
        return Refusal("read, write, randread, randwrite, rw or randrw")
      }
      $0.pattern = pattern
      return nil
    },
    OptionKey("rwmixread", value: "PERCENT", "of a mixed job's transfers, reads (default: 50)") {
      number($1, in: 0...100, &$0.readPercent)
    },
    OptionKey(
      "bs", aliases: ["blocksize"], value: "SIZE",
      "of a transfer; 'READ,WRITE' for one each (default: 4k)"
    ) {
      pair(&$0, $1, "a size from 1 to 1g, or two with a comma") { BlockSizes(size: $0) }
    },
    OptionKey(
      "bssplit", value: "SIZE/PERCENT:...", "several sizes; with a comma for reads and writes each"
    ) {
      pair(&$0, $1, "sizes and percentages that add up to 100, as in 4k/60:64k/40") {
        BlockSizes(split: $0)
      }
    },
    OptionKey("iodepth", value: "N", "transfers under way at once (default: 1)") {
      number($1, in: 1...65_536, &$0.depth)
    },
    OptionKey("numjobs", value: "N", "of this job, each on a loop of its own (default: 1)") {
      number($1, in: 1...256, &$0.jobCount)
    },
    OptionKey("size", value: "SIZE", "of the file, and what one pass moves") {
      guard let count = FioText.byteCount($1), count > 0, count <= 1 << 60 else {
        return Refusal("a size, as in 4g")
      }
      $0.byteCount = count
      return nil
    },
    OptionKey("offset", value: "SIZE", "where in the file the job's part begins (default: 0)") {
      guard let count = FioText.byteCount($1), count <= 1 << 60 else {
        return Refusal("a size, as in 4g")
      }
      $0.offset = count
      return nil
    },
    OptionKey("runtime", value: "TIME", "end after that time, in seconds unless it says more") {
      guard let time = FioText.duration($1) else { return Refusal("a time, as in 10, 500ms or 1m") }
      $0.runtime = time == .zero ? nil : time
      return nil
    },
    OptionKey("time_based", "start over until the runtime is over") { $0.isTimeBased = $1 },
    OptionKey("ramp_time", value: "TIME", "that runs first and is not counted") {
      guard let time = FioText.duration($1) else { return Refusal("a time, as in 10, 500ms or 1m") }
      $0.rampTime = time
      return nil
    },
    OptionKey("direct", "past the page cache (O_DIRECT)") { $0.isDirect = $1 },
    OptionKey("fsync", value: "N", "sync the file after every N writes; 0 for never") {
      number($1, in: 0...Int(Int32.max), &$0.syncEvery)
    },
    OptionKey("fdatasync", value: "N", "as fsync, with fdatasync") {
      number($1, in: 0...Int(Int32.max), &$0.dataSyncEvery)
    },
    OptionKey("rate", value: "SIZE", "bytes a second at most; 'READ,WRITE' for one each") {
      let parts = $1.split(separator: ",", omittingEmptySubsequences: false)
      let rates = parts.map { FioText.byteCount(String($0)) }
      guard (1...2).contains(rates.count), zip(parts, rates).allSatisfy({ $0 == "" || $1 ?? 0 > 0 })
      else { return Refusal("bytes a second, as in 100m, or two with a comma") }
      $0.readRate = rates[0]
      $0.writeRate = rates[rates.count - 1]
      return nil
    },
    OptionKey("verify", value: "HOW", "crc32c: check what is read; after writing, read it all back")
    {
      guard let how = JobOptions.Verification(rawValue: $1 == "none" ? "0" : $1) else {
        return Refusal("crc32c or 0")
      }
      $0.verification = how
      return nil
    },
    OptionKey("filename", value: "FILE", "the file or block device to use") {
      guard !$1.isEmpty else { return Refusal("a file's name") }
      $0.filename = $1
      return nil
    },
    OptionKey("directory", value: "DIR", "where the job's own files are made (default: .)") {
      guard !$1.isEmpty else { return Refusal("a directory's name") }
      $0.directory = $1
      return nil
    },
    OptionKey("unlink", "remove afterwards what bench made") { $0.unlinks = $1 },
    OptionKey("overwrite-existing-data", "write to a device, or to a file that holds data") {
      $0.overwritesExistingData = $1
    },
    OptionKey("norandommap", "draw each offset by itself, so that blocks may repeat") {
      $0.repeatsBlocks = $1
    },
    OptionKey("randseed", value: "N", "of offsets and contents (default: 1)") {
      guard let seed = UInt64($1) else { return Refusal("a number") }
      $0.randomSeed = seed
      return nil
    },
    OptionKey("group_reporting", "one report for all jobs") { $0.isGroupReported = $1 },
    OptionKey("stonewall", "begin when the jobs before this one have ended") {
      $0.waitsForOthers = $1
    },
    OptionKey("thread", "accepted: jobs are threads here") { _, _ in },
    OptionKey("ioengine", value: "NAME", "accepted when it is io_uring: there is no other here") {
      $1 == "io_uring"
        ? nil : Refusal("io_uring only; what is measured is chosen by bench's operand")
    },
    OptionKey("protocol", value: "NAME", "net: tcp (Ring alone) or wire (calls) (default: tcp)") {
      guard let how = JobOptions.NetProtocol(rawValue: $1) else { return Refusal("tcp or wire") }
      $0.netProtocol = how
      return nil
    },
    OptionKey("config", value: "FILE", "cluster, meta: a running cluster's client configuration") {
      guard !$1.isEmpty else { return Refusal("a file's name") }
      $0.configuration = $1
      return nil
    },
    OptionKey(
      "endpoint", value: "URL",
      "s3: a running gateway, http://HOST:PORT; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY sign"
    ) {
      guard $1.hasPrefix("http://"), $1.utf8.count > 7 else {
        return Refusal("an address such as http://127.0.0.1:9000")
      }
      $0.endpoint = $1
      return nil
    },
    OptionKey("scheme", value: "K+M", "cluster, meta, s3: of the temporary cluster (default: 1+0)")
    {
      guard $1.count <= 8, $1.contains("+") else { return Refusal("k+m, as in 4+2") }
      $0.scheme = $1
      return nil
    },
    OptionKey("nodes", value: "N", "cluster, meta, s3: of the temporary cluster (default: k+m)") {
      var count = 0
      if let refusal = number($1, in: 1...64, &count) { return refusal }
      $0.nodeCount = count
      return nil
    },
  ]

  private static func number(_ text: String, in range: ClosedRange<Int>, _ place: inout Int)
    -> Refusal?
  {
    guard let number = Int(text), range.contains(number) else {
      return Refusal("a number from \(range.lowerBound) to \(range.upperBound)")
    }
    place = number
    return nil
  }

  /// One value for both directions, or one each with a comma between; an empty one leaves its direction as it is.
  private static func pair(
    _ options: inout JobOptions, _ text: String, _ takes: String, _ read: (String) -> BlockSizes?
  ) -> Refusal? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    // fio's third is for trims, which there are none of.
    guard (1...2).contains(parts.count) else { return Refusal(takes) }
    var sizes: [BlockSizes?] = []
    for part in parts {
      if part.isEmpty && parts.count > 1 {
        sizes.append(nil)
        continue
      }
      guard let found = read(part) else { return Refusal(takes) }
      sizes.append(found)
    }
    if let first = sizes[0] { options.readSizes = first }
    if let last = sizes[sizes.count - 1] { options.writeSizes = last }
    return nil
  }
}
