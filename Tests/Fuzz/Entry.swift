import Glibc

// What libFuzzer calls; `scripts/fuzz` builds this with the targets and nothing of the tests.

private let target: FuzzTarget = {
  guard let name = getenv("FUZZ_TARGET"), let found = FuzzTarget(rawValue: String(cString: name))
  else { fatalError("FUZZ_TARGET names none of \(FuzzTarget.allCases)") }
  return found
}()

/// libFuzzer's, under whose own `main` the package manager cannot link.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
  _ count: UnsafeMutablePointer<CInt>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

@_cdecl("Fuzz_main")
public func main(
  _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
  var count = count
  var arguments = arguments
  return runDriver(&count, &arguments) { fuzzOneInput($0, $1) }
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: start, count: count))
  if let complaint = target.complaint(bytes) { fatalError("\(target): \(complaint)") }
  return 0
}
