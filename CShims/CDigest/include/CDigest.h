/* SHA-256 and MD5 of several messages at once.

   The SHA instructions of one message wait for each other; those of a second and a third message fill the gaps.
   Where there are none, AVX-512 hashes sixteen messages, one to a lane. docs/decisions/0010-kernels.md has what was
   measured. Digests are those of FIPS 180-4; the tests hold them against OpenSSL's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cairn_sha256_kernel {
  /* Two messages through the SHA extensions. */
  CAIRN_SHA256_TWO,
  /* Three, in AVX's three-operand forms, without which they are slower than two. */
  CAIRN_SHA256_THREE,
  /* Three, spread over the registers that AVX-512VL adds. */
  CAIRN_SHA256_THREE_AVX512,
  /* Sixteen, one to a lane of AVX-512; the last few of a batch through the SHA extensions. */
  CAIRN_SHA256_SIXTEEN,
  /* Sixteen, without SHA extensions. */
  CAIRN_SHA256_SIXTEEN_ALONE,
};

/* Whether this processor and this kernel of the system have what it needs. Without it cairn_sha256_many must not be
   called with it. Costs some hundred cycles under a hypervisor, where CPUID traps: ask once. */
bool cairn_sha256_is_available(enum cairn_sha256_kernel kernel);

/* Writes 32 bytes for each of `count` messages to `digests`, in their order. `messages[i]` may be null when
   `byte_counts[i]` is 0. */
void cairn_sha256_many(
    enum cairn_sha256_kernel kernel, const void *const *messages, const size_t *byte_counts, size_t count,
    uint8_t *digests);

/* How many messages cairn_md5_lanes takes at once: 8, with AVX2, or 0 where it must not be called. */
int cairn_md5_lane_count(void);

/* Runs the next `block_count` blocks of 64 bytes of each of `count` messages, at most cairn_md5_lane_count() of them.
   states[i] are message i's A, B, C and D (RFC 1321, section 3.3). An idle lane costs what a busy one does. */
void cairn_md5_lanes(
    uint32_t *const *states, const void *const *messages, size_t count, size_t block_count);

/* `value`, of which the compiler no longer knows how it came about. It regroups a + (b + c) as (a + b) + c where a + b
   is wanted too; where `a` is what everything waits for, that costs an addition in each turn. */
static inline uint64_t cairn_opaque(uint64_t value) {
  __asm__("" : "+r"(value));
  return value;
}
