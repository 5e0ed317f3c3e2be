#define _GNU_SOURCE
#include "CKernel.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

__thread void *cairn_loop __attribute__((tls_model("initial-exec")));

static int answer(int result) { return result < 0 ? -errno : result; }

int cairn_eventfd(void) { return answer(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int cairn_eventfd_raise(int descriptor)
{
	uint64_t one = 1;
	return write(descriptor, &one, sizeof one) == sizeof one ? 0 : -errno;
}

int cairn_hold_standard_descriptors(void)
{
	for (int descriptor = 0; descriptor <= 2; descriptor++) {
		if (fcntl(descriptor, F_GETFD) >= 0 || errno != EBADF)
			continue;
		/* The lowest free number is this one. Reading from standard input and writing to the others must go on to fail. */
		int opened = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY);
		if (opened < 0)
			return -errno;
	}
	return 0;
}

int cairn_hangup_is_ignored(void)
{
	struct sigaction action;
	return sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int cairn_pidfd_open(int pid) { return answer((int)syscall(SYS_pidfd_open, pid, 0)); }

int cairn_signalfd(const int *signals, size_t count)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < count; i++)
		if (sigaddset(&set, signals[i]))
			return -errno;
	return answer(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int cairn_signalfd_take(int descriptor)
{
	struct signalfd_siginfo info;
	ssize_t count = read(descriptor, &info, sizeof info);
	if (count < 0)
		return -errno;
	return count == sizeof info ? (int)info.ssi_signo : -EIO;
}

int cairn_random(void *bytes, size_t count)
{
	unsigned char *next = bytes;
	while (count > 0) {
		ssize_t got = getrandom(next, count, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		next += got;
		count -= (size_t)got;
	}
	return 0;
}

int cairn_spawn_close_from(posix_spawn_file_actions_t *actions, int first)
{
	return -posix_spawn_file_actions_addclosefrom_np(actions, first);
}

int cairn_spawn_flag_new_session(void) { return POSIX_SPAWN_SETSID; }

int cairn_o_direct(void) { return O_DIRECT; }

int cairn_get_usage(int of_thread, cairn_usage *usage) {
  struct rusage found;
  struct timespec time;
  if (getrusage(of_thread ? RUSAGE_THREAD : RUSAGE_SELF, &found) != 0 ||
      clock_gettime(of_thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID, &time) != 0)
    return -errno;
  usage->processor_nanoseconds = time.tv_sec * 1000000000LL + time.tv_nsec;
  usage->user_microseconds = found.ru_utime.tv_sec * 1000000LL + found.ru_utime.tv_usec;
  usage->system_microseconds = found.ru_stime.tv_sec * 1000000LL + found.ru_stime.tv_usec;
  usage->context_switches = found.ru_nvcsw + found.ru_nivcsw;
  usage->major_faults = found.ru_majflt;
  usage->minor_faults = found.ru_minflt;
  return 0;
}

void cairn_name_thread(const char *name) {
  char cut[16] = {0};
  strncpy(cut, name, sizeof cut - 1);
  pthread_setname_np(pthread_self(), cut);
}

int cairn_file_system(const char *path, struct cairn_file_system *found)
{
	struct statfs system;
	struct stat file;
	int result;
	do
		result = statfs(path, &system);
	while (result < 0 && errno == EINTR);
	if (result < 0 || stat(path, &file) < 0)
		return -errno;
	dev_t device = S_ISBLK(file.st_mode) ? file.st_rdev : file.st_dev;
	*found = (struct cairn_file_system){
		.type = (uint32_t)system.f_type,
		.major = major(device),
		.minor = minor(device),
		.is_read_only = (system.f_flags & ST_RDONLY) != 0,
		.is_block_device = S_ISBLK(file.st_mode),
	};
	return 0;
}

void cairn_raise_file_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

uint64_t cairn_file_limit(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}
