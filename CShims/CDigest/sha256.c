#include "CDigest.h"
#include "kernels.h"

#include <string.h>

const uint32_t cairn_sha256_constants[64] __attribute__((aligned(64))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#if defined(__x86_64__)

#define BLOCK CAIRN_SHA256_BLOCK
#define MOST 16
/* With fewer messages than this a run of the wide kernel, which costs the same for one as for sixteen, is slower than
   the SHA extensions. */
#define WORTH_WIDE 12

static bool suits(struct cairn_features has, enum cairn_sha256_kernel kernel) {
  switch (kernel) {
  case CAIRN_SHA256_TWO: return has.sha;
  case CAIRN_SHA256_THREE: return has.sha && has.avx;
  case CAIRN_SHA256_THREE_AVX512: return has.sha && has.avx512;
  case CAIRN_SHA256_SIXTEEN: return has.sha && has.avx512;
  case CAIRN_SHA256_SIXTEEN_ALONE: return has.avx512;
  }
  return false;
}

bool cairn_sha256_is_available(enum cairn_sha256_kernel kernel) { return suits(cairn_features(), kernel); }

/* How many messages run side by side, and what runs so many of them. */
struct plan {
  int lanes;
  cairn_sha256_compress *one, *two, *three, *sixteen;
};

static struct plan plans[5];
static bool is_planned[5];

static struct plan plan_for(enum cairn_sha256_kernel kernel) {
  /* Threads that meet here write the same. */
  if (__atomic_load_n(&is_planned[kernel], __ATOMIC_ACQUIRE)) return plans[kernel];
  const struct cairn_features has = cairn_features();
  if (!suits(has, kernel)) __builtin_trap();
  struct plan plan = {0};
  switch (kernel) {
  case CAIRN_SHA256_TWO: plan = (struct plan){2, cairn_sha256_ni1, cairn_sha256_ni2, NULL, NULL}; break;
  case CAIRN_SHA256_THREE:
    plan = (struct plan){3, cairn_sha256_ni1, cairn_sha256_ni2, cairn_sha256_ni3_avx, NULL};
    break;
  case CAIRN_SHA256_THREE_AVX512:
    plan = (struct plan){3, cairn_sha256_ni1, cairn_sha256_ni2_avx512, cairn_sha256_ni3_avx512, NULL};
    break;
  case CAIRN_SHA256_SIXTEEN:
    plan = (struct plan){
        16, cairn_sha256_ni1, cairn_sha256_ni2_avx512, cairn_sha256_ni3_avx512, cairn_sha256_wide16};
    break;
  case CAIRN_SHA256_SIXTEEN_ALONE: plan = (struct plan){16, NULL, NULL, NULL, cairn_sha256_wide16}; break;
  }
  plans[kernel] = plan;
  __atomic_store_n(&is_planned[kernel], true, __ATOMIC_RELEASE);
  return plan;
}

/* One message on its way: first its whole blocks, then the one or two with the padding. */
struct lane {
  uint32_t state[8];
  const uint8_t *input;
  size_t blocks;
  size_t message;
  bool is_padded;
  uint8_t tail[2 * BLOCK];
};

static void begin(struct lane *lane, size_t index, const void *message, size_t byte_count) {
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(lane->state, initial, sizeof initial);
  lane->input = message;
  lane->blocks = byte_count / BLOCK;
  lane->message = index;
  lane->is_padded = false;
}

/* A one bit, zeros, the length in bits. */
static void pad(struct lane *lane, const uint8_t *rest, size_t byte_count) {
  size_t left = byte_count % BLOCK;
  lane->blocks = left + 9 <= BLOCK ? 1 : 2;
  memset(lane->tail, 0, sizeof lane->tail);
  if (left > 0) memcpy(lane->tail, rest, left);
  lane->tail[left] = 0x80;
  uint64_t bits = (uint64_t)byte_count * 8;
  for (int i = 0; i < 8; i++) {
    lane->tail[lane->blocks * BLOCK - 1 - i] = (uint8_t)(bits >> (8 * i));
  }
  lane->input = lane->tail;
  lane->is_padded = true;
}

static void store(const struct lane *lane, uint8_t *digest) {
  for (int i = 0; i < 8; i++) {
    uint32_t word = __builtin_bswap32(lane->state[i]);
    memcpy(digest + 4 * i, &word, 4);
  }
}

/* Runs so many of the first lanes side by side as suits their number, for as long as none of them ends. Returns how
   many those were. */
static int step(const struct plan *plan, struct lane *lanes, int active) {
  int width = active;
  bool is_wide = plan->sixteen && (active >= WORTH_WIDE || !plan->one);
  if (!is_wide && width > 3) width = 3;
  if (width == 3 && !is_wide && !plan->three) width = 2;
  size_t run = SIZE_MAX;
  uint32_t *states[MOST], idle[8] = {0};
  const uint8_t *inputs[MOST];
  for (int i = 0; i < width; i++) {
    if (lanes[i].blocks < run) run = lanes[i].blocks;
    states[i] = lanes[i].state;
    inputs[i] = lanes[i].input;
  }
  if (is_wide) {
    for (int i = width; i < MOST; i++) {
      states[i] = idle;
      inputs[i] = inputs[0];
    }
    plan->sixteen(states, inputs, run);
  } else if (width == 3) {
    plan->three(states, inputs, run);
  } else if (width == 2) {
    plan->two(states, inputs, run);
  } else {
    plan->one(states, inputs, run);
  }
  for (int i = 0; i < width; i++) {
    lanes[i].input += run * BLOCK;
    lanes[i].blocks -= run;
  }
  return width;
}

void cairn_sha256_many(
    enum cairn_sha256_kernel kernel, const void *const *messages, const size_t *byte_counts, size_t count,
    uint8_t *digests) {
  const struct plan plan = plan_for(kernel);
  struct lane lanes[MOST];
  int active = 0;
  size_t next = 0;
  while (true) {
    while (active < plan.lanes && next < count) {
      begin(&lanes[active], next, messages[next], byte_counts[next]);
      /* A message of less than a block begins with its padding. */
      if (lanes[active].blocks == 0) pad(&lanes[active], messages[next], byte_counts[next]);
      active++;
      next++;
    }
    if (active == 0) return;
    int width = step(&plan, lanes, active);
    for (int i = width - 1; i >= 0; i--) {
      struct lane *lane = &lanes[i];
      if (lane->blocks > 0) continue;
      if (!lane->is_padded) {
        pad(lane, lane->input, byte_counts[lane->message]);
        continue;
      }
      store(lane, digests + 32 * lane->message);
      active--;
      if (i < active) {
        const struct lane *last = &lanes[active];
        /* Copying moves the padding's memory too. */
        const size_t place = last->is_padded ? (size_t)(last->input - last->tail) : 0;
        *lane = *last;
        if (lane->is_padded) lane->input = lane->tail + place;
      }
    }
  }
}

#else

bool cairn_sha256_is_available(enum cairn_sha256_kernel kernel) {
  (void)kernel;
  return false;
}

void cairn_sha256_many(
    enum cairn_sha256_kernel kernel, const void *const *messages, const size_t *byte_counts, size_t count,
    uint8_t *digests) {
  (void)kernel, (void)messages, (void)byte_counts, (void)count, (void)digests;
  __builtin_trap();
}

#endif
