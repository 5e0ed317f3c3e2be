import Glibc

/// The kernel's open(2) flags by name, for code above Ring, which imports no C library.
package enum OpenFlags {
  package static let readOnly = O_RDONLY
  package static let writeOnly = O_WRONLY
  package static let readWrite = O_RDWR
  package static let create = O_CREAT
  package static let exclusive = O_EXCL
  package static let truncate = O_TRUNC
  package static let directory = O_DIRECTORY
  package static let noFollow = O_NOFOLLOW
  package static let nonBlocking = O_NONBLOCK
  package static let direct = O_DIRECT
}

/// The errno numbers that code above Ring tells apart.
package enum Errno {
  package static let noEntry = ENOENT
  package static let exists = EEXIST
  package static let addressInUse = EADDRINUSE
  package static let noSpace = ENOSPC
  package static let cancelled = ECANCELED
  package static let brokenPipe = EPIPE
  package static let access = EACCES
  package static let notDirectory = ENOTDIR
  package static let isDirectory = EISDIR
  package static let loop = ELOOP
  package static let inputOutput = EIO
  package static let invalid = EINVAL
  package static let unsupported = EOPNOTSUPP
  package static let noSuchOperation = ENOSYS
  package static let readOnly = EROFS
  package static let busy = EBUSY
  package static let fileTooBig = EFBIG
}

/// Signal numbers.
package enum Signal {
  package static let interrupt = SIGINT
  package static let terminate = SIGTERM
  package static let hangUp = SIGHUP
  package static let kill = SIGKILL
}
