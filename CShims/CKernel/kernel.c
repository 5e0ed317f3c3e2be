#include "CKernel.h"

static __thread void *current_loop;

void *cairn_current_loop(void) { return current_loop; }

void cairn_set_current_loop(void *loop) { current_loop = loop; }
