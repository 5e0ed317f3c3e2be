/* CShims/CCommit/include/commit.h
   The commit that the package was built from, a "+" behind it when files were changed since, or
   "unknown" outside a repository. A target of its own, so that a new commit compiles one line again
   and nothing else. */
#pragma once

const char *cairn_commit(void);
