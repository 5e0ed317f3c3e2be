/* SHA-256 of several messages at once.

   The SHA instructions of one message wait for each other; those of a second message fill the gaps: on Zen 4 two
   interleaved messages of 64 KiB run at 3.3 GB/s of CPU time, one after the other at 1.8, as OpenSSL does. Digests are
   those of FIPS 180-4; the tests hold them against OpenSSL's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether this processor has the instructions. Without them cairn_sha256_many must not be called. */
bool cairn_sha256_many_is_available(void);

/* Writes 32 bytes for each of `count` messages to `digests`, in their order. `messages[i]` may be null when
   `byte_counts[i]` is 0. */
void cairn_sha256_many(
    const void *const *messages, const size_t *byte_counts, size_t count, uint8_t *digests);
