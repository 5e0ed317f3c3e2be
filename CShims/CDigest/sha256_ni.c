#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define MOST 3
#define TARGET(names) __attribute__((target(names)))

/* `lanes` is a constant at each call, so all loops over it are unrolled. Each caller's own target decides how the
   same intrinsics are encoded, and over how many registers they spread. */
__attribute__((always_inline)) TARGET("sha,sse4.1,ssse3") static inline void compress(
    int lanes, uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  /* The eight words as the instructions want them: A, B, E, F and C, D, G, H, first word in the highest place. */
  __m128i abef[MOST], cdgh[MOST];
  const uint8_t *input[MOST];
#pragma clang loop unroll(full)
  for (int lane = 0; lane < lanes; lane++) {
    const __m128i dcba = _mm_loadu_si128((const __m128i *)states[lane]);
    const __m128i hgfe = _mm_loadu_si128((const __m128i *)(states[lane] + 4));
    const __m128i cdab = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    abef[lane] = _mm_alignr_epi8(cdab, efgh, 8);
    cdgh[lane] = _mm_blend_epi16(efgh, cdab, 0xf0);
    input[lane] = inputs[lane];
  }
  for (; count > 0; count--) {
    __m128i words[MOST][4], before_abef[MOST], before_cdgh[MOST];
#pragma clang loop unroll(full)
    for (int lane = 0; lane < lanes; lane++) {
      before_abef[lane] = abef[lane];
      before_cdgh[lane] = cdgh[lane];
#pragma clang loop unroll(full)
      for (int i = 0; i < 4; i++) {
        words[lane][i] = _mm_shuffle_epi8(
            _mm_loadu_si128((const __m128i *)(input[lane] + 16 * i)), swap);
      }
      input[lane] += CAIRN_SHA256_BLOCK;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
      const __m128i constant = _mm_load_si128((const __m128i *)(cairn_sha256_constants + 4 * i));
#pragma clang loop unroll(full)
      for (int lane = 0; lane < lanes; lane++) {
        __m128i *w = words[lane];
        __m128i sum = _mm_add_epi32(w[i & 3], constant);
        cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
        abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(sum, 0x0e));
        if (i < 12) {
          /* Words 4 (i + 4) and the three after it, in the place of the oldest. */
          __m128i next = _mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]);
          next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
          w[i & 3] = _mm_sha256msg2_epu32(next, w[(i + 3) & 3]);
        }
      }
    }
#pragma clang loop unroll(full)
    for (int lane = 0; lane < lanes; lane++) {
      abef[lane] = _mm_add_epi32(abef[lane], before_abef[lane]);
      cdgh[lane] = _mm_add_epi32(cdgh[lane], before_cdgh[lane]);
    }
  }
#pragma clang loop unroll(full)
  for (int lane = 0; lane < lanes; lane++) {
    const __m128i feba = _mm_shuffle_epi32(abef[lane], 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(cdgh[lane], 0xb1);
    _mm_storeu_si128((__m128i *)states[lane], _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(states[lane] + 4), _mm_alignr_epi8(dchg, feba, 8));
  }
}

TARGET("sha,sse4.1,ssse3")
void cairn_sha256_ni1(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  compress(1, states, inputs, count);
}
TARGET("sha,sse4.1,ssse3")
void cairn_sha256_ni2(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  compress(2, states, inputs, count);
}
TARGET("sha,avx")
void cairn_sha256_ni3_avx(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  compress(3, states, inputs, count);
}
TARGET("sha,avx512vl,avx512bw")
void cairn_sha256_ni2_avx512(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  compress(2, states, inputs, count);
}
TARGET("sha,avx512vl,avx512bw")
void cairn_sha256_ni3_avx512(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  compress(3, states, inputs, count);
}

#endif
