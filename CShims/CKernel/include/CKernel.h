/* What the kernel and C offer that Swift cannot import: thread-local variables, variadic calls, and
   calls that Swift's view of glibc leaves out. */
#pragma once
#include <sys/types.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>

/* The event loop that this thread drives, or NULL. Initial-exec: this is read for each job that is
   queued, and the general model would be a call. */
extern __thread void *cairn_loop __attribute__((tls_model("initial-exec")));
static inline void *cairn_current_loop(void) { return cairn_loop; }
static inline void cairn_set_current_loop(void *loop) { cairn_loop = loop; }

/* Each of these returns -errno when it fails. Descriptors are O_CLOEXEC. */
/* Opens /dev/null, the wrong way round, for each of descriptors 0 to 2 that is closed; these three are inherited. */
int cairn_hold_standard_descriptors(void);
int cairn_eventfd(void);
int cairn_eventfd_raise(int descriptor);
int cairn_pidfd_open(int pid);
/* `signals` must be blocked already. Does not block. */
int cairn_signalfd(const int *signals, size_t count);
/* The number of a pending signal, or -EAGAIN. */
int cairn_signalfd_take(int descriptor);
/* Fills all of `bytes`; waits only before the machine has gathered its first entropy. */
int cairn_random(void *bytes, size_t count);
/* In the child, closes every descriptor from `first` on. */
int cairn_spawn_close_from(posix_spawn_file_actions_t *actions, int first);
/* Whether SIGHUP is ignored, as under nohup. */
int cairn_hangup_is_ignored(void);
/* POSIX_SPAWN_SETSID: the child leads a session of its own. */
int cairn_spawn_flag_new_session(void);

/* getrusage, of the calling thread only (which glibc shows only to _GNU_SOURCE) or of the whole process; the processor's
   time also by its clock, which counts nanoseconds. */
typedef struct {
  int64_t processor_nanoseconds;
  int64_t user_microseconds, system_microseconds, context_switches, major_faults, minor_faults;
} cairn_usage;
int cairn_get_usage(int of_thread, cairn_usage *usage);
/* What the calling thread is called in top and perf; cut to 15 bytes. */
void cairn_name_thread(const char *name);

/* RLIMIT_NOFILE: sets what holds to the most that may be set; what holds. */
void cairn_raise_file_limit(void);
uint64_t cairn_file_limit(void);

/* What the kernel says of the file system that holds `path` and of the device under it; of a block device, of the device
   itself. */
struct cairn_file_system {
	uint64_t type;
	uint32_t major, minor;
	uint8_t is_read_only, is_block_device;
};
int cairn_file_system(const char *path, struct cairn_file_system *found);

/* The value of O_DIRECT, which glibc shows only to _GNU_SOURCE and which differs by machine. */
int cairn_o_direct(void);
