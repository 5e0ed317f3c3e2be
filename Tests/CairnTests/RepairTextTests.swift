import Cluster
import Messages
import Testing

@testable import cairn

@Test(
  "what is wrong with the log's copies is said as it is",
  arguments: [
    (0, true, "copies on lost devices"), (0, false, "copies on lost devices"),
    (1, false, "damaged copies"), (1, true, "copies on lost devices, or damaged"),
  ])
func logCopies(damagedBlocks: Int, isLost: Bool, says: String) {
  var status = GetRepairStatus.Answer()
  status.isLogHurt = true
  status.damagedBlocks = UInt64(damagedBlocks)
  for state in [GetRepairStatus.Device.State.silent, .draining] + (isLost ? [.lost] : []) {
    status.devices.append(
      GetRepairStatus.Device(
        id: DeviceID(1), node: "n", state: state, silentMilliseconds: 0, containerCount: 0))
  }
  #expect(logHurt(status) == says)
}
