/* zstd 1.5, stable part of its API only. A context remembers its parameters and a dictionary from call to call, a prefix
   for one frame. Sizes that are no sizes are errors: ask ZSTD_isError. */
#pragma once
#include <zstd.h>
#include <zstd_errors.h>

/* Macros that Swift cannot import. */
static const unsigned long long cairn_zstd_size_unknown = ZSTD_CONTENTSIZE_UNKNOWN;
static const unsigned long long cairn_zstd_size_error = ZSTD_CONTENTSIZE_ERROR;
