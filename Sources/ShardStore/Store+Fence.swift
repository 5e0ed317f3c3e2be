package import Cluster
internal import Ring

extension ShardStore {
  /// Raises the highest leader epoch of this device, durably and with no write of a lower epoch to this shard under
  /// way, and lists the shard. From then on links, checkpoints and deletes below `epoch` are refused.
  ///
  /// - Throws: `staleEpoch` when a higher one was seen; `deviceFailed`, `closed`.
  package func fence(_ shard: ShardKey, epoch: UInt64) async throws(StoreError) -> [ListedBlock] {
    try checkWritable()
    guard epoch >= highestEpoch else { throw .staleEpoch(highest: highestEpoch) }
    // Raised before waiting, so that no lower-epoch write begins meanwhile.
    highestEpoch = epoch
    await gates.enterAlone(shard)
    do throws(StoreError) {
      try await append(
        RecordHeader(kind: .fence, payloadByteCount: 0, shard: shard, epoch: epoch, checksums: []),
        payload: nil, purpose: .control, effect: .none)
      let listed = try await list(shard)
      gates.leaveAlone(shard)
      return listed
    } catch {
      gates.leaveAlone(shard)
      throw error
    }
  }

  /// Raises the highest leader epoch, durably; a lower or equal one changes nothing.
  package func raise(epoch: UInt64) async throws(StoreError) {
    try checkWritable()
    guard epoch > highestEpoch else { return }
    highestEpoch = epoch
    try await appendMark()
  }

  /// A record that says only which epoch is the highest and what is durable.
  func appendMark() async throws(StoreError) {
    try await append(
      RecordHeader(kind: .mark, payloadByteCount: 0, epoch: highestEpoch, checksums: []),
      payload: nil, purpose: .control, effect: .none)
  }
}
