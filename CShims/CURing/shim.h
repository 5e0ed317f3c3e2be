/* glibc settles its feature set at the first include, and liburing.h turns on _GNU_SOURCE:
   without this order `fd_set` differs from the one in Swift's Glibc and builds fail. */
#pragma once
#include <sys/types.h>
#include <liburing.h>
