#include "kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>

struct cairn_features cairn_features(void) {
  struct cairn_features found = {false, false, false, false};
  unsigned a, b, c, d, extended;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
  if (!__get_cpuid_count(7, 0, &a, &extended, &d, &d)) return found;
  found.sha = (c & bit_SSSE3) && (c & bit_SSE4_1) && (extended & bit_SHA);
  if (!(c & bit_OSXSAVE)) return found;
  /* Whether the system saves those registers: XMM and YMM; the masks and both parts of ZMM. */
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  found.avx = (c & bit_AVX) && (low & 0x06) == 0x06;
  found.avx2 = found.avx && (extended & bit_AVX2);
  found.avx512 = found.avx && (low & 0xe0) == 0xe0 && (extended & bit_AVX512F) && (extended & bit_AVX512BW)
                 && (extended & bit_AVX512VL);
  return found;
}

#endif
