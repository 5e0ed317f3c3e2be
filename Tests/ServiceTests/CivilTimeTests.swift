import Service
import TestSupport
import Testing

@Suite("moments in the calendar")
struct CivilTimeTests {
  @Test("each form reads back as it was written", arguments: Seed.several)
  func forms(seed: Seed) {
    var random = seed.generator
    for _ in 0..<2000 {
      let moment = Duration.seconds(
        Int64.random(in: -62_167_219_200...253_402_300_799, using: &random))
      let time = CivilTime(moment)
      #expect(time.sinceEpoch == moment)
      #expect(CivilTime(http: time.http) == time)
      #expect(CivilTime(basic: time.basic) == time)
    }
    #expect(CivilTime(.seconds(784_111_777)).http == "Sun, 06 Nov 1994 08:49:37 GMT")
    #expect(CivilTime(.seconds(1_369_353_600)).basic == "20130524T000000Z")
  }

  @Test("what is no moment is none")
  func refused() {
    for text in [
      "20130230T000000Z", "20131301T000000Z", "20130524T240000Z", "20130524T000000", "",
      "20130524t000000Z",
    ] {
      #expect(CivilTime(basic: text) == nil, "\(text)")
    }
    for text in [
      "Sun, 06 Nov 1994 08:49:37 UTC", "06 Nov 1994 08:49:37 GMT", "Sun, 6 Nov 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49 GMT",
    ] {
      #expect(CivilTime(http: text) == nil, "\(text)")
    }
  }
}
