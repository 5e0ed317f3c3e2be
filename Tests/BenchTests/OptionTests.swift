import Testing

@testable import Bench

@Suite("fio's words")
struct OptionTests {
  @Test(
    "sizes are binary, in either case, with or without a b",
    arguments: [
      ("512", 512), ("4k", 4096), ("4K", 4096), ("4kb", 4096), ("1m", 1 << 20), ("2g", 2 << 30),
      ("1T", 1 << 40),
    ] as [(String, UInt64)])
  func sizes(text: String, byteCount: UInt64) {
    #expect(FioText.byteCount(text) == byteCount)
  }

  @Test(
    "what is no size, or means two things, is none",
    arguments: ["", "k", "4x", "-1", "4kib", "4ki", "1.5m", "99999999999999999999", "20000000t"])
  func noSizes(text: String) { #expect(FioText.byteCount(text) == nil) }

  @Test("times are seconds unless they say more")
  func times() {
    #expect(FioText.duration("10") == .seconds(10))
    #expect(FioText.duration("10s") == .seconds(10))
    #expect(FioText.duration("500ms") == .milliseconds(500))
    #expect(FioText.duration("1m") == .seconds(60))
    #expect(FioText.duration("10y") == nil)
  }

  @Test("a value comes after an equals sign or in the next word")
  func bothForms() throws {
    let a = try request("raw --rw=randread --bs=8k --iodepth=64 --direct=1 --size=1g")
    let b = try request("raw --rw randread --bs 8k --iodepth 64 --direct --size 1g")
    for options in [a.jobs[0], b.jobs[0]] {
      #expect(options.pattern == .randread)
      #expect(options.readSizes == BlockSizes(8192))
      #expect(options.depth == 64)
      #expect(options.isDirect)
      #expect(options.byteCount == 1 << 30)
    }
    #expect(try !request("raw --direct 0 --size=1g").jobs[0].isDirect)
  }

  @Test("reads and writes may have sizes of their own")
  func pairs() throws {
    let both = try request("raw --rw=randrw --bs=4k,64k --rate=,1m --size=1g").jobs[0]
    #expect(both.readSizes == BlockSizes(4096))
    #expect(both.writeSizes == BlockSizes(65536))
    #expect(both.readRate == nil)
    #expect(both.writeRate == 1 << 20)
  }

  @Test("a split takes its percentages, and those without share what is left")
  func splits() {
    #expect(
      BlockSizes(split: "4k/60:64k/40")?.parts.map(\.percent) == [60, 40])
    #expect(BlockSizes(split: "4k/60:64k:1m")?.parts.map(\.percent) == [60, 20, 20])
    #expect(BlockSizes(split: "4k/60:64k/30") == nil)
    #expect(BlockSizes(split: "4k/60:64k/50") == nil)
    #expect(BlockSizes(split: "4k/x:64k") == nil)
    let split = BlockSizes(split: "4k/60:64k/40")!
    #expect((0..<100).count { split.pick($0) == 4096 } == 60)
  }

  @Test("options before the first name are for all jobs, those behind a name for that job")
  func names() throws {
    let found = try request("raw --bs=8k --size=1m --name=a --rw=write --name=b --bs=4k")
    #expect(found.jobs.map(\.name) == ["a", "b"])
    #expect(found.jobs.map(\.pattern) == [.write, .read])
    #expect(found.jobs.map(\.readSizes.largest) == [8192, 4096])
  }

  @Test(
    "what is wrong is refused by its name",
    arguments: [
      ("", "bench needs an engine"), ("disk --rw=read", "no such engine: disk"),
      ("raw --iodepht=4", "unknown option: --iodepht"), ("raw -x", "unknown option: -x"),
      ("raw --rw=sideways", "--rw takes read, write"), ("raw --bs", "option needs a value: --bs"),
      ("raw --iodepth=0", "--iodepth takes a number from 1"),
      ("raw --direct=2 --size=1m", "--direct takes 0 or 1: 2"),
      ("raw --ioengine=libaio", "--ioengine takes io_uring only"),
      ("raw --output-format=xml", "--output-format takes normal or json: xml"),
      ("raw --time_based --size=1m", "time_based needs a runtime"),
      ("raw --direct=1 --bs=1000 --size=1m", "multiples of 512"),
      ("raw --size=1k", "size is below that of one transfer"),
      (
        "raw --rw=randwrite --verify=crc32c --norandommap --size=1m",
        "verify writes each block once"
      ),
      ("store --filename=x --size=1m", "filename is for raw"),
      ("store --bs=1k --size=1m", "multiples of 4k"), ("store --bs=4k", "store needs a size"),
      ("node --bs=2m --size=8m", "at most 1m"), ("meta --bs=8k --size=1m", "at most 4k"),
      ("net --bs=4k", "net needs a runtime or a size"),
      ("net --protocol=wire --bs=4m --runtime=1", "at most 2m"),
      ("raw --config=x --size=1m", "config is for cluster and meta"),
      ("raw --nodes=3 --size=1m", "nodes is for cluster, meta and s3"),
      ("s3 --endpoint=http://a:1 --scheme=2+1 --size=1m", "nothing beside endpoint"),
      ("s3 --nodes=3 --endpoint=http://a:1 --size=1m", "nothing beside endpoint"),
      ("cluster --config=x --nodes=3 --size=1m", "nothing beside config"),
    ])
  func refused(words: String, reason: String) async {
    let found = await refusal { _ = try request(words) }
    #expect(found.contains(reason), "\(found)")
  }
}

@Suite("job files")
struct JobFileTests {
  @Test("sections are jobs, global is for those after it, the command line goes before both")
  func sections() throws {
    let text = """
      ; a comment
      [global]
      direct=1
      bs = 8k
      size=1g

      [first]
      rw=randread
      # another
      [second]
      stonewall
      rw=randwrite
      bs=64k
      [global]
      iodepth=32
      [third]
      """
    let line = try BenchCommandLine(["raw", "some.fio", "--iodepth", "4"])
    #expect(line.files == ["some.fio"])
    let found = try line.request(files: [(path: "some.fio", text: text)])
    #expect(found.jobs.map(\.name) == ["first", "second", "third"])
    #expect(found.jobs.map(\.pattern) == [.randread, .randwrite, .read])
    #expect(found.jobs.map(\.readSizes.largest) == [8192, 65536, 8192])
    #expect(found.jobs.allSatisfy { $0.isDirect && $0.depth == 4 })
    #expect(found.jobs.map(\.waitsForOthers) == [false, true, false])
    #expect(JobInstance.waves(of: found.jobs).map(\.count) == [1, 2])
  }

  @Test(
    "a mistake is named with its line",
    arguments: [
      ("[a]\nrw=read\nzonemode=zbd\n", "f:3: unknown key: zonemode"),
      ("[a]\nbs=4kib\n", "f:2: bs takes a size"),
      ("rw=read\n", "f:1: rw stands before any section"),
      ("[a\n", "f:1: a section is [NAME]"), ("[a]\nbs\n", "f:2: bs needs a value"),
      ("[global]\nbs=4k\n", "f: no job in it"), ("", "f: no job in it"),
    ])
  func mistakes(text: String, reason: String) async {
    let found = await refusal { _ = try JobFile(parsing: text, path: "f") }
    #expect(found.contains(reason), "\(found)")
  }
}
