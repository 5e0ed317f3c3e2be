import Glibc
import Ring
import Service
import Simulation
import TestSupport
import Testing

@Test("a record is one line with its time, level and fields")
func line() throws {
  let text = try SimulatedWorld.run(seed: 1) { world in
    let driver = world.process("node")
    let log = try await Log.open("/log", on: driver)
    log.info("node started", ["address": "127.0.0.1:7000", "devices": 4])
    log.debug("not shown", ["cost": 1])
    log.warning("odd", ["text": "a \"b\"\nc\\", "empty": "", "sign": "a=b"])
    log.error("line\nbreak \u{1B}[0m")
    await log.flush()
    return String(decoding: try await driver.readFile("/log"), as: UTF8.self)
  }
  let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
  #expect(lines.count == 4 && lines[3] == "")
  #expect(lines[0].hasPrefix("2026-01-01T00:00:0"))
  #expect(lines[0].dropFirst(24) == " INFO node started address=127.0.0.1:7000 devices=4")
  #expect(
    lines[1].dropFirst(24) == #" WARNING odd text="a \"b\"\nc\\" empty="" sign="a=b""#)
  #expect(lines[2].dropFirst(24) == #" ERROR line\nbreak \x1b[0m"#)
}

@Test("records stay in order, and a flood is bounded and told", arguments: Seed.several)
func flood(seed: Seed) throws {
  let text = try SimulatedWorld.run(seed: seed.value) { world in
    let driver = world.process("node")
    let log = try await Log.open("/log", level: .debug, on: driver)
    for index in 0..<(Log.recordLimit + 500) { log.debug("r", ["i": index]) }
    await log.flush()
    log.info("after")
    await log.flush()
    return String(decoding: try await driver.readFile("/log"), as: UTF8.self)
  }
  let events = text.split(separator: "\n").map { $0.dropFirst(25) }
  let expected =
    (0..<Log.recordLimit).map { "DEBUG r i=\($0)" }
    + ["WARNING log records were dropped count=500", "INFO after"]
  #expect(events.map(String.init) == expected)
}

@Test("without a file, records go to standard error")
func standardError() throws {
  let text = try SimulatedWorld.run(seed: 1) { world in
    let driver = world.process("node")
    let log = Log(driver: driver)
    log.info("here")
    await log.flush()
    return String(decoding: driver.consoleOutput, as: UTF8.self)
  }
  #expect(text.hasSuffix(" INFO here\n"))
}
