/// Places in the code where a simulated world may make a legal but rare path common; see
/// ``Driver/meets(_:)``. The real driver never meets one.
///
/// Each line says what happens instead of the usual. It must be something that could happen without
/// the point too (a full container, a lost answer, a slow disk): points never add behaviour, they only
/// choose among what the design allows, so no promise may break however often they are met.
///
/// Names, not numbers, seed a point's chance: add one anywhere, and the others draw what they drew.
package enum InjectionPoint: UInt8, CaseIterable, Sendable {
  // DataPath
  /// A writer takes its open container for full and asks for another grant.
  case containerFullEarly
  /// A writer gives its container up as after a device's failure: stripes not begun go elsewhere.
  case containerGivenUp
  /// A stripe that every device stored counts as not acknowledged: its chunks are stored again.
  case stripeNotAcknowledged
  /// A stripe is sealed though it has room for more chunks.
  case stripeShort
  /// A group is closed though it has room for more chunks.
  case groupShort
  /// A writer asks for another key to seal with, as if its own had sealed all that it may.
  case dataKeyFull
  /// A small object goes into a group though few are under way.
  case smallInGroup
  /// Commands wait a moment for others to travel with.
  case commandsGathered
  /// The dedup index's hint is not used: the chunk is stored though it is stored already.
  case hintMissed
  /// A command's answer is lost: it is sent again with the same sequence number.
  case commandAnswerLost
  /// That an answer was lost is noticed only after the deadline.
  case answerMissedLate
  /// A reader resolves a few KiB at a time.
  case readWindowSmall
  /// A byte of what was read comes out another, though every checksum on its way was right.
  case bytesWrong

  // Stripes
  /// A read asks further devices at once, as if the first were slow.
  case hedgeEarly

  // Node
  /// A rewrite of shards, or of a whole container, rests for seconds between two stripes.
  case rewriteStalls

  // ShardStore
  /// A record is written alone though others wait beside it.
  case appendAlone
  /// A record that is alone is written and synced in two steps.
  case syncedApart
  /// One record is synced alone though others are written.
  case commitOfOne
  /// The entries in memory are flushed to a run though they are few.
  case indexFlushedEarly
  /// The two newest runs of the index are merged though they are few.
  case runsMergedEarly
  /// The next volume is begun though the open one has room.
  case volumeFullEarly
  /// A volume in which little is dead is compacted.
  case volumeCompactedEarly
  /// A volume's file is closed as soon as nobody uses it.
  case volumeClosedEarly

  // Coordinator
  /// A batch of the log carries one command though more wait.
  case logBatchOfOne
  /// The log goes on in a new link though the open one has room.
  case linkFullEarly
  /// A checkpoint is written though the log is short.
  case checkpointEarly
  /// A take-over goes on late after it has looked at the open link.
  case takeOverLate
  /// A piece of a checkpoint is late: much else goes on between it and the one before.
  case checkpointPieceLate
  /// Edges of what was deleted are returned a few at a time.
  case edgesReturnedSlowly
  /// A session that was heard of lately expires.
  case sessionExpiredEarly
  /// A leader loses its lease though nodes renewed it.
  case leaseLostEarly
  /// A leader that has applied a command loses the lead before it answers.
  case leadLostAtAnswer

  // Wire
  /// A connection is closed when a call on it has been answered.
  case connectionDropped
  /// A receive asks for one byte.
  case receiveSmall
}
