/* The yardsticks of `cairn bench code`: the same work over the same bytes, in C over the libraries themselves.

   usage: loops NAME UNIT SECONDS

   Prints what `cairn bench code --only NAME --size UNIT --runtime SECONDS --json` prints, as far as Benchmarks/compare/code
   reads it; `check` is the same when the same was done. `chunk` is one byte a step; `sha256/openssl` is one stream at a
   time. Contexts are made once, as in Cairn. */
#define _GNU_SOURCE
#define OPENSSL_SUPPRESS_DEPRECATED
#include <isa-l/crc.h>
#include <isa-l/erasure_code.h>
#include <lz4.h>
#include <lz4hc.h>
#include <lzma.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <zstd.h>

static size_t unit, count, bytes_per_run;
static uint64_t check;

static void fail(const char *what) {
  fprintf(stderr, "loops: %s\n", what);
  exit(1);
}

static double clock_of(clockid_t which) {
  struct timespec t;
  clock_gettime(which, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* As Benchmarks/CodeBench/Material.swift has it. */

static uint64_t next(uint64_t *state) {
  uint64_t word = *state += 0x9E3779B97F4A7C15u;
  word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9u;
  word = (word ^ word >> 27) * 0x94D049BB133111EBu;
  return word ^ word >> 31;
}

static uint8_t *memory(size_t size) {
  uint8_t *base = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) fail("out of memory");
  memset(base, 0, size + 1);
  return base;
}

static uint8_t *noise(size_t size, uint64_t seed) {
  uint8_t *base = memory(size);
  for (size_t place = 0; place < size; place += 8) {
    uint64_t word = next(&seed);
    for (size_t i = 0; i < 8 && place + i < size; i++) base[place + i] = (uint8_t)(word >> (8 * i));
  }
  return base;
}

static uint8_t *text(size_t size, uint64_t seed) {
  static struct {
    uint8_t bytes[16];
    size_t count;
  } words[2048];
  for (int w = 0; w < 2048; w++) {
    words[w].count = 3 + next(&seed) % 8;
    for (size_t i = 0; i + 1 < words[w].count; i++) words[w].bytes[i] = (uint8_t)('a' + next(&seed) % 26);
    words[w].bytes[words[w].count - 1] = ' ';
  }
  uint8_t *base = memory(size);
  for (size_t place = 0; place < size;) {
    uint64_t draw = next(&seed), a = draw & 2047, b = draw >> 11 & 2047, c = draw >> 22 & 2047;
    uint64_t w = a < b ? a : b;
    if (c < w) w = c;
    for (size_t i = 0; i < words[w].count && place < size; i++) base[place++] = words[w].bytes[i];
  }
  return base;
}

static uint32_t crc(uint32_t seed, const uint8_t *bytes, size_t size) {
  return ~crc32_iscsi((unsigned char *)bytes, (int)size, ~seed);
}

/* Chunking: FastCDC as Sources/Coding/Chunker.swift documents it, one byte a step. */

static uint64_t gear[256];
static uint8_t *source;
static size_t lengths[1 << 16], length_count;

static size_t cut(const uint8_t *bytes, size_t size) {
  const size_t minimum = 32 << 10, maximum = 128 << 10, bend = 65536 / 32 * 25;
  const uint64_t hard = (((uint64_t)1 << 18) - 1) << 45, easy = (((uint64_t)1 << 14) - 1) << 49;
  size_t limit = size < maximum ? size : maximum;
  if (limit < minimum) return limit;
  uint64_t hash = 0;
  size_t place = minimum - 64;
  for (; place < minimum - 1; place++) hash = (hash << 1) + gear[bytes[place]];
  size_t middle = limit < bend - 1 ? limit : bend - 1;
  while (place < middle) {
    hash = (hash << 1) + gear[bytes[place++]];
    if (!(hash & hard)) return place;
  }
  while (place < limit) {
    hash = (hash << 1) + gear[bytes[place++]];
    if (!(hash & easy)) return place;
  }
  return limit;
}

static void run_chunk(void) {
  length_count = 0;
  for (size_t start = 0; start < unit; start += lengths[length_count++]) {
    lengths[length_count] = cut(source + start, unit - start);
  }
}
static void check_chunk(void) {
  for (size_t i = 0; i < length_count; i++) check = check * 31 + lengths[i];
}

/* Hashing and summing. */

static uint8_t digests[48][32];
static uint32_t *sums;

static void run_sha256(void) {
  for (size_t i = 0; i < count; i++) {
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, source + i * unit, unit);
    SHA256_Final(digests[i], &context);
  }
}
static void check_sha256(void) {
  for (size_t i = 0; i < count; i++) {
    uint64_t word = 0;
    for (int b = 0; b < 8; b++) word = word << 8 | digests[i][b];
    check = check * 31 + word;
  }
}

static void run_crc32c(void) {
  for (size_t i = 0; i < count; i++) sums[i] = ~crc32_iscsi(source + i * unit, (int)unit, ~0u);
}
static void check_crc32c(void) {
  for (size_t i = 0; i < count; i++) check = check * 31 + sums[i];
}

/* Reed-Solomon. */

static int k, m;
static uint8_t *blocks[64], *tables, *inputs[64], *outputs[64];

static void run_rs(void) { ec_encode_data((int)unit, k, m, tables, inputs, outputs); }
static void check_rs(void) {
  uint32_t sum = 0;
  for (int i = 0; i < m; i++) sum = crc(sum, outputs[i], unit);
  check = sum;
}
static void prepare_rs(int is_rebuild) {
  size_t distance = (unit + 4095) / 4096 * 4096 + 4096;
  uint8_t *base = noise((size_t)(k + m) * distance, 4), *matrix = calloc((size_t)(k + m) * k, 1);
  for (int i = 0; i < k + m; i++) blocks[i] = base + (size_t)i * distance;
  gf_gen_cauchy1_matrix(matrix, k + m, k);
  tables = calloc((size_t)32 * k * m, 1);
  ec_init_tables(k, m, matrix + k * k, tables);
  for (int i = 0; i < k; i++) inputs[i] = blocks[i];
  for (int i = 0; i < m; i++) outputs[i] = blocks[k + i];
  run_rs();
  bytes_per_run = (size_t)k * unit;
  if (!is_rebuild) return;
  /* The first m data blocks from the others. */
  uint8_t *known = calloc((size_t)k * k, 1), *inverse = calloc((size_t)k * k, 1);
  for (int i = 0; i < k; i++) {
    memcpy(known + i * k, matrix + (i + m) * k, (size_t)k);
    inputs[i] = blocks[i + m];
  }
  if (gf_invert_matrix(known, inverse, k) != 0) fail("the matrix has no inverse");
  ec_init_tables(k, m, inverse, tables);
  for (int i = 0; i < m; i++) outputs[i] = blocks[i];
}

/* Compression. */

static int level;
static size_t room, sizes[4096];
static uint8_t *target, *back;
static ZSTD_CCtx *zstd;
static ZSTD_DCtx *unzstd;
static void *lz4;
static lzma_stream xz = LZMA_STREAM_INIT, unxz = LZMA_STREAM_INIT;

static void run_zstd(void) {
  for (size_t i = 0; i < count; i++) {
    sizes[i] = ZSTD_compress2(zstd, target + i * room, room, source + i * unit, unit);
  }
}
static void run_unzstd(void) {
  for (size_t i = 0; i < count; i++) {
    if (ZSTD_decompressDCtx(unzstd, back, unit, target + i * room, sizes[i]) != unit) fail("zstd");
  }
}
static void run_lz4(void) {
  for (size_t i = 0; i < count; i++) {
    const char *from = (const char *)(source + i * unit);
    char *to = (char *)(target + i * room);
    sizes[i] = (size_t)(level > 2
                            ? LZ4_compress_HC_extStateHC(lz4, from, to, (int)unit, (int)room, level)
                            : LZ4_compress_fast_extState(lz4, from, to, (int)unit, (int)room, 1));
  }
}
static void run_unlz4(void) {
  for (size_t i = 0; i < count; i++) {
    if (LZ4_decompress_safe((char *)(target + i * room), (char *)back, (int)sizes[i], (int)unit) != (int)unit)
      fail("lz4");
  }
}
static void run_xz(void) {
  for (size_t i = 0; i < count; i++) {
    lzma_options_lzma options;
    lzma_lzma_preset(&options, (uint32_t)level);
    if (unit < options.dict_size) options.dict_size = (uint32_t)unit;
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    if (lzma_stream_encoder(&xz, filters, LZMA_CHECK_NONE) != LZMA_OK) fail("xz");
    xz.next_in = source + i * unit, xz.avail_in = unit;
    xz.next_out = target + i * room, xz.avail_out = room;
    if (lzma_code(&xz, LZMA_FINISH) != LZMA_STREAM_END) fail("xz");
    sizes[i] = room - xz.avail_out;
  }
}
static void run_unxz(void) {
  for (size_t i = 0; i < count; i++) {
    if (lzma_stream_decoder(&unxz, 20 << 20, 0) != LZMA_OK) fail("xz");
    unxz.next_in = target + i * room, unxz.avail_in = sizes[i];
    unxz.next_out = back, unxz.avail_out = unit;
    if (lzma_code(&unxz, LZMA_FINISH) != LZMA_STREAM_END) fail("xz");
  }
}
static void check_sizes(void) {
  for (size_t i = 0; i < count; i++) check += sizes[i];
}
static void check_back(void) { check = crc(0, back, unit); }

static void prepare_pieces(size_t total, size_t (*bound)(size_t)) {
  count = total / unit ? total / unit : 1;
  if (count > sizeof sizes / sizeof *sizes) fail("too many pieces");
  room = bound(unit);
  source = text(count * unit, 5);
  target = memory(count * room);
  back = memory(unit);
  bytes_per_run = count * unit;
}
static size_t lz4_bound(size_t size) { return (size_t)LZ4_compressBound((int)size); }

/* Encryption. */

static EVP_CIPHER_CTX *cipher;
static const uint8_t nonce[12] = {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2};

static void seal(const uint8_t *plain, uint8_t *sealed) {
  int n;
  if (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce) != 1
      || EVP_EncryptUpdate(cipher, sealed, &n, plain, (int)unit) != 1
      || EVP_EncryptFinal_ex(cipher, sealed + unit, &n) != 1
      || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, 16, sealed + unit) != 1)
    fail("AES-256-GCM");
}
static void run_seal(void) {
  for (size_t i = 0; i < count; i++) seal(source + i * unit, target);
}
static void check_seal(void) { check = crc(0, target, unit + 16); }
static void run_open(void) {
  for (size_t i = 0; i < count; i++) {
    int n;
    uint8_t *sealed = target + i * (unit + 16);
    if (EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, nonce) != 1
        || EVP_DecryptUpdate(cipher, back, &n, sealed, (int)unit) != 1
        || EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, 16, sealed + unit) != 1
        || EVP_DecryptFinal_ex(cipher, back + unit, &n) != 1)
      fail("AES-256-GCM");
  }
}
static void prepare_cipher(int is_open) {
  uint8_t key[32];
  for (int i = 0; i < 32; i++) key[i] = (uint8_t)i;
  EVP_CIPHER *algorithm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
  cipher = EVP_CIPHER_CTX_new();
  count = (1 << 20) / unit ? (1 << 20) / unit : 1;
  source = noise(count * unit, 6);
  target = memory(count * (unit + 16));
  back = memory(unit + 16);
  EVP_EncryptInit_ex(cipher, algorithm, NULL, key, NULL);
  if (is_open) {
    for (size_t i = 0; i < count; i++) seal(source + i * unit, target + i * (unit + 16));
    cipher = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(cipher, algorithm, NULL, key, NULL);
  }
  bytes_per_run = count * unit;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void print_spread(const char *name, double *samples, size_t n) {
  qsort(samples, n, sizeof *samples, compare);
  printf("\"%s\":{\"median\":%.9g,\"low\":%.9g,\"high\":%.9g},", name, samples[(n - 1 + 1) / 2],
         samples[(size_t)((double)(n - 1) * 0.25 + 0.5)], samples[(size_t)((double)(n - 1) * 0.75 + 0.5)]);
}

int main(int argc, char **argv) {
  if (argc != 4) fail("usage: loops NAME UNIT SECONDS");
  const char *name = argv[1];
  unit = strtoul(argv[2], NULL, 10);
  double seconds = strtod(argv[3], NULL);
  if (unit < 64 || unit > 64 << 20) fail("UNIT is 64 to 67108864");
  void (*run)(void) = NULL, (*finish)(void) = NULL;
  char way[16] = "";
  if (strcmp(name, "chunk") == 0) {
    uint64_t seed = 0x436169726e476561u;
    for (int i = 0; i < 256; i++) gear[i] = next(&seed);
    source = noise(unit, 1), bytes_per_run = unit;
    run = run_chunk, finish = check_chunk;
  } else if (strncmp(name, "sha256/", 7) == 0) {
    count = 48, source = noise(count * unit, 2), bytes_per_run = count * unit;
    run = run_sha256, finish = check_sha256;
  } else if (strcmp(name, "crc32c") == 0) {
    count = (1 << 20) / unit ? (1 << 20) / unit : 1;
    source = noise(count * unit, 3), sums = calloc(count, 4), bytes_per_run = count * unit;
    run = run_crc32c, finish = check_crc32c;
  } else if (sscanf(name, "rs/%d+%d/%15s", &k, &m, way) == 3 && k > 1 && m > 0 && m < k && k + m < 64) {
    prepare_rs(strcmp(way, "rebuild") == 0);
    run = run_rs, finish = check_rs;
  } else if (sscanf(name, "zstd/%d/%15s", &level, way) == 2) {
    prepare_pieces(level < 10 ? 4 << 20 : 1 << 20, ZSTD_compressBound);
    zstd = ZSTD_createCCtx(), unzstd = ZSTD_createDCtx();
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, level);
    run_zstd();
    run = way[0] == 'd' ? run_unzstd : run_zstd, finish = way[0] == 'd' ? check_back : check_sizes;
  } else if (sscanf(name, "lz4/%d/%15s", &level, way) == 2) {
    prepare_pieces(4 << 20, lz4_bound);
    lz4 = malloc((size_t)(level > 2 ? LZ4_sizeofStateHC() : LZ4_sizeofState()));
    run_lz4();
    run = way[0] == 'd' ? run_unlz4 : run_lz4, finish = way[0] == 'd' ? check_back : check_sizes;
  } else if (sscanf(name, "xz/%d/%15s", &level, way) == 2) {
    prepare_pieces(1 << 20, lzma_stream_buffer_bound);
    run_xz();
    run = way[0] == 'd' ? run_unxz : run_xz, finish = way[0] == 'd' ? check_back : check_sizes;
  } else if (strncmp(name, "aes256gcm/", 10) == 0) {
    prepare_cipher(name[10] == 'o');
    run = name[10] == 'o' ? run_open : run_seal, finish = name[10] == 'o' ? check_back : check_seal;
  } else {
    fail("no such work");
  }

  /* As Benchmarks/CodeBench/CodeBench.swift measures. */
  run();
  double begin = clock_of(CLOCK_THREAD_CPUTIME_ID);
  run();
  double once = clock_of(CLOCK_THREAD_CPUTIME_ID) - begin;
  size_t repeats = once > 0 && once < 0.004 ? (size_t)(0.004 / once) : 1, n = 0, limit = 1 << 20;
  double gigabytes = (double)bytes_per_run * (double)repeats / 1e9;
  double *rates = malloc(limit * sizeof *rates), *costs = malloc(limit * sizeof *costs);
  double end = clock_of(CLOCK_MONOTONIC) + seconds;
  do {
    double start = clock_of(CLOCK_MONOTONIC), busy = clock_of(CLOCK_THREAD_CPUTIME_ID);
    for (size_t i = 0; i < repeats; i++) run();
    busy = clock_of(CLOCK_THREAD_CPUTIME_ID) - busy;
    rates[n] = gigabytes / (clock_of(CLOCK_MONOTONIC) - start);
    costs[n++] = busy / gigabytes;
  } while (n < limit && (clock_of(CLOCK_MONOTONIC) < end || n < 3));
  finish();
  printf("{\"name\":\"%s\",\"unitBytes\":%zu,\"samples\":%zu,", name, unit, n);
  print_spread("gigabytesPerSecond", rates, n);
  print_spread("cpuSecondsPerGigabyte", costs, n);
  printf("\"check\":\"%llu\"}\n", (unsigned long long)check);
  return 0;
}
