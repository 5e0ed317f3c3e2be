/* RocksDB 7.8 C API. Errors come back as malloc'ed strings that the caller frees with rocksdb_free. */
#pragma once
#include <rocksdb/c.h>
#include <string.h>

/* The order RocksDB's default comparator gives keys: by bytes, a prefix first. */
static inline int cairn_compare_keys(const void *a, size_t a_count, const void *b, size_t b_count) {
  size_t common = a_count < b_count ? a_count : b_count;
  int order = common ? memcmp(a, b, common) : 0;
  if (order != 0) return order;
  return a_count < b_count ? -1 : a_count > b_count;
}
