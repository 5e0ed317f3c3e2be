/* What the kernel and C offer that Swift cannot import: thread-local variables, variadic calls. */
#pragma once
#include <sys/types.h>
#include <stddef.h>
#include <stdint.h>

/* The event loop that this thread drives, or NULL. */
void *cairn_current_loop(void);
void cairn_set_current_loop(void *loop);
