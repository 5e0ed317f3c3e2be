#include "CDigest.h"
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define WIDE __attribute__((target("avx2")))
#define LANES 8

#define ADD _mm256_add_epi32
#define ROL(x, s) rotate(x, s)
#define VALUE(t) _mm256_set1_epi32((int)t)
#define F(x, y, z) _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
#define G(x, y, z) _mm256_xor_si256(y, _mm256_and_si256(z, _mm256_xor_si256(x, y)))
#define H(x, y, z) _mm256_xor_si256(x, _mm256_xor_si256(y, z))
#define I(x, y, z) _mm256_xor_si256(y, _mm256_or_si256(x, _mm256_xor_si256(z, _mm256_set1_epi32(-1))))

/* RFC 1321, section 3.4, on each lane. A step waits for the one before through the function, an addition, the rotation
   and an addition: what else is added is ready. */
#define STEP(function, a, b, c, d, k, s, t) \
  a = ADD(b, ROL(ADD(ADD(a, ADD(w[k], VALUE(t))), function(b, c, d)), s))

#define MD5_STEPS(a, b, c, d) \
  STEP(F, a, b, c, d, 0, 7, 0xd76aa478); \
  STEP(F, d, a, b, c, 1, 12, 0xe8c7b756); \
  STEP(F, c, d, a, b, 2, 17, 0x242070db); \
  STEP(F, b, c, d, a, 3, 22, 0xc1bdceee); \
  STEP(F, a, b, c, d, 4, 7, 0xf57c0faf); \
  STEP(F, d, a, b, c, 5, 12, 0x4787c62a); \
  STEP(F, c, d, a, b, 6, 17, 0xa8304613); \
  STEP(F, b, c, d, a, 7, 22, 0xfd469501); \
  STEP(F, a, b, c, d, 8, 7, 0x698098d8); \
  STEP(F, d, a, b, c, 9, 12, 0x8b44f7af); \
  STEP(F, c, d, a, b, 10, 17, 0xffff5bb1); \
  STEP(F, b, c, d, a, 11, 22, 0x895cd7be); \
  STEP(F, a, b, c, d, 12, 7, 0x6b901122); \
  STEP(F, d, a, b, c, 13, 12, 0xfd987193); \
  STEP(F, c, d, a, b, 14, 17, 0xa679438e); \
  STEP(F, b, c, d, a, 15, 22, 0x49b40821); \
  STEP(G, a, b, c, d, 1, 5, 0xf61e2562); \
  STEP(G, d, a, b, c, 6, 9, 0xc040b340); \
  STEP(G, c, d, a, b, 11, 14, 0x265e5a51); \
  STEP(G, b, c, d, a, 0, 20, 0xe9b6c7aa); \
  STEP(G, a, b, c, d, 5, 5, 0xd62f105d); \
  STEP(G, d, a, b, c, 10, 9, 0x02441453); \
  STEP(G, c, d, a, b, 15, 14, 0xd8a1e681); \
  STEP(G, b, c, d, a, 4, 20, 0xe7d3fbc8); \
  STEP(G, a, b, c, d, 9, 5, 0x21e1cde6); \
  STEP(G, d, a, b, c, 14, 9, 0xc33707d6); \
  STEP(G, c, d, a, b, 3, 14, 0xf4d50d87); \
  STEP(G, b, c, d, a, 8, 20, 0x455a14ed); \
  STEP(G, a, b, c, d, 13, 5, 0xa9e3e905); \
  STEP(G, d, a, b, c, 2, 9, 0xfcefa3f8); \
  STEP(G, c, d, a, b, 7, 14, 0x676f02d9); \
  STEP(G, b, c, d, a, 12, 20, 0x8d2a4c8a); \
  STEP(H, a, b, c, d, 5, 4, 0xfffa3942); \
  STEP(H, d, a, b, c, 8, 11, 0x8771f681); \
  STEP(H, c, d, a, b, 11, 16, 0x6d9d6122); \
  STEP(H, b, c, d, a, 14, 23, 0xfde5380c); \
  STEP(H, a, b, c, d, 1, 4, 0xa4beea44); \
  STEP(H, d, a, b, c, 4, 11, 0x4bdecfa9); \
  STEP(H, c, d, a, b, 7, 16, 0xf6bb4b60); \
  STEP(H, b, c, d, a, 10, 23, 0xbebfbc70); \
  STEP(H, a, b, c, d, 13, 4, 0x289b7ec6); \
  STEP(H, d, a, b, c, 0, 11, 0xeaa127fa); \
  STEP(H, c, d, a, b, 3, 16, 0xd4ef3085); \
  STEP(H, b, c, d, a, 6, 23, 0x04881d05); \
  STEP(H, a, b, c, d, 9, 4, 0xd9d4d039); \
  STEP(H, d, a, b, c, 12, 11, 0xe6db99e5); \
  STEP(H, c, d, a, b, 15, 16, 0x1fa27cf8); \
  STEP(H, b, c, d, a, 2, 23, 0xc4ac5665); \
  STEP(I, a, b, c, d, 0, 6, 0xf4292244); \
  STEP(I, d, a, b, c, 7, 10, 0x432aff97); \
  STEP(I, c, d, a, b, 14, 15, 0xab9423a7); \
  STEP(I, b, c, d, a, 5, 21, 0xfc93a039); \
  STEP(I, a, b, c, d, 12, 6, 0x655b59c3); \
  STEP(I, d, a, b, c, 3, 10, 0x8f0ccc92); \
  STEP(I, c, d, a, b, 10, 15, 0xffeff47d); \
  STEP(I, b, c, d, a, 1, 21, 0x85845dd1); \
  STEP(I, a, b, c, d, 8, 6, 0x6fa87e4f); \
  STEP(I, d, a, b, c, 15, 10, 0xfe2ce6e0); \
  STEP(I, c, d, a, b, 6, 15, 0xa3014314); \
  STEP(I, b, c, d, a, 13, 21, 0x4e0811a1); \
  STEP(I, a, b, c, d, 4, 6, 0xf7537e82); \
  STEP(I, d, a, b, c, 11, 10, 0xbd3af235); \
  STEP(I, c, d, a, b, 2, 15, 0x2ad7d2bb); \
  STEP(I, b, c, d, a, 9, 21, 0xeb86d391);

__attribute__((always_inline)) WIDE static inline __m256i rotate(__m256i x, int s) {
  return _mm256_or_si256(_mm256_slli_epi32(x, s), _mm256_srli_epi32(x, 32 - s));
}

/* Word j of row i becomes word i of row j. */
__attribute__((always_inline)) WIDE static inline void transpose8(__m256i rows[8]) {
  __m256i t[8], u[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    t[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    rows[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
  }
}

WIDE static void compress(uint32_t *const *states, const uint8_t *const *inputs, size_t count) {
  __m256i w[16];
  const uint8_t *input[8];
  for (int lane = 0; lane < LANES; lane++) {
    w[lane] = _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)states[lane]));
    input[lane] = inputs[lane];
  }
  transpose8(w);
  __m256i a = w[0], b = w[1], c = w[2], d = w[3];
  for (; count > 0; count--) {
    for (int lane = 0; lane < LANES; lane++) {
      w[lane] = _mm256_loadu_si256((const __m256i *)input[lane]);
      w[8 + lane] = _mm256_loadu_si256((const __m256i *)(input[lane] + 32));
      input[lane] += 64;
    }
    transpose8(w);
    transpose8(w + 8);
    const __m256i a0 = a, b0 = b, c0 = c, d0 = d;
    MD5_STEPS(a, b, c, d);
    a = ADD(a, a0);
    b = ADD(b, b0);
    c = ADD(c, c0);
    d = ADD(d, d0);
  }
  w[0] = a, w[1] = b, w[2] = c, w[3] = d;
  for (int i = 4; i < 8; i++) w[i] = _mm256_setzero_si256();
  transpose8(w);
  for (int lane = 0; lane < LANES; lane++) {
    _mm_storeu_si128((__m128i *)states[lane], _mm256_castsi256_si128(w[lane]));
  }
}

int cairn_md5_lane_count(void) {
  static int known = -1;
  /* Threads that meet here write the same. */
  int count = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (count >= 0) return count;
  count = cairn_features().avx2 ? LANES : 0;
  __atomic_store_n(&known, count, __ATOMIC_RELAXED);
  return count;
}

void cairn_md5_lanes(uint32_t *const *states, const void *const *messages, size_t count, size_t block_count) {
  uint32_t idle[4] = {0}, *all_states[LANES];
  const uint8_t *inputs[LANES];
  if (count == 0 || count > LANES || cairn_md5_lane_count() == 0) __builtin_trap();
  for (size_t i = 0; i < LANES; i++) {
    all_states[i] = i < count ? states[i] : idle;
    inputs[i] = messages[i < count ? i : 0];
  }
  compress(all_states, inputs, block_count);
}

#else

int cairn_md5_lane_count(void) { return 0; }

void cairn_md5_lanes(uint32_t *const *states, const void *const *messages, size_t count, size_t block_count) {
  (void)states, (void)messages, (void)count, (void)block_count;
  __builtin_trap();
}

#endif
