/* glibc settles its feature set at the first include, and liburing.h turns on _GNU_SOURCE:
   without this order `fd_set` differs from the one in Swift's Glibc and builds fail. */
#pragma once
#include <sys/types.h>
#include <liburing.h>
/* struct statx, which glibc shows only to _GNU_SOURCE. */
#include <linux/stat.h>

/* The macros below read the rings with acquire loads, which Swift cannot express on C memory. */

struct cairn_completion {
	uint64_t user_data;
	int32_t result;
	uint32_t flags;
};

/* Moves up to `limit` completions out of the ring and returns how many. */
static inline unsigned cairn_uring_take(struct io_uring *ring, struct cairn_completion *into,
                                        unsigned limit)
{
	unsigned head = *ring->cq.khead;
	unsigned count = io_uring_smp_load_acquire(ring->cq.ktail) - head;
	if (count > limit)
		count = limit;
	for (unsigned i = 0; i < count; i++) {
		const struct io_uring_cqe *cqe = &ring->cq.cqes[(head + i) & ring->cq.ring_mask];
		into[i].user_data = cqe->user_data;
		into[i].result = cqe->res;
		into[i].flags = cqe->flags;
	}
	io_uring_cq_advance(ring, count);
	return count;
}

/* Whether the kernel has something to do for us: entries to take, or completions that it can post
   only when entered. */
static inline bool cairn_uring_wants_enter(const struct io_uring *ring)
{
	return io_uring_sq_ready(ring) != 0 ||
	       (IO_URING_READ_ONCE(*ring->sq.kflags) &
	        (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Kernel 6.9; liburing 2.3 has no name for it. Sets a file's length. */
enum { CAIRN_OP_FTRUNCATE = 55 };
static inline void cairn_prep_ftruncate(struct io_uring_sqe *sqe, int fd, uint64_t length)
{
	io_uring_prep_rw(CAIRN_OP_FTRUNCATE, sqe, fd, NULL, 0, length);
}

/* A ring of provided buffers: `count` (a power of two) of `size` bytes each from `base` on. Only the entries
   from the tail on are ours to write; the tail is released last. */
static inline void cairn_provide(struct io_uring_buf_ring *ring, void *base, unsigned size, unsigned count,
                                 unsigned id)
{
	io_uring_buf_ring_add(ring, (char *)base + (size_t)id * size, size, (unsigned short)id,
	                      io_uring_buf_ring_mask(count), 0);
	io_uring_buf_ring_advance(ring, 1);
}
static inline void cairn_provide_none(struct io_uring_buf_ring *ring) { io_uring_buf_ring_init(ring); }

/* Kernel 6.1; liburing 2.3 has no name for it. As sendmsg, from memory that stays in use until a second
   completion, which follows when the first says so. */
enum { CAIRN_OP_SENDMSG_ZC = 48 };
static inline void cairn_prep_sendmsg_zc(struct io_uring_sqe *sqe, int fd, const struct msghdr *message,
                                         unsigned flags)
{
	io_uring_prep_rw(CAIRN_OP_SENDMSG_ZC, sqe, fd, message, 1, 0);
	sqe->msg_flags = flags;
}
