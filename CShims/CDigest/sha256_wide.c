#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512bw")))
#define LANES 16

/* Word j of row i becomes word i of row j. */
__attribute__((always_inline)) WIDE static inline void transpose(__m512i rows[16]) {
  __m512i t[16];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    rows[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    rows[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    rows[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

__attribute__((always_inline)) WIDE static inline __m512i xor3(__m512i x, __m512i y, __m512i z) {
  return _mm512_ternarylogic_epi32(x, y, z, 0x96);
}

WIDE void cairn_sha256_wide16(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL));
  __m512i state[8], w[16];
  const uint8_t *input[LANES];
  for (int lane = 0; lane < LANES; lane++) {
    w[lane] = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)states[lane]));
    input[lane] = inputs[lane];
  }
  transpose(w);
  for (int i = 0; i < 8; i++) state[i] = w[i];
  for (; count > 0; count--) {
    for (int lane = 0; lane < LANES; lane++) {
      w[lane] = _mm512_shuffle_epi8(_mm512_loadu_si512(input[lane]), swap);
      input[lane] += CAIRN_SHA256_BLOCK;
    }
    transpose(w);
    __m512i a = state[0], b = state[1], c = state[2], d = state[3];
    __m512i e = state[4], f = state[5], g = state[6], h = state[7];
#pragma clang loop unroll(full)
    for (int i = 0; i < 64; i++) {
      if (i >= 16) {
        const __m512i early = w[(i + 1) & 15], late = w[(i + 14) & 15];
        const __m512i sigma0 = xor3(
            _mm512_ror_epi32(early, 7), _mm512_ror_epi32(early, 18), _mm512_srli_epi32(early, 3));
        const __m512i sigma1 = xor3(
            _mm512_ror_epi32(late, 17), _mm512_ror_epi32(late, 19), _mm512_srli_epi32(late, 10));
        w[i & 15] = _mm512_add_epi32(
            _mm512_add_epi32(w[i & 15], sigma0), _mm512_add_epi32(w[(i + 9) & 15], sigma1));
      }
      const __m512i constant = _mm512_set1_epi32((int)cairn_sha256_constants[i]);
      const __m512i sum1 =
          xor3(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11), _mm512_ror_epi32(e, 25));
      const __m512i sum0 =
          xor3(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13), _mm512_ror_epi32(a, 22));
      const __m512i choice = _mm512_ternarylogic_epi32(e, f, g, 0xca);
      const __m512i majority = _mm512_ternarylogic_epi32(a, b, c, 0xe8);
      const __m512i first = _mm512_add_epi32(
          _mm512_add_epi32(h, _mm512_add_epi32(w[i & 15], constant)), _mm512_add_epi32(sum1, choice));
      h = g;
      g = f;
      f = e;
      e = _mm512_add_epi32(d, first);
      d = c;
      c = b;
      b = a;
      a = _mm512_add_epi32(first, _mm512_add_epi32(sum0, majority));
    }
    state[0] = _mm512_add_epi32(state[0], a);
    state[1] = _mm512_add_epi32(state[1], b);
    state[2] = _mm512_add_epi32(state[2], c);
    state[3] = _mm512_add_epi32(state[3], d);
    state[4] = _mm512_add_epi32(state[4], e);
    state[5] = _mm512_add_epi32(state[5], f);
    state[6] = _mm512_add_epi32(state[6], g);
    state[7] = _mm512_add_epi32(state[7], h);
  }
  for (int i = 0; i < 8; i++) w[i] = state[i];
  for (int i = 8; i < 16; i++) w[i] = _mm512_setzero_si512();
  transpose(w);
  for (int lane = 0; lane < LANES; lane++) {
    _mm256_storeu_si256((__m256i *)states[lane], _mm512_castsi512_si256(w[lane]));
  }
}

#endif
