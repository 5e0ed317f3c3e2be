import CURing
import Glibc

extension UringDriver {
  func receive(_ descriptor: Int32, _ slice: Slice, _ waitForAll: Bool) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    let base = slice.buffer.base + slice.offset
    let count = min(slice.count, 1 << 30)
    let flags = waitForAll ? Int32(MSG_WAITALL) : 0
    while true {
      let result = await loop.interruptible(slot) {
        io_uring_prep_recv($0, descriptor, base, count, flags)
        loop.state.pointee.files.use($0, descriptor)
      }
      if result == -EAGAIN {
        let ready = await poll(slot, descriptor, POLLIN)
        if ready < 0 { return ready }
      } else if result != -EINTR {
        return result
      }
    }
  }

  func receiveAny(_ descriptor: Int32, _ outcome: Outcome<Slice>) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    var mayBeProvided = loop.provided != nil
    while mayBeProvided, let provided = loop.provided {
      // Cancelled before it begins, it has no completion that would say.
      slot.pointee.flags = 0
      let result = await loop.interruptible(slot, as: .flagged) {
        io_uring_prep_recv($0, descriptor, nil, ProvidedBuffers.byteCount, 0)
        loop.state.pointee.files.use($0, descriptor)
        $0.pointee.flags |= UInt8(truncatingIfNeeded: 1 << IOSQE_BUFFER_SELECT_BIT)
        $0.pointee.buf_group = ProvidedBuffers.group
        // Whoever asks this way expects to wait: no look in vain first.
        $0.pointee.ioprio |= UInt16(IORING_RECVSEND_POLL_FIRST)
      }
      let taken = provided.take(slot.pointee.flags)
      switch result {
      case 1...:
        outcome.value = Slice(buffer: taken!, offset: 0, count: Int(result))
        return result
      case -EINTR: continue
      case -EAGAIN:
        let ready = await poll(slot, descriptor, POLLIN)
        if ready < 0 { return ready }
      // All are in use: then one of our own, but not before something has come.
      case -ENOBUFS:
        mayBeProvided = false
        let ready = await poll(slot, descriptor, POLLIN)
        if ready < 0 { return ready }
      default: return result
      }
    }
    if loop.provided == nil {
      let ready = await poll(slot, descriptor, POLLIN)
      if ready < 0 { return ready }
    }
    let slice = buffers.slice(ProvidedBuffers.byteCount)
    let result = await receive(descriptor, slice, false)
    if result >= 0 { outcome.value = slice[0..<Int(result)] }
    return result
  }

  package func start(_ arrival: Arrival) { loop.start(arrival) }

  func send(_ descriptor: Int32, _ slices: [Slice]) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    // The kernel goes on by itself after a short write when told to wait for all.
    let flags = UInt32(MSG_NOSIGNAL) | UInt32(MSG_WAITALL)
    var wanted = 0
    for slice in slices { wanted += slice.count }
    // The answer is an Int32; who sends more asks again for the rest.
    wanted = min(wanted, 1 << 30)
    var done = 0
    let isCopyless =
      wanted >= loop.copylessByteCount && loop.state.pointee.files.isCopyless(descriptor)
    while done < wanted {
      let result: Int32
      if isCopyless {
        result = await sendWithoutCopy(descriptor, slices, after: done, flags)
      } else if slices.count == 1 {
        let base = slices[0].buffer.base + slices[0].offset + done
        let count = wanted - done
        result = await loop.interruptible(slot) {
          io_uring_prep_send($0, descriptor, base, count, Int32(bitPattern: flags))
          loop.state.pointee.files.use($0, descriptor)
        }
      } else {
        let count = slot.pointee.gather(slices, after: done)
        slot.pointee.message = msghdr()
        slot.pointee.message.msg_iov = slot.pointee.vectors
        slot.pointee.message.msg_iovlen = count
        result = await loop.interruptible(slot) {
          io_uring_prep_sendmsg($0, descriptor, &slot.pointee.message, flags)
          loop.state.pointee.files.use($0, descriptor)
        }
      }
      if result >= 0 {
        done += Int(result)
      } else if result == -EAGAIN {
        let ready = await poll(slot, descriptor, POLLOUT)
        if ready < 0 { return ready }
      } else if result != -EINTR {
        return result
      }
    }
    return Int32(clamping: done)
  }

  /// The kernel sends from where the bytes lie, and reads them until the peer has them all: long after the answer.
  private func sendWithoutCopy(
    _ descriptor: Int32, _ slices: [Slice], after done: Int, _ flags: UInt32
  ) async -> Int32 {
    let slot = loop.state.takeSlot()
    let count = slot.pointee.gather(slices, after: done)
    slot.pointee.message = msghdr()
    slot.pointee.message.msg_iov = slot.pointee.vectors
    slot.pointee.message.msg_iovlen = count
    slot.pointee.isAnswered = false
    loop.state.pointee.lent[slot] = slices
    let result = await loop.interruptible(slot, as: .copyless) {
      cairn_prep_sendmsg_zc($0, descriptor, &slot.pointee.message, flags)
      loop.state.pointee.files.use($0, descriptor)
    }
    slot.pointee.isAnswered = true
    // Cancelled before it began, it has no completion.
    if slot.pointee.isCancelled && slot.pointee.continuation == 0 {
      loop.state.pointee.lent[slot] = nil
    }
    if loop.state.pointee.lent[slot] == nil { loop.state.giveBack(slot) }
    return result
  }

  func accept(_ descriptor: Int32, _ outcome: Outcome<SocketAddress>) async -> Int32 {
    guard loop.features.contains(.multishotAccept) else {
      return await acceptOne(descriptor, outcome)
    }
    while true {
      let result = await loop.accept(descriptor)
      if result < 0 {
        switch -result {
        case EINTR, ECONNABORTED, EPROTO, EAGAIN: continue
        default: return result
        }
      }
      var peer = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let failed = withUnsafeMutableBytes(of: &peer) {
        getpeername(result, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length) != 0
      }
      // The peer has gone already: the next one counts.
      if failed {
        Glibc.close(result)
        continue
      }
      Self.sendAtOnce(result)
      outcome.value = SocketAddress(peer)
      loop.enterConnection(result, peer: outcome.value)
      return result
    }
  }

  private func acceptOne(_ descriptor: Int32, _ outcome: Outcome<SocketAddress>) async -> Int32 {
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    while true {
      slot.pointee.addressLength = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let result = await loop.interruptible(slot) { entry in
        withUnsafeMutableBytes(of: &slot.pointee.address) { address in
          io_uring_prep_accept(
            entry, descriptor, address.baseAddress!.assumingMemoryBound(to: sockaddr.self),
            &slot.pointee.addressLength, Int32(SOCK_CLOEXEC.rawValue))
        }
      }
      if result >= 0 {
        if slot.pointee.isCancelled {
          Glibc.close(result)
          return -ECANCELED
        }
        Self.sendAtOnce(result)
        outcome.value = SocketAddress(slot.pointee.address)
        loop.enterConnection(result, peer: outcome.value)
        return result
      }
      switch -result {
      case EAGAIN:
        let ready = await poll(slot, descriptor, POLLIN)
        if ready < 0 { return ready }
      // The peer gave up before it was accepted: the next one counts (accept(2)).
      case EINTR, ECONNABORTED, EPROTO: continue
      default: return result
      }
    }
  }

  func connect(_ address: SocketAddress) async -> Int32 {
    var places: [sockaddr_storage]
    switch await resolve(address) {
    case .success(let found): places = found
    case .failure(let failure): return -failure.errno
    }
    let slot = loop.state.takeSlot()
    defer { loop.state.giveBack(slot) }
    var result = -EHOSTUNREACH
    for place in places {
      let descriptor = Self.socket(Int32(place.ss_family))
      guard descriptor >= 0 else { return descriptor }
      slot.pointee.address = place
      result = await loop.interruptible(slot) { entry in
        withUnsafeBytes(of: &slot.pointee.address) { address in
          io_uring_prep_connect(
            entry, descriptor, address.baseAddress!.assumingMemoryBound(to: sockaddr.self),
            place.byteCount)
        }
      }
      if slot.pointee.isCancelled { result = -ECANCELED }
      if result >= 0 {
        loop.enterConnection(descriptor, peer: SocketAddress(place))
        return descriptor
      }
      Glibc.close(descriptor)
      if result == -ECANCELED { return result }
    }
    return result
  }

  func listen(_ address: SocketAddress, _ backlog: Int32, _ outcome: Outcome<SocketAddress>) async
    -> Int32
  {
    let places: [sockaddr_storage]
    switch await resolve(address) {
    case .success(let found): places = found
    case .failure(let failure): return -failure.errno
    }
    guard var place = places.first else { return -EHOSTUNREACH }
    let descriptor = Self.socket(Int32(place.ss_family))
    guard descriptor >= 0 else { return descriptor }
    var one: Int32 = 1
    let size = socklen_t(MemoryLayout<Int32>.size)
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, size)
    var length = place.byteCount
    let failed = withUnsafeMutableBytes(of: &place) { bytes -> Int32 in
      let name = bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
      if bind(descriptor, name, length) != 0 || Glibc.listen(descriptor, backlog) != 0 {
        return errno
      }
      length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      return getsockname(descriptor, name, &length) == 0 ? 0 : errno
    }
    guard failed == 0 else {
      Glibc.close(descriptor)
      return -failed
    }
    outcome.value = SocketAddress(place)
    return descriptor
  }

  private static func socket(_ family: Int32) -> Int32 {
    let descriptor = Glibc.socket(
      family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return -errno }
    sendAtOnce(descriptor)
    return descriptor
  }

  /// TCP_NODELAY: our messages are whole when they are sent.
  private static func sendAtOnce(_ descriptor: Int32) {
    var one: Int32 = 1
    setsockopt(
      descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one,
      socklen_t(MemoryLayout<Int32>.size))
  }

  private func resolve(_ address: SocketAddress) async -> Result<[sockaddr_storage], RingError> {
    if let numeric = sockaddr_storage(numeric: address) { return .success([numeric]) }
    return await loop.abandonableOffload(lane: EventLoop.resolverLane) { address.lookUp() }
      ?? .failure(RingError(errno: ECANCELED, operation: "resolve", subject: address.host))
  }
}

extension SocketAddress {
  /// Asks the system's resolver. Blocks, perhaps for seconds.
  fileprivate func lookUp() -> Result<[sockaddr_storage], RingError> {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, String(port), &hints, &list)
    defer { if let list { freeaddrinfo(list) } }
    guard status == 0 else {
      let failure =
        switch status {
        case EAI_SYSTEM: errno
        case EAI_MEMORY: ENOMEM
        default: EHOSTUNREACH
        }
      return .failure(RingError(errno: failure, operation: "resolve", subject: host))
    }
    var found: [sockaddr_storage] = []
    var next = list
    while let one = next {
      next = one.pointee.ai_next
      guard one.pointee.ai_family == AF_INET || one.pointee.ai_family == AF_INET6 else { continue }
      var storage = sockaddr_storage()
      withUnsafeMutableBytes(of: &storage) {
        $0.copyMemory(
          from: UnsafeRawBufferPointer(
            start: one.pointee.ai_addr, count: Int(one.pointee.ai_addrlen)))
      }
      found.append(storage)
    }
    return .success(found)
  }

  /// The address in words; nil when it is of another family.
  init?(_ storage: sockaddr_storage) {
    var storage = storage
    let family = Int32(storage.ss_family)
    let found = withUnsafeBytes(of: &storage) { bytes -> (String, UInt16)? in
      withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
        let base = bytes.baseAddress!
        switch family {
        case AF_INET:
          let name = base.assumingMemoryBound(to: sockaddr_in.self)
          var address = name.pointee.sin_addr
          guard inet_ntop(family, &address, text.baseAddress!, 64) != nil else { return nil }
          return (String(cString: text.baseAddress!), UInt16(bigEndian: name.pointee.sin_port))
        case AF_INET6:
          let name = base.assumingMemoryBound(to: sockaddr_in6.self)
          var address = name.pointee.sin6_addr
          guard inet_ntop(family, &address, text.baseAddress!, 64) != nil else { return nil }
          var host = String(cString: text.baseAddress!)
          // A peer of the old protocol at a listener of both.
          if host.hasPrefix("::ffff:"), host.contains(".") { host.removeFirst(7) }
          return (host, UInt16(bigEndian: name.pointee.sin6_port))
        default: return nil
        }
      }
    }
    guard let (host, port) = found else { return nil }
    self.init(host: host, port: port)
  }
}

extension sockaddr_storage {
  /// nil when the host is a name.
  init?(numeric address: SocketAddress) {
    self.init()
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, address.host, &four) == 1 {
      var name = sockaddr_in()
      name.sin_family = sa_family_t(AF_INET)
      name.sin_port = address.port.bigEndian
      name.sin_addr = four
      withUnsafeMutableBytes(of: &self) { $0.storeBytes(of: name, as: sockaddr_in.self) }
    } else if inet_pton(AF_INET6, address.host, &six) == 1 {
      var name = sockaddr_in6()
      name.sin6_family = sa_family_t(AF_INET6)
      name.sin6_port = address.port.bigEndian
      name.sin6_addr = six
      withUnsafeMutableBytes(of: &self) { $0.storeBytes(of: name, as: sockaddr_in6.self) }
    } else {
      return nil
    }
  }

  var byteCount: socklen_t {
    socklen_t(
      Int32(ss_family) == AF_INET6
        ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size)
  }
}
