/* RocksDB 7.8 C API. Errors come back as malloc'ed strings that the caller frees with rocksdb_free. */
#pragma once
#include <rocksdb/c.h>
