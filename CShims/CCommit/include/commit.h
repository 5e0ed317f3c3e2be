/* CShims/CCommit/include/commit.h
   The commit that the package was built from, as the manifest knows it. A target of its own, so that a
   new commit compiles one line again and nothing else. */
#pragma once

const char *cairn_commit(void);
