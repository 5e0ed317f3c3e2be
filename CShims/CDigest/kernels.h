/* The kernels behind cairn_sha256_many. Each runs `count` blocks of 64 bytes of several messages:
   states[i] is the hash of message i so far, eight words as FIPS 180-4 numbers them; inputs[i] its next block. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAIRN_SHA256_BLOCK 64

typedef void cairn_sha256_compress(uint32_t *const *states, const uint8_t *const *inputs, size_t count);

/* FIPS 180-4, section 4.2.2. */
extern const uint32_t cairn_sha256_constants[64];

#if defined(__x86_64__)
/* What this processor has and this kernel of the system saves. */
struct cairn_features {
  bool sha, avx, avx2, avx512;
};

/* Some hundred cycles under a hypervisor, where CPUID traps. */
struct cairn_features cairn_features(void);

/* SHA extensions, one, two and three messages. */
cairn_sha256_compress cairn_sha256_ni1, cairn_sha256_ni2;
/* As above with AVX's three-operand forms, without which three messages are slower than two. */
cairn_sha256_compress cairn_sha256_ni3_avx;
/* As above with the 16 registers that AVX-512VL adds to keep state and constants in. */
cairn_sha256_compress cairn_sha256_ni2_avx512, cairn_sha256_ni3_avx512;
/* AVX-512F and BW, a message in each 32-bit lane. */
cairn_sha256_compress cairn_sha256_wide16;
#endif
