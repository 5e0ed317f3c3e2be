import Glibc
import Ring
import TestSupport
import Testing

@Test("a task runs on the loop and its result comes out")
func runs() async {
  let result = await onLoop { driver in
    await driver.sleep(.milliseconds(1))
    await Task.yield()
    return 42
  }
  #expect(result == 42)
}
