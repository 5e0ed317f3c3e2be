#include "commit.h"

const char *cairn_commit(void) { return CAIRN_COMMIT; }
