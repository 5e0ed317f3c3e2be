/// One effect on the outside world. A driver answers each with the kernel's result: a count or zero,
/// or a negative errno. Answers that do not fit a number are written to the `Outcome` handed in.
package enum RingOperation: Sendable {
  // Files. `flags` are the kernel's (O_RDWR | O_DIRECT ...); an offset of `.max` means "where the
  // stream stands" (pipes, terminals). O_CLOEXEC is always added.
  case open(path: String, flags: Int32, mode: UInt32)
  case close(descriptor: Int32)
  case read(descriptor: Int32, into: Slice, offset: UInt64)
  case write(descriptor: Int32, from: [Slice], offset: UInt64)
  /// As `write`, and when all of it was written, fdatasync, without a turn of the loop between them. A smaller count than
  /// asked for says that nothing was synced; so does an error, or that the sync failed.
  case writeDurably(descriptor: Int32, from: [Slice], offset: UInt64)
  /// fdatasync when `dataOnly`, else fsync; also for an opened directory.
  case synchronize(descriptor: Int32, dataOnly: Bool)
  /// fallocate with the kernel's mode flags (0 reserves; 3 = PUNCH_HOLE | KEEP_SIZE).
  case allocate(descriptor: Int32, mode: Int32, offset: UInt64, byteCount: UInt64)
  case truncate(descriptor: Int32, byteCount: UInt64)
  /// flock(LOCK_EX | LOCK_NB): -EWOULDBLOCK when another holds it.
  case lock(descriptor: Int32)
  case status(path: String, followLinks: Bool, Outcome<FileStatus>)
  /// Of an open file, whatever its path leads to by now.
  case fileStatus(descriptor: Int32, Outcome<FileStatus>)
  /// `withStatus`: also the status of each entry that is still there, links not followed.
  case list(path: String, withStatus: Bool, Outcome<[DirectoryEntry]>)
  case makeDirectory(path: String, mode: UInt32)
  case remove(path: String, isDirectory: Bool)
  /// renameat2; with `exclusive` an existing target is refused (-EEXIST).
  case rename(from: String, to: String, exclusive: Bool)
  case makeSymbolicLink(path: String, target: [UInt8])
  case readSymbolicLink(path: String, Outcome<[UInt8]>)
  /// Sets what is not nil; never follows a link. `modified` is nanoseconds since 1970.
  case setAttributes(path: String, mode: UInt32?, modified: Int64?)
  /// statvfs of the file system that holds `path`.
  case space(path: String, Outcome<FileSystemSpace>)
  /// statfs of the file system that holds `path`, and which device that is on; of a block device, the device itself.
  case fileSystem(path: String, Outcome<FileSystemFacts>)

  // Sockets: TCP with TCP_NODELAY; a listener has SO_REUSEADDR.
  case listen(SocketAddress, backlog: Int32, Outcome<SocketAddress>)
  case accept(descriptor: Int32, Outcome<SocketAddress>)
  case connect(SocketAddress)
  /// Up to `into.count` bytes; all of them (or the end of the stream) when `waitForAll`. 0 = end.
  case receive(descriptor: Int32, into: Slice, waitForAll: Bool)
  /// What has come, at most 4 KiB, in memory that is taken only once something has: for those who may wait long. The
  /// answer's bytes are all of the outcome's slice. 0 = end.
  case receiveAny(descriptor: Int32, Outcome<Slice>)
  /// All of `from`, in order, unless an error comes first.
  case send(descriptor: Int32, from: [Slice])
  /// Both directions; wakes whoever waits on it.
  case shutdown(descriptor: Int32)

  // Time.
  case sleep(Duration)

  // Processes and signals (never simulated: -ENOSYS there).
  case spawnProcess(ProcessLaunch, Outcome<Int32>)
  case signalProcess(pid: Int32, signal: Int32)
  /// Waits until the process ends; the result is its exit status, or 128 + signal. For one that is no
  /// child of ours only the end can be seen: -ECHILD.
  case waitForProcess(pid: Int32)
  /// Waits until one of these signals (blocked from the start by the driver) arrives; the result is its number.
  case waitForSignal([Int32])
}

/// Where an operation writes an answer that is no number. Read it only after the operation succeeded.
package final class Outcome<Value: Sendable>: @unchecked Sendable {
  // Sound: written by the driver before the operation completes, read by the submitter after.
  package var value: Value?
  package init() {}
}

package enum FileKind: UInt8, Sendable { case file, directory, symbolicLink, other }

package struct FileStatus: Sendable, Equatable {
  package var kind: FileKind
  package var byteCount: UInt64
  /// Bytes the file system has set aside for it.
  package var allocatedByteCount: UInt64
  /// Permission bits only (07777).
  package var mode: UInt32
  /// Nanoseconds since 1970.
  package var modified: Int64
  package var deviceNumber: UInt64
  package var inode: UInt64

  package init(
    kind: FileKind, byteCount: UInt64, allocatedByteCount: UInt64, mode: UInt32, modified: Int64,
    deviceNumber: UInt64, inode: UInt64
  ) {
    self.kind = kind
    self.byteCount = byteCount
    self.allocatedByteCount = allocatedByteCount
    self.mode = mode
    self.modified = modified
    self.deviceNumber = deviceNumber
    self.inode = inode
  }
}

/// A name in a directory; names are bytes, not always UTF-8: make paths of them with ``PathText``.
/// `.` and `..` are left out, order is by bytes.
package struct DirectoryEntry: Sendable, Equatable {
  package var name: [UInt8]
  package var kind: FileKind
  /// Nil when it was not asked for, or the entry was gone by then.
  package var status: FileStatus?
  package init(name: [UInt8], kind: FileKind, status: FileStatus? = nil) {
    self.name = name
    self.kind = kind
    self.status = status
  }
}

package struct FileSystemSpace: Sendable, Equatable {
  package var totalByteCount: UInt64
  package var freeByteCount: UInt64
  package init(totalByteCount: UInt64, freeByteCount: UInt64) {
    self.totalByteCount = totalByteCount
    self.freeByteCount = freeByteCount
  }
}

/// What the kernel says of the file system that holds a path.
package struct FileSystemFacts: Sendable, Equatable {
  /// The kernel's magic number of its type (statfs).
  package var type: UInt64
  /// Mounted so that nothing can be written.
  package var isReadOnly: Bool
  /// The path is a block device, not a file or directory.
  package var isBlockDevice: Bool
  /// Of the block device that the path is, or else of what its file system is on; without one, a number of the file
  /// system's own with major 0.
  package var major: UInt32
  package var minor: UInt32

  package init(
    type: UInt64, isReadOnly: Bool, isBlockDevice: Bool, major: UInt32, minor: UInt32
  ) {
    self.type = type
    self.isReadOnly = isReadOnly
    self.isBlockDevice = isBlockDevice
    self.major = major
    self.minor = minor
  }
}

/// How to start a child process. Its standard input is /dev/null; output goes to `logPath` (appended).
package struct ProcessLaunch: Sendable {
  package var executable: String
  /// Without the program's name.
  package var arguments: [String]
  package var logPath: String
  package init(executable: String, arguments: [String], logPath: String) {
    self.executable = executable
    self.arguments = arguments
    self.logPath = logPath
  }
}
