/* tjit.c: the loader of packages. The formats are described in tjit/export/package.py, tjit/export/table.py and
 * tjit/runtime/image.py; the calling convention of programs in docs/design/0001-native-programs.md.
 *
 * Nothing of a file is used before it was checked: sizes and offsets against what is there, checksums over every byte.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getcpu, sched_getaffinity, syscall */
#endif

#include "tjit.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum { KIND_TABLE = 2, KIND_WEIGHTS = 3, KIND_IMAGE = 5, KIND_POOL = 6, KIND_EXTRA = 8 };
enum { FORMAT_VERSION = 1, HEADER_SIZE = 64, ROW_SIZE = 32, IMAGE_VERSION = 1, IMAGE_HEADER = 64 };
enum { FLAG_NUMBER = 1, FLAG_WRITTEN = 2 };
enum { DIM_EXTENT = 0, DIM_SYMBOL = 1, DIM_COMPUTED = 2 };
enum { MACHINE_X86_64 = 62, MACHINE_AARCH64 = 183, MAX_RANK = 64, MAX_THREADS = 1024 };

typedef int32_t program_fn(void *pool, void **buffers, const int64_t *symbols);
typedef void plan_fn(const int64_t *symbols, int64_t *out);
typedef void *pool_create_fn(int32_t threads);
typedef void pool_destroy_fn(void *pool);
typedef void pool_resize_fn(void *pool, int32_t threads);

typedef struct {
  uint32_t kind, entry, target;
  size_t offset, size, padded;
  size_t row; /* where its row is in the file */
} section;

typedef struct {
  tjit_value value;
  int32_t *kinds;   /* of each dim */
  int64_t *numbers; /* an extent or a symbol's number */
} field;

typedef struct {
  const char *name;
  int64_t minimum, maximum;
  uint32_t argument, dim;
} symbol;

typedef struct {
  uint32_t number;
  const char *where;
} check;

typedef struct {
  field type;
  size_t offset, size; /* in the file */
} state;

typedef struct {
  uint8_t *base; /* mapped code; NULL: not loaded */
  size_t size;
  const uint8_t *file; /* the image's bytes */
  uint32_t n_exports;
  size_t exports, strings, strings_size;
} image;

typedef struct {
  uint32_t is_state, number;
} program_input;

struct tjit_entry {
  tjit_package *package;
  const char *name;
  symbol *symbols;
  field *inputs, *outputs;
  program_input *program_inputs;
  check *checks;
  uint32_t n_symbols, n_inputs, n_outputs, n_program_inputs, n_checks;
  uint32_t n_plan; /* 1 + dims of all outputs */
  int writes_state;
  image code;
  program_fn *run;
  plan_fn *plan;
};

typedef struct arena {
  struct arena *next;
  size_t size;
  void *memory;
} arena;

typedef struct block {
  struct block *next;
  void *memory;
} block;

struct tjit_package {
  uint8_t *file; /* the whole file, aligned to 64; state lives in its weights */
  size_t size;
  section *sections;
  uint32_t n_sections;
  const section *weights;
  const char *target;
  uint32_t target_number;
  state *states;
  const char **extra;
  tjit_entry *entries;
  uint32_t n_states, n_extra, n_entries;
  image pool_image;
  void *pool;
  pool_destroy_fn *pool_destroy;
  pool_resize_fn *pool_resize;
  int threads;
  int has_locks;
  pthread_rwlock_t state_lock; /* state, and the checksums of the file that lie over it */
  pthread_mutex_t arena_lock;
  arena *arenas; /* not in use */
  block *blocks; /* what tjit_free frees */
};

/* -- errors and memory -- */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static int fail(tjit_error *error, int code, const char *format, ...) {
  if (error != NULL) {
    va_list arguments;
    va_start(arguments, format);
    error->code = code;
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return code;
}

static int succeed(tjit_error *error) {
  if (error != NULL) {
    error->code = TJIT_OK;
    error->message[0] = 0;
  }
  return TJIT_OK;
}

/* Zeroed memory that lives as long as the package; NULL when there is none. */
static void *package_alloc(tjit_package *p, size_t count, size_t size) {
  block *b = (block *)malloc(sizeof *b);
  if (b == NULL) return NULL;
  b->memory = calloc(count ? count : 1, size);
  if (b->memory == NULL) {
    free(b);
    return NULL;
  }
  b->next = p->blocks;
  p->blocks = b;
  return b->memory;
}

static void *aligned_memory(size_t size) {
  if (size > SIZE_MAX - 64) return NULL;
  return aligned_alloc(64, (size + 63) / 64 * 64 + (size == 0 ? 64 : 0));
}

/* -- numbers in a file -- */

static uint32_t read_u32(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t read_u64(const uint8_t *p) { return read_u32(p) | (uint64_t)read_u32(p + 4) << 32; }

static void write_u32(uint8_t *p, uint32_t value) {
  int i;
  for (i = 0; i < 4; i++) p[i] = (uint8_t)(value >> 8 * i);
}

/* CRC-32 as zlib's, eight bytes at a time ("slicing by 8"). The tables live on the stack: there is no global state. */
static uint32_t crc32_of(const uint8_t *data, size_t size) {
  uint32_t t[8][256], crc = 0xFFFFFFFFu;
  uint32_t i, k;
  for (i = 0; i < 256; i++) {
    uint32_t c = i;
    for (k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ c >> 1 : c >> 1;
    t[0][i] = c;
  }
  for (i = 0; i < 256; i++)
    for (k = 1; k < 8; k++) t[k][i] = t[0][t[k - 1][i] & 255] ^ t[k - 1][i] >> 8;
  for (; size >= 8; size -= 8, data += 8) {
    uint32_t a = crc ^ read_u32(data), b = read_u32(data + 4);
    crc = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24] ^ t[3][b & 255] ^ t[2][b >> 8 & 255] ^
          t[1][b >> 16 & 255] ^ t[0][b >> 24];
  }
  for (; size > 0; size--, data++) crc = t[0][(crc ^ *data) & 255] ^ crc >> 8;
  return ~crc;
}

/* -- the package file -- */

static const char *section_name(uint32_t kind) {
  static const char *const names[] = {"section", "manifest", "table", "weights",    "graph",
                                      "image",   "pool",     "header", "extra file"};
  return kind < sizeof names / sizeof *names ? names[kind] : "section";
}

static int read_sections(tjit_package *p, tjit_error *error) {
  const uint8_t *f = p->file;
  size_t start, at;
  uint32_t n, i;
  if (p->size < HEADER_SIZE) return fail(error, TJIT_ERROR_FORMAT, "the package is cut short: %zu bytes", p->size);
  if (memcmp(f, "TJITPKG\0", 8) != 0)
    return fail(error, TJIT_ERROR_FORMAT, "this is no package: it does not start with a package's magic bytes");
  if (read_u32(f + 8) != FORMAT_VERSION)
    return fail(error, TJIT_ERROR_VERSION, "the package has format version %" PRIu32 ", this loader reads version %d",
                read_u32(f + 8), FORMAT_VERSION);
  n = read_u32(f + 24);
  if (n > (p->size - HEADER_SIZE) / ROW_SIZE)
    return fail(error, TJIT_ERROR_FORMAT, "the package is damaged or cut short: its table of sections does not fit");
  start = (HEADER_SIZE + (size_t)ROW_SIZE * n + 63) / 64 * 64;
  if (start > p->size) return fail(error, TJIT_ERROR_FORMAT, "the package is cut short in its table of sections");
  if (crc32_of(f + 16, start - 16) != read_u32(f + 12))
    return fail(error, TJIT_ERROR_FORMAT, "the package is damaged: the checksum of its header does not fit");
  if (read_u64(f + 16) != p->size)
    return fail(error, TJIT_ERROR_FORMAT, "the package should have %" PRIu64 " bytes and has %zu", read_u64(f + 16), p->size);
  p->sections = (section *)package_alloc(p, n, sizeof *p->sections);
  if (p->sections == NULL) return fail(error, TJIT_ERROR_MEMORY, "out of memory");
  p->n_sections = n;
  for (at = start, i = 0; i < n; i++) {
    const uint8_t *row = f + HEADER_SIZE + (size_t)ROW_SIZE * i;
    section *s = &p->sections[i];
    uint64_t offset = read_u64(row + 16), size = read_u64(row + 24);
    s->kind = read_u32(row);
    s->entry = read_u32(row + 4);
    s->target = read_u32(row + 8);
    if (offset != at || size > p->size - at || (p->size - at) / 64 * 64 < size)
      return fail(error, TJIT_ERROR_FORMAT, "the package is malformed: its %s lies outside of it", section_name(s->kind));
    s->offset = at;
    s->size = (size_t)size;
    s->padded = (size_t)((size + 63) / 64 * 64);
    s->row = (size_t)(row - f);
    at += s->padded;
    if (crc32_of(f + s->offset, s->padded) != read_u32(row + 12))
      return fail(error, TJIT_ERROR_FORMAT, "the package is damaged: the checksum of its %s does not fit",
                  section_name(s->kind));
  }
  if (at != p->size) return fail(error, TJIT_ERROR_FORMAT, "the package is malformed: its sections do not fill it");
  return TJIT_OK;
}

static const section *find_section(const tjit_package *p, uint32_t kind, uint32_t entry, uint32_t target) {
  uint32_t i;
  for (i = 0; i < p->n_sections; i++) {
    const section *s = &p->sections[i];
    if (s->kind == kind && s->entry == entry && s->target == target) return s;
  }
  return NULL;
}

/* -- the table -- */

typedef struct {
  tjit_package *package;
  const uint8_t *at, *end;
  int status; /* TJIT_OK until something is wrong; all reads give 0 then */
} reader;

static void spoil(reader *r, int status) {
  if (r->status == TJIT_OK) r->status = status;
  r->at = r->end;
}

static uint32_t take_u32(reader *r) {
  uint32_t value;
  if (r->end - r->at < 4) {
    spoil(r, TJIT_ERROR_FORMAT);
    return 0;
  }
  value = read_u32(r->at);
  r->at += 4;
  return value;
}

static int64_t take_i64(reader *r) {
  uint64_t value;
  if (r->end - r->at < 8) {
    spoil(r, TJIT_ERROR_FORMAT);
    return 0;
  }
  value = read_u64(r->at);
  r->at += 8;
  return (int64_t)value;
}

/* The string lies in the file, with a NUL behind it and none inside. */
static const char *take_string(reader *r) {
  uint32_t length = take_u32(r);
  const char *text = (const char *)r->at;
  if (r->status != TJIT_OK || (size_t)(r->end - r->at) <= length || memchr(text, 0, (size_t)length + 1) != text + length) {
    spoil(r, TJIT_ERROR_FORMAT);
    return "";
  }
  r->at += (size_t)length + 1;
  return text;
}

/* A count, and zeroed memory for as many items; each item has at least 4 bytes in the table. */
static void *take_items(reader *r, uint32_t *count, size_t size) {
  void *memory;
  *count = take_u32(r);
  if (*count > (size_t)(r->end - r->at) / 4) {
    spoil(r, TJIT_ERROR_FORMAT);
    *count = 0;
  }
  memory = package_alloc(r->package, *count, size);
  if (memory == NULL) {
    spoil(r, TJIT_ERROR_MEMORY);
    *count = 0;
  }
  return memory;
}

static int known_dtype(DLDataType t) {
  int wide = t.bits == 8 || t.bits == 16 || t.bits == 32 || t.bits == 64;
  if (t.code == kDLInt) return wide;
  if (t.code == kDLUInt || t.code == kDLBool) return t.bits == 8;
  return (t.code == kDLFloat && wide && t.bits != 8) || (t.code == kDLBfloat && t.bits == 16);
}

static void take_type(reader *r, field *f, uint32_t n_symbols) {
  int64_t *shape;
  uint32_t code = take_u32(r), bits = take_u32(r), rank = take_u32(r), i;
  f->value.dtype.code = (uint8_t)code;
  f->value.dtype.bits = (uint8_t)bits;
  f->value.dtype.lanes = 1;
  if (code > 255 || bits > 255 || rank > MAX_RANK || !known_dtype(f->value.dtype)) spoil(r, TJIT_ERROR_FORMAT);
  if (r->status != TJIT_OK) return;
  f->kinds = (int32_t *)package_alloc(r->package, rank, sizeof *f->kinds);
  f->numbers = (int64_t *)package_alloc(r->package, rank, sizeof *f->numbers);
  shape = (int64_t *)package_alloc(r->package, rank, sizeof *shape);
  if (f->kinds == NULL || f->numbers == NULL || shape == NULL) {
    spoil(r, TJIT_ERROR_MEMORY);
    return;
  }
  for (i = 0; i < rank; i++) {
    uint32_t kind = take_u32(r);
    int64_t number = take_i64(r);
    int bad = kind == DIM_SYMBOL ? number < 0 || number >= (int64_t)n_symbols : number < 0;
    if (kind > DIM_COMPUTED || bad) spoil(r, TJIT_ERROR_FORMAT);
    f->kinds[i] = (int32_t)kind;
    f->numbers[i] = number;
    shape[i] = kind == DIM_EXTENT ? number : -1;
  }
  f->value.shape = shape;
  f->value.ndim = (int32_t)rank;
}

static void take_field(reader *r, field *f, uint32_t n_symbols) {
  uint32_t flags;
  f->value.name = take_string(r);
  f->value.type = take_string(r);
  take_type(r, f, n_symbols);
  flags = take_u32(r);
  f->value.written = (flags & FLAG_WRITTEN) != 0;
  f->value.number = (flags & FLAG_NUMBER) != 0;
}

/* Bytes of an array; -1 where that is more than memory can have. */
static int64_t array_bytes(const DLDataType *dtype, int32_t ndim, const int64_t *shape) {
  uint64_t bytes = dtype->bits / 8u;
  int32_t i;
  for (i = 0; i < ndim; i++)
    if (shape[i] == 0) return 0;
  for (i = 0; i < ndim; i++) {
    if (shape[i] < 0 || (uint64_t)shape[i] > (uint64_t)INT64_MAX / bytes) return -1;
    bytes *= (uint64_t)shape[i];
  }
  return (int64_t)bytes;
}

static void take_state(reader *r, state *s) {
  const section *w = r->package->weights;
  int64_t offset, size;
  take_field(r, &s->type, 0);
  offset = take_i64(r);
  size = take_i64(r);
  if (r->status != TJIT_OK) return;
  if (offset < 0 || size < 0 || (uint64_t)offset > w->size || (uint64_t)size > w->size - (uint64_t)offset ||
      size != array_bytes(&s->type.value.dtype, s->type.value.ndim, s->type.value.shape) ||
      (size > 0 && offset % (s->type.value.dtype.bits / 8) != 0) ||
      (s->type.value.number && (s->type.value.dtype.code != kDLFloat || size != 8))) {
    spoil(r, TJIT_ERROR_FORMAT);
    return;
  }
  s->offset = w->offset + (size_t)offset;
  s->size = (size_t)size;
}

static void take_symbol(reader *r, symbol *s) {
  s->name = take_string(r);
  s->minimum = take_i64(r);
  s->maximum = take_i64(r);
  s->argument = take_u32(r);
  s->dim = take_u32(r);
}

static void take_entry(reader *r, tjit_entry *e) {
  uint32_t i;
  e->package = r->package;
  e->name = take_string(r);
  e->symbols = (symbol *)take_items(r, &e->n_symbols, sizeof *e->symbols);
  for (i = 0; i < e->n_symbols; i++) take_symbol(r, &e->symbols[i]);
  e->inputs = (field *)take_items(r, &e->n_inputs, sizeof *e->inputs);
  for (i = 0; i < e->n_inputs; i++) take_field(r, &e->inputs[i], e->n_symbols);
  e->outputs = (field *)take_items(r, &e->n_outputs, sizeof *e->outputs);
  for (i = 0, e->n_plan = 1; i < e->n_outputs; i++) {
    take_field(r, &e->outputs[i], e->n_symbols);
    e->n_plan += (uint32_t)e->outputs[i].value.ndim;
  }
  e->program_inputs = (program_input *)take_items(r, &e->n_program_inputs, sizeof *e->program_inputs);
  for (i = 0; i < e->n_program_inputs; i++) {
    program_input *input = &e->program_inputs[i];
    uint32_t kind = take_u32(r);
    input->is_state = kind > 0;
    input->number = take_u32(r);
    if (kind > 2 || input->number >= (input->is_state ? r->package->n_states : e->n_inputs)) {
      spoil(r, TJIT_ERROR_FORMAT);
      return;
    }
    if (kind == 2) e->writes_state = 1;
  }
  e->checks = (check *)take_items(r, &e->n_checks, sizeof *e->checks);
  for (i = 0; i < e->n_checks; i++) {
    e->checks[i].number = take_u32(r);
    e->checks[i].where = take_string(r);
  }
  for (i = 0; i < e->n_symbols && r->status == TJIT_OK; i++) {
    const symbol *s = &e->symbols[i];
    if (s->argument >= e->n_inputs || s->dim >= (uint32_t)e->inputs[s->argument].value.ndim) spoil(r, TJIT_ERROR_FORMAT);
  }
}

/* The best level of the processor: see LEVELS in tjit/export/targets.py. */
static void processor(uint32_t *machine, uint32_t *level) {
  *machine = 0;
  *level = 0;
#if defined(__aarch64__)
  *machine = MACHINE_AARCH64;
  *level = 1;
#elif defined(__x86_64__)
  {
    unsigned a, b = 0, c = 0, d, b7 = 0, c7, d7, c81 = 0, state = 0, high;
    const unsigned v3_c1 = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29; /* fma movbe osxsave avx f16c */
    const unsigned v3_b7 = 1u << 3 | 1u << 5 | 1u << 8;                           /* bmi1 avx2 bmi2 */
    const unsigned v4_b7 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  /* avx512 f dq cd bw vl */
    *machine = MACHINE_X86_64;
    *level = 1;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return;
    if (!__get_cpuid(0x80000001u, &a, &b, &c81, &d)) return;
    if ((c & v3_c1) != v3_c1 || (b7 & v3_b7) != v3_b7 || !(c81 & 1u << 5 /* lzcnt */)) return;
    __asm__ volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(0));
    if ((state & 6) != 6) return; /* the system saves 256-bit registers */
    *level = 3;
    if ((b7 & v4_b7) == v4_b7 && (state & 0xE6) == 0xE6) *level = 4;
  }
#endif
}

static void take_targets(reader *r, tjit_error *error) {
  uint32_t machine, level, best = 0, count = take_u32(r), i;
  char names[200] = "";
  processor(&machine, &level);
  for (i = 0; i < count && r->status == TJIT_OK; i++) {
    const char *name = take_string(r);
    uint32_t its_machine = take_u32(r), its_level = take_u32(r);
    size_t used = strlen(names);
    snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
    if (r->status == TJIT_OK && its_machine == machine && its_level <= level && its_level > best) {
      best = its_level;
      r->package->target = name;
      r->package->target_number = i;
    }
  }
  if (r->status == TJIT_OK && best == 0) {
    const char *mine = machine == MACHINE_X86_64 ? level == 4 ? "x86-64-v4" : level == 3 ? "x86-64-v3" : "x86-64"
                       : machine == MACHINE_AARCH64 ? "aarch64" : "an unknown processor";
    fail(error, TJIT_ERROR_MACHINE, "the package is made for %s; this machine is %s", names, mine);
    spoil(r, TJIT_ERROR_MACHINE);
  }
}

static int read_table(tjit_package *p, tjit_error *error) {
  const section *s = find_section(p, KIND_TABLE, 0, 0);
  reader r;
  uint32_t i;
  p->weights = find_section(p, KIND_WEIGHTS, 0, 0);
  if (s == NULL || p->weights == NULL) return fail(error, TJIT_ERROR_FORMAT, "the package has no table or no weights");
  r.package = p;
  r.at = p->file + s->offset;
  r.end = r.at + s->size;
  r.status = TJIT_OK;
  take_targets(&r, error);
  p->states = (state *)take_items(&r, &p->n_states, sizeof *p->states);
  for (i = 0; i < p->n_states; i++) take_state(&r, &p->states[i]);
  p->extra = (const char **)take_items(&r, &p->n_extra, sizeof *p->extra);
  for (i = 0; i < p->n_extra; i++) p->extra[i] = take_string(&r);
  p->entries = (tjit_entry *)take_items(&r, &p->n_entries, sizeof *p->entries);
  for (i = 0; i < p->n_entries; i++) take_entry(&r, &p->entries[i]);
  if (r.status == TJIT_OK && r.at != r.end) spoil(&r, TJIT_ERROR_FORMAT);
  if (r.status == TJIT_ERROR_FORMAT) return fail(error, r.status, "the package is malformed: its table does not read");
  if (r.status == TJIT_ERROR_MEMORY) return fail(error, r.status, "out of memory");
  return r.status;
}

/* -- images -- */

typedef void any_fn(void);

typedef struct {
  const char *name;
  any_fn *function;
} import;

/* The address of an exported function of a loaded image; 0: there is none. */
static uint64_t exported(const image *m, const char *name) {
  uint32_t i;
  for (i = 0; i < m->n_exports; i++) {
    const uint8_t *row = m->file + m->exports + 16 * (size_t)i;
    if (strcmp((const char *)m->file + m->strings + read_u32(row + 8), name) == 0)
      return (uint64_t)(uintptr_t)m->base + read_u64(row);
  }
  return 0;
}

/* What programs may call: the C library, and the thread pool of the package. */
static uint64_t resolve(const tjit_package *p, const char *name) {
  const import imports[] = {
      {"aligned_alloc", (any_fn *)aligned_alloc},
      {"clock_gettime", (any_fn *)clock_gettime},
      {"free", (any_fn *)free},
      {"malloc", (any_fn *)malloc},
      {"memcpy", (any_fn *)memcpy},
      {"memmove", (any_fn *)memmove},
      {"memset", (any_fn *)memset},
      {"pthread_create", (any_fn *)pthread_create},
      {"pthread_join", (any_fn *)pthread_join},
      {"pthread_sigmask", (any_fn *)pthread_sigmask},
      {"sched_getaffinity", (any_fn *)sched_getaffinity},
      {"sched_getcpu", (any_fn *)sched_getcpu},
      {"sched_setaffinity", (any_fn *)sched_setaffinity},
      {"sched_yield", (any_fn *)sched_yield},
      {"sigfillset", (any_fn *)sigfillset},
      {"syscall", (any_fn *)syscall},
      {"sysconf", (any_fn *)sysconf},
  };
  size_t i;
  for (i = 0; i < sizeof imports / sizeof *imports; i++)
    if (strcmp(imports[i].name, name) == 0) return (uint64_t)(uintptr_t)imports[i].function;
  return p->pool_image.base != NULL ? exported(&p->pool_image, name) : 0;
}

/* A name of an image, which ends inside of its strings; NULL where it does not. */
static const char *image_string(const image *m, uint32_t at) {
  const uint8_t *strings = m->file + m->strings;
  if (at >= m->strings_size || memchr(strings + at, 0, m->strings_size - at) == NULL) return NULL;
  return (const char *)strings + at;
}

static int bad_image(tjit_error *error, const char *why) {
  return fail(error, TJIT_ERROR_FORMAT, "the package is malformed: an image %s", why);
}

static int link_image(tjit_package *p, image *m, size_t imports, uint32_t n_imports, uint32_t n_rebases, tjit_error *error) {
  const uint8_t *row = m->file + imports;
  uint32_t i;
  for (i = 0; i < n_imports; i++, row += 16) {
    uint64_t offset = read_u64(row), address;
    const char *name = image_string(m, read_u32(row + 8));
    if (name == NULL || offset % 8 || m->size < 8 || offset > m->size - 8) return bad_image(error, "has a bad import");
    address = resolve(p, name);
    if (address == 0) return fail(error, TJIT_ERROR_MACHINE, "the package needs the function %s, which is not here", name);
    memcpy(m->base + offset, &address, 8);
  }
  for (i = 0; i < n_rebases; i++, row += 16) {
    uint64_t offset = read_u64(row), address = (uint64_t)(uintptr_t)m->base + read_u64(row + 8);
    if (offset % 8 || m->size < 8 || offset > m->size - 8) return bad_image(error, "has a bad rebase");
    memcpy(m->base + offset, &address, 8);
  }
  for (i = 0; i < m->n_exports; i++, row += 16)
    if (image_string(m, read_u32(row + 8)) == NULL || read_u64(row) > m->size) return bad_image(error, "has a bad export");
  return TJIT_OK;
}

static int load_image(tjit_package *p, image *m, const section *s, tjit_error *error) {
  const uint8_t *f;
  uint64_t tables, strings, code, size;
  uint32_t machine, level, n_imports, n_rebases;
  void *mapped;
  int status;
  if (s == NULL) return bad_image(error, "is missing");
  f = m->file = p->file + s->offset;
  if (s->size < IMAGE_HEADER || memcmp(f, "TJITIMG\0", 8) != 0) return bad_image(error, "has no header");
  if (read_u32(f + 8) != IMAGE_VERSION) return fail(error, TJIT_ERROR_VERSION, "an image has another format version");
  processor(&machine, &level);
  if (read_u32(f + 16) != machine) return fail(error, TJIT_ERROR_MACHINE, "an image is for another machine");
  n_imports = read_u32(f + 20);
  n_rebases = read_u32(f + 24);
  m->n_exports = read_u32(f + 28);
  tables = IMAGE_HEADER + 16 * ((uint64_t)n_imports + n_rebases + m->n_exports);
  strings = read_u64(f + 40);
  code = read_u64(f + 48);
  size = read_u64(f + 56);
  if (read_u64(f + 32) != s->size || code > s->size || size != s->size - code || strings > code || tables > strings)
    return bad_image(error, "has sizes that do not fit");
  m->exports = (size_t)(IMAGE_HEADER + 16 * ((uint64_t)n_imports + n_rebases));
  m->strings = (size_t)strings;
  m->strings_size = (size_t)(code - strings);
  m->size = (size_t)size;
  mapped = mmap(NULL, m->size ? m->size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return fail(error, TJIT_ERROR_MEMORY, "no memory for code: %s", strerror(errno));
  m->base = (uint8_t *)mapped;
  memcpy(m->base, f + code, m->size);
  status = link_image(p, m, IMAGE_HEADER, n_imports, n_rebases, error);
  if (status != TJIT_OK) return status;
  __builtin___clear_cache((char *)m->base, (char *)m->base + m->size);
  if (mprotect(m->base, m->size ? m->size : 1, PROT_READ | PROT_EXEC) != 0)
    return fail(error, TJIT_ERROR_MEMORY, "the system gives no executable memory: %s", strerror(errno));
  return TJIT_OK;
}

static void unload_image(image *m) {
  if (m->base != NULL) munmap(m->base, m->size ? m->size : 1);
}

/* ISO C has no cast between addresses of data and of functions. */
static int get_function(const image *m, const char *name, void *function, tjit_error *error) {
  uint64_t address = exported(m, name);
  uintptr_t pointer = (uintptr_t)address;
  if (address == 0) return fail(error, TJIT_ERROR_FORMAT, "the package is malformed: an image has no function %s", name);
  memcpy(function, &pointer, sizeof pointer);
  return TJIT_OK;
}

static int default_threads(void) {
  const char *text = getenv("TJIT_NUM_THREADS");
  long n = text != NULL ? strtol(text, NULL, 10) : 0;
  cpu_set_t set;
  if (n < 1) n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (int)n;
}

static int load_code(tjit_package *p, tjit_error *error) {
  pool_create_fn *create = NULL;
  uint32_t i;
  int status = load_image(p, &p->pool_image, find_section(p, KIND_POOL, 0, p->target_number), error);
  if (status == TJIT_OK) status = get_function(&p->pool_image, "tjit.pool_create", &create, error);
  if (status == TJIT_OK) status = get_function(&p->pool_image, "tjit.pool_destroy", &p->pool_destroy, error);
  if (status == TJIT_OK) status = get_function(&p->pool_image, "tjit.pool_resize", &p->pool_resize, error);
  for (i = 0; i < p->n_entries && status == TJIT_OK; i++) {
    tjit_entry *e = &p->entries[i];
    status = load_image(p, &e->code, find_section(p, KIND_IMAGE, i, p->target_number), error);
    if (status == TJIT_OK) status = get_function(&e->code, "tjit.main", &e->run, error);
    if (status == TJIT_OK) status = get_function(&e->code, "tjit.main.plan", &e->plan, error);
  }
  if (status != TJIT_OK) return status;
  p->threads = default_threads();
  p->pool = create(p->threads);
  return p->pool != NULL ? TJIT_OK : fail(error, TJIT_ERROR_MEMORY, "out of memory");
}

/* -- loading and freeing -- */

static int load_owned(uint8_t *file, size_t size, tjit_package **package, tjit_error *error) {
  tjit_package *p = (tjit_package *)calloc(1, sizeof *p);
  int status;
  if (p == NULL) {
    free(file);
    return fail(error, TJIT_ERROR_MEMORY, "out of memory");
  }
  p->file = file;
  p->size = size;
  if (pthread_rwlock_init(&p->state_lock, NULL) != 0) {
    status = fail(error, TJIT_ERROR_MEMORY, "no locks");
  } else if (pthread_mutex_init(&p->arena_lock, NULL) != 0) {
    pthread_rwlock_destroy(&p->state_lock);
    status = fail(error, TJIT_ERROR_MEMORY, "no locks");
  } else {
    p->has_locks = 1;
    status = read_sections(p, error);
  }
  if (status == TJIT_OK) status = read_table(p, error);
  if (status == TJIT_OK) status = load_code(p, error);
  if (status != TJIT_OK) {
    tjit_free(p);
    return status;
  }
  *package = p;
  return succeed(error);
}

static int read_file(const char *path, uint8_t **data, size_t *size, tjit_error *error) {
  FILE *file = fopen(path, "rb");
  long end;
  *data = NULL;
  if (file == NULL) return fail(error, TJIT_ERROR_FILE, "cannot open %s: %s", path, strerror(errno));
  if (fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0) {
    fclose(file);
    return fail(error, TJIT_ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
  }
  *size = (size_t)end;
  *data = (uint8_t *)aligned_memory(*size);
  if (*data == NULL) {
    fclose(file);
    return fail(error, TJIT_ERROR_MEMORY, "out of memory for %s", path);
  }
  if (fread(*data, 1, *size, file) != *size) {
    fclose(file);
    free(*data);
    return fail(error, TJIT_ERROR_FILE, "cannot read %s: it ended early", path);
  }
  fclose(file);
  return TJIT_OK;
}

int tjit_load(const char *path, tjit_package **package, tjit_error *error) {
  uint8_t *data;
  size_t size;
  int status;
  *package = NULL;
  if (path == NULL) return fail(error, TJIT_ERROR_NULL, "the path is NULL");
  status = read_file(path, &data, &size, error);
  return status == TJIT_OK ? load_owned(data, size, package, error) : status;
}

int tjit_load_memory(const void *data, size_t size, tjit_package **package, tjit_error *error) {
  uint8_t *copy;
  *package = NULL;
  if (data == NULL) return fail(error, TJIT_ERROR_NULL, "the data is NULL");
  copy = (uint8_t *)aligned_memory(size);
  if (copy == NULL) return fail(error, TJIT_ERROR_MEMORY, "out of memory");
  memcpy(copy, data, size);
  return load_owned(copy, size, package, error);
}

void tjit_free(tjit_package *p) {
  uint32_t i;
  if (p == NULL) return;
  if (p->pool != NULL) p->pool_destroy(p->pool);
  for (i = 0; i < p->n_entries; i++) unload_image(&p->entries[i].code);
  unload_image(&p->pool_image);
  while (p->arenas != NULL) {
    arena *a = p->arenas;
    p->arenas = a->next;
    free(a->memory);
    free(a);
  }
  while (p->blocks != NULL) {
    block *b = p->blocks;
    p->blocks = b->next;
    free(b->memory);
    free(b);
  }
  if (p->has_locks) {
    pthread_rwlock_destroy(&p->state_lock);
    pthread_mutex_destroy(&p->arena_lock);
  }
  free(p->file);
  free(p);
}

const char *tjit_target(const tjit_package *package) { return package->target; }

int tjit_set_threads(tjit_package *package, int threads, tjit_error *error) {
  if (threads < 1 || threads > MAX_THREADS)
    return fail(error, TJIT_ERROR_COUNT, "threads should be 1 to %d, not %d", MAX_THREADS, threads);
  pthread_mutex_lock(&package->arena_lock);
  package->pool_resize(package->pool, threads);
  package->threads = threads;
  pthread_mutex_unlock(&package->arena_lock);
  return succeed(error);
}

int tjit_threads(const tjit_package *package) {
  int threads;
  pthread_mutex_t *lock = (pthread_mutex_t *)&package->arena_lock;
  pthread_mutex_lock(lock);
  threads = package->threads;
  pthread_mutex_unlock(lock);
  return threads;
}

int tjit_extra_file(const tjit_package *package, const char *name, const void **data, size_t *size, tjit_error *error) {
  uint32_t i;
  for (i = 0; i < package->n_extra; i++) {
    const section *s = find_section(package, KIND_EXTRA, i, 0);
    if (strcmp(package->extra[i], name) != 0 || s == NULL) continue;
    *data = package->file + s->offset;
    *size = s->size;
    return succeed(error);
  }
  return fail(error, TJIT_ERROR_NAME, "the package has no extra file %s", name);
}

/* -- looking at a package -- */

int tjit_entry_count(const tjit_package *package) { return (int)package->n_entries; }

const tjit_entry *tjit_entry_at(const tjit_package *package, int index) {
  return index >= 0 && (uint32_t)index < package->n_entries ? &package->entries[index] : NULL;
}

const tjit_entry *tjit_find(const tjit_package *package, const char *name) {
  uint32_t i;
  for (i = 0; i < package->n_entries; i++)
    if (strcmp(package->entries[i].name, name) == 0) return &package->entries[i];
  return NULL;
}

const char *tjit_entry_name(const tjit_entry *entry) { return entry->name; }
int tjit_input_count(const tjit_entry *entry) { return (int)entry->n_inputs; }
int tjit_output_count(const tjit_entry *entry) { return (int)entry->n_outputs; }

const tjit_value *tjit_input(const tjit_entry *entry, int index) {
  return index >= 0 && (uint32_t)index < entry->n_inputs ? &entry->inputs[index].value : NULL;
}

const tjit_value *tjit_output(const tjit_entry *entry, int index) {
  return index >= 0 && (uint32_t)index < entry->n_outputs ? &entry->outputs[index].value : NULL;
}

int tjit_state_count(const tjit_package *package) { return (int)package->n_states; }

const tjit_value *tjit_state(const tjit_package *package, int index) {
  return index >= 0 && (uint32_t)index < package->n_states ? &package->states[index].type.value : NULL;
}

/* -- checks of arrays -- */

static void print_shape(char *text, size_t size, int32_t ndim, const int64_t *shape) {
  size_t used = 0;
  int32_t i;
  text[0] = 0;
  for (i = 0; i < ndim && used + 24 < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i ? ", " : "", shape[i]);
}

static int is_contiguous(const DLTensor *t) {
  int64_t expected = 1;
  int32_t i;
  if (t->strides == NULL) return 1;
  for (i = t->ndim - 1; i >= 0; i--) {
    if (t->shape[i] == 0) return 1;
    if (t->shape[i] != 1 && t->strides[i] != expected) return 0;
    if (t->shape[i] > 0 && expected > INT64_MAX / t->shape[i]) return 0;
    expected *= t->shape[i];
  }
  return 1;
}

/* What can be said of an array without knowing sizes. */
static int check_array(const tjit_entry *e, const field *f, const DLTensor *t, tjit_error *error) {
  const tjit_value *v = &f->value;
  int32_t i;
  if (t->device.device_type != kDLCPU)
    return fail(error, TJIT_ERROR_DEVICE, "%s: %s is not in the CPU's memory", e->name, v->name);
  if (t->dtype.code != v->dtype.code || t->dtype.bits != v->dtype.bits || t->dtype.lanes != 1)
    return fail(error, TJIT_ERROR_DTYPE, "%s: %s should be %s; it has type code %d with %d bits and %d lanes", e->name,
                v->name, v->type, t->dtype.code, t->dtype.bits, t->dtype.lanes);
  if (t->ndim != v->ndim)
    return fail(error, TJIT_ERROR_RANK, "%s: %s should be %s; it has %d dims", e->name, v->name, v->type, (int)t->ndim);
  if (t->ndim > 0 && t->shape == NULL) return fail(error, TJIT_ERROR_NULL, "%s: the shape of %s is NULL", e->name, v->name);
  for (i = 0; i < t->ndim; i++)
    if (t->shape[i] < 0) return fail(error, TJIT_ERROR_SHAPE, "%s: %s has a negative extent", e->name, v->name);
  return TJIT_OK;
}

static int check_data(const tjit_entry *e, const field *f, const DLTensor *t, tjit_error *error) {
  const tjit_value *v = &f->value;
  int64_t bytes = array_bytes(&v->dtype, t->ndim, t->shape);
  uintptr_t address = (uintptr_t)t->data + (uintptr_t)t->byte_offset;
  if (bytes < 0) return fail(error, TJIT_ERROR_SHAPE, "%s: %s is larger than memory", e->name, v->name);
  if (bytes > 0 && t->data == NULL) return fail(error, TJIT_ERROR_NULL, "%s: the data of %s is NULL", e->name, v->name);
  if (!is_contiguous(t))
    return fail(error, TJIT_ERROR_STRIDES, "%s: %s should be contiguous, in C order", e->name, v->name);
  if (bytes > 0 && address % (v->dtype.bits / 8u) != 0)
    return fail(error, TJIT_ERROR_STRIDES, "%s: %s is not aligned to its elements", e->name, v->name);
  return TJIT_OK;
}

static int bad_shape(const tjit_entry *e, const field *f, const int64_t *wanted, const int64_t *got, tjit_error *error) {
  char a[120], b[120];
  print_shape(a, sizeof a, f->value.ndim, wanted);
  print_shape(b, sizeof b, f->value.ndim, got);
  return fail(error, TJIT_ERROR_SHAPE, "%s: %s should be %s, here [%s]; it is [%s]", e->name, f->value.name, f->value.type, a, b);
}

/* Inputs against their types; the sizes they give go to `symbols`. */
static int bind(const tjit_entry *e, const DLTensor *inputs, int n_inputs, int64_t *symbols, tjit_error *error) {
  int64_t wanted[MAX_RANK];
  uint32_t i;
  int32_t d;
  int status;
  if (n_inputs < 0 || (uint32_t)n_inputs != e->n_inputs)
    return fail(error, TJIT_ERROR_COUNT, "%s takes %" PRIu32 " inputs, not %d", e->name, e->n_inputs, n_inputs);
  if (inputs == NULL && n_inputs > 0) return fail(error, TJIT_ERROR_NULL, "%s: inputs is NULL", e->name);
  for (i = 0; i < e->n_inputs; i++) {
    status = check_array(e, &e->inputs[i], &inputs[i], error);
    if (status != TJIT_OK) return status;
  }
  for (i = 0; i < e->n_symbols; i++) {
    const symbol *s = &e->symbols[i];
    symbols[i] = inputs[s->argument].shape[s->dim];
    if (symbols[i] < s->minimum || symbols[i] > s->maximum)
      return fail(error, TJIT_ERROR_SHAPE, "%s: %s is %" PRId64 "; it should be %" PRId64 " to %" PRId64, e->name, s->name,
                  symbols[i], s->minimum, s->maximum);
  }
  for (i = 0; i < e->n_inputs; i++) {
    const field *f = &e->inputs[i];
    for (d = 0; d < f->value.ndim; d++) {
      if (f->kinds[d] == DIM_COMPUTED) return fail(error, TJIT_ERROR_FORMAT, "%s: the shape of an input is computed", e->name);
      wanted[d] = f->kinds[d] == DIM_SYMBOL ? symbols[f->numbers[d]] : f->numbers[d];
    }
    if (f->value.ndim > 0 && memcmp(wanted, inputs[i].shape, sizeof *wanted * (size_t)f->value.ndim) != 0)
      return bad_shape(e, f, wanted, inputs[i].shape, error);
  }
  return TJIT_OK;
}

/* The memory of one call: symbols, the plan, and the program's buffers. */
typedef struct {
  int64_t *symbols, *plan;
  void **buffers;
} frame;

static int open_frame(const tjit_entry *e, frame *f, tjit_error *error) {
  size_t symbols = e->n_symbols ? e->n_symbols : 1, buffers = (size_t)e->n_program_inputs + e->n_outputs + 1;
  f->symbols = (int64_t *)calloc(symbols + e->n_plan + buffers, 8);
  if (f->symbols == NULL) return fail(error, TJIT_ERROR_MEMORY, "out of memory");
  f->plan = f->symbols + symbols;
  f->buffers = (void **)(void *)(f->plan + e->n_plan);
  return TJIT_OK;
}

int tjit_output_shape(const tjit_entry *entry, const DLTensor *inputs, int n_inputs, int index, int64_t *shape,
                      tjit_error *error) {
  const int64_t *found;
  frame f;
  int status, i;
  if (entry == NULL) return fail(error, TJIT_ERROR_NAME, "there is no such entry point");
  if (index < 0 || (uint32_t)index >= entry->n_outputs)
    return fail(error, TJIT_ERROR_COUNT, "%s has no output %d", entry->name, index);
  status = open_frame(entry, &f, error);
  if (status != TJIT_OK) return status;
  status = bind(entry, inputs, n_inputs, f.symbols, error);
  if (status == TJIT_OK) {
    entry->plan(f.symbols, f.plan);
    for (found = f.plan + 1, i = 0; i < index; i++) found += entry->outputs[i].value.ndim;
    if (entry->outputs[index].value.ndim > 0)
      memcpy(shape, found, sizeof *shape * (size_t)entry->outputs[index].value.ndim);
    succeed(error);
  }
  free(f.symbols);
  return status;
}

/* -- calls -- */

static void *take_arena(tjit_package *p, size_t size, arena **taken) {
  arena *a;
  pthread_mutex_lock(&p->arena_lock);
  a = p->arenas;
  if (a != NULL) p->arenas = a->next;
  pthread_mutex_unlock(&p->arena_lock);
  if (a == NULL) a = (arena *)calloc(1, sizeof *a);
  *taken = a;
  if (a == NULL) return NULL;
  if (a->memory == NULL || a->size < size) {
    free(a->memory);
    a->memory = aligned_memory(size);
    a->size = a->memory != NULL ? size : 0;
  }
  return a->memory;
}

static void give_arena(tjit_package *p, arena *a) {
  if (a == NULL) return;
  pthread_mutex_lock(&p->arena_lock);
  a->next = p->arenas;
  p->arenas = a;
  pthread_mutex_unlock(&p->arena_lock);
}

static int overlap(const DLTensor *a, const DLTensor *b) {
  uintptr_t x = (uintptr_t)a->data + (uintptr_t)a->byte_offset, y = (uintptr_t)b->data + (uintptr_t)b->byte_offset;
  uintptr_t n = (uintptr_t)array_bytes(&a->dtype, a->ndim, a->shape), m = (uintptr_t)array_bytes(&b->dtype, b->ndim, b->shape);
  return n > 0 && m > 0 && x < y + m && y < x + n;
}

/* Memory that is written must not be read or written as something else. */
static int check_overlap(const tjit_entry *e, const DLTensor *inputs, const DLTensor *outputs, uint32_t n_outputs,
                         tjit_error *error) {
  uint32_t i, j;
  for (i = 0; i < e->n_inputs + n_outputs; i++) {
    const DLTensor *a = i < e->n_inputs ? &inputs[i] : &outputs[i - e->n_inputs];
    const field *f = i < e->n_inputs ? &e->inputs[i] : &e->outputs[i - e->n_inputs];
    if (i < e->n_inputs && !f->value.written) continue;
    for (j = 0; j < e->n_inputs + n_outputs; j++) {
      const DLTensor *b = j < e->n_inputs ? &inputs[j] : &outputs[j - e->n_inputs];
      const field *g = j < e->n_inputs ? &e->inputs[j] : &e->outputs[j - e->n_inputs];
      if (i != j && overlap(a, b))
        return fail(error, TJIT_ERROR_OVERLAP, "%s writes to %s, which overlaps %s", e->name, f->value.name, g->value.name);
    }
  }
  return TJIT_OK;
}

/* Outputs against what the plan says; where none are given, adds up the memory that they need. */
static int check_outputs(const tjit_entry *e, const DLTensor *outputs, int n_outputs, const int64_t *plan, size_t *hidden,
                         tjit_error *error) {
  uint32_t i;
  int status;
  *hidden = 0;
  if (n_outputs != 0 && (n_outputs < 0 || (uint32_t)n_outputs != e->n_outputs))
    return fail(error, TJIT_ERROR_COUNT, "%s gives %" PRIu32 " outputs, not %d", e->name, e->n_outputs, n_outputs);
  if (n_outputs > 0 && outputs == NULL) return fail(error, TJIT_ERROR_NULL, "%s: outputs is NULL", e->name);
  for (i = 0, plan++; i < e->n_outputs; plan += e->outputs[i].value.ndim, i++) {
    const field *f = &e->outputs[i];
    int64_t bytes = array_bytes(&f->value.dtype, f->value.ndim, plan);
    if (bytes < 0) return fail(error, TJIT_ERROR_SHAPE, "%s: %s would be larger than memory", e->name, f->value.name);
    if (n_outputs == 0) {
      if ((size_t)bytes > SIZE_MAX / 4 || *hidden > SIZE_MAX / 4) return fail(error, TJIT_ERROR_MEMORY, "out of memory");
      *hidden += ((size_t)bytes + 63) / 64 * 64;
      continue;
    }
    status = check_array(e, f, &outputs[i], error);
    if (status != TJIT_OK) return status;
    if (f->value.ndim > 0 && memcmp(plan, outputs[i].shape, sizeof *plan * (size_t)f->value.ndim) != 0)
      return bad_shape(e, f, plan, outputs[i].shape, error);
    status = check_data(e, f, &outputs[i], error);
    if (status != TJIT_OK) return status;
  }
  return TJIT_OK;
}

static int failed_check(const tjit_entry *e, int32_t code, tjit_error *error) {
  uint32_t i;
  for (i = 0; i < e->n_checks; i++)
    if (code > 0 && e->checks[i].number == (uint32_t)code - 1)
      return e->checks[i].where[0] == '!'
                 ? fail(error, TJIT_ERROR_INDEX, "%s: %s", e->name, e->checks[i].where + 1)
                 : fail(error, TJIT_ERROR_INDEX, "%s: index out of range at %s", e->name, e->checks[i].where);
  return fail(error, TJIT_ERROR_INDEX, "%s: index out of range, step %" PRId32, e->name, code - 1);
}

static void *data_of(const DLTensor *t) { return (uint8_t *)t->data + (t->data != NULL ? t->byte_offset : 0); }

static int run(const tjit_entry *e, frame *f, const DLTensor *inputs, const DLTensor *outputs, int n_outputs, size_t hidden,
               tjit_error *error) {
  tjit_package *p = e->package;
  void **buffer = f->buffers;
  const int64_t *plan = f->plan + 1;
  size_t size = ((size_t)f->plan[0] + 63) / 64 * 64;
  uint8_t *memory;
  arena *a;
  uint32_t i;
  int32_t code;
  if (f->plan[0] < 0 || size > SIZE_MAX / 2 || hidden > SIZE_MAX / 2)
    return fail(error, TJIT_ERROR_MEMORY, "%s needs more memory than there can be", e->name);
  memory = (uint8_t *)take_arena(p, size + hidden, &a);
  if (memory == NULL) {
    give_arena(p, a);
    return fail(error, TJIT_ERROR_MEMORY, "%s: no memory for %zu bytes", e->name, size + hidden);
  }
  for (i = 0; i < e->n_program_inputs; i++) {
    const program_input *input = &e->program_inputs[i];
    *buffer++ = input->is_state ? p->file + p->states[input->number].offset : (uint8_t *)data_of(&inputs[input->number]);
  }
  for (i = 0, hidden = size; i < e->n_outputs; plan += e->outputs[i].value.ndim, i++) {
    *buffer++ = n_outputs > 0 ? data_of(&outputs[i]) : memory + hidden;
    hidden += ((size_t)array_bytes(&e->outputs[i].value.dtype, e->outputs[i].value.ndim, plan) + 63) / 64 * 64;
  }
  *buffer = memory;
  if (e->writes_state)
    pthread_rwlock_wrlock(&p->state_lock);
  else
    pthread_rwlock_rdlock(&p->state_lock);
  code = e->run(p->pool, f->buffers, f->symbols);
  pthread_rwlock_unlock(&p->state_lock);
  give_arena(p, a);
  return code == 0 ? succeed(error) : failed_check(e, code, error);
}

int tjit_call(const tjit_entry *entry, const DLTensor *inputs, int n_inputs, const DLTensor *outputs, int n_outputs,
              tjit_error *error) {
  size_t hidden = 0;
  frame f;
  uint32_t i;
  int status;
  if (entry == NULL) return fail(error, TJIT_ERROR_NAME, "there is no such entry point");
  status = open_frame(entry, &f, error);
  if (status != TJIT_OK) return status;
  status = bind(entry, inputs, n_inputs, f.symbols, error);
  for (i = 0; i < entry->n_inputs && status == TJIT_OK; i++) status = check_data(entry, &entry->inputs[i], &inputs[i], error);
  if (status == TJIT_OK) {
    entry->plan(f.symbols, f.plan);
    status = check_outputs(entry, outputs, n_outputs, f.plan, &hidden, error);
  }
  if (status == TJIT_OK) status = check_overlap(entry, inputs, outputs, n_outputs > 0 ? entry->n_outputs : 0, error);
  if (status == TJIT_OK) status = run(entry, &f, inputs, outputs, n_outputs, hidden, error);
  free(f.symbols);
  return status;
}

/* -- state -- */

static const state *find_state(const tjit_package *p, const char *name, size_t size, tjit_error *error) {
  uint32_t i;
  for (i = 0; i < p->n_states; i++) {
    const state *s = &p->states[i];
    if (strcmp(s->type.value.name, name) != 0) continue;
    if (s->size == size) return s;
    fail(error, TJIT_ERROR_SHAPE, "the state %s has %zu bytes, not %zu", name, s->size, size);
    return NULL;
  }
  fail(error, TJIT_ERROR_NAME, "the package has no state %s", name);
  return NULL;
}

static int missing_state(const tjit_package *p, const char *name) {
  uint32_t i;
  for (i = 0; i < p->n_states; i++)
    if (strcmp(p->states[i].type.value.name, name) == 0) return TJIT_ERROR_SHAPE;
  return TJIT_ERROR_NAME;
}

int tjit_read_state(tjit_package *package, const char *name, void *data, size_t size, tjit_error *error) {
  const state *s = find_state(package, name, size, error);
  if (s == NULL) return missing_state(package, name);
  if (data == NULL && size > 0) return fail(error, TJIT_ERROR_NULL, "the data is NULL");
  pthread_rwlock_rdlock(&package->state_lock);
  if (size > 0) memcpy(data, package->file + s->offset, size);
  pthread_rwlock_unlock(&package->state_lock);
  return succeed(error);
}

int tjit_write_state(tjit_package *package, const char *name, const void *data, size_t size, tjit_error *error) {
  const state *s = find_state(package, name, size, error);
  if (s == NULL) return missing_state(package, name);
  if (data == NULL && size > 0) return fail(error, TJIT_ERROR_NULL, "the data is NULL");
  pthread_rwlock_wrlock(&package->state_lock);
  if (size > 0) memcpy(package->file + s->offset, data, size);
  pthread_rwlock_unlock(&package->state_lock);
  return succeed(error);
}

static int check_number(const tjit_package *p, const char *name, tjit_error *error) {
  uint32_t i;
  for (i = 0; i < p->n_states; i++)
    if (strcmp(p->states[i].type.value.name, name) == 0 && p->states[i].type.value.number) return TJIT_OK;
  return fail(error, TJIT_ERROR_NAME, "the package has no number %s", name);
}

int tjit_number(tjit_package *package, const char *name, double *value, tjit_error *error) {
  int status = check_number(package, name, error);
  return status == TJIT_OK ? tjit_read_state(package, name, value, sizeof *value, error) : status;
}

int tjit_set_number(tjit_package *package, const char *name, double value, tjit_error *error) {
  int status = check_number(package, name, error);
  return status == TJIT_OK ? tjit_write_state(package, name, &value, sizeof value, error) : status;
}

/* All or nothing: into a file beside `path`, which then takes its place. */
static int write_file(const char *path, const uint8_t *data, size_t size, tjit_error *error) {
  size_t length = strlen(path) + 32;
  char *partial = (char *)malloc(length);
  FILE *file;
  int status = TJIT_OK;
  if (partial == NULL) return fail(error, TJIT_ERROR_MEMORY, "out of memory");
  snprintf(partial, length, "%s.%ld.part", path, (long)getpid());
  file = fopen(partial, "wb");
  if (file == NULL) {
    status = fail(error, TJIT_ERROR_FILE, "cannot write %s: %s", partial, strerror(errno));
  } else {
    size_t written = fwrite(data, 1, size, file);
    if (fclose(file) != 0 || written != size)
      status = fail(error, TJIT_ERROR_FILE, "cannot write %s: %s", partial, strerror(errno));
    else if (rename(partial, path) != 0)
      status = fail(error, TJIT_ERROR_FILE, "cannot write %s: %s", path, strerror(errno));
    if (status != TJIT_OK) remove(partial);
  }
  free(partial);
  return status == TJIT_OK ? succeed(error) : status;
}

int tjit_save(tjit_package *package, const char *path, tjit_error *error) {
  const section *w = package->weights;
  size_t start = (HEADER_SIZE + (size_t)ROW_SIZE * package->n_sections + 63) / 64 * 64;
  int status;
  pthread_rwlock_wrlock(&package->state_lock);
  write_u32(package->file + w->row + 12, crc32_of(package->file + w->offset, w->padded));
  write_u32(package->file + 12, crc32_of(package->file + 16, start - 16));
  status = write_file(path, package->file, package->size, error);
  pthread_rwlock_unlock(&package->state_lock);
  return status;
}

int tjit_save_weights(tjit_package *package, const char *path, tjit_error *error) {
  int status;
  pthread_rwlock_rdlock(&package->state_lock);
  status = write_file(path, package->file + package->weights->offset, package->weights->size, error);
  pthread_rwlock_unlock(&package->state_lock);
  return status;
}

int tjit_load_weights(tjit_package *package, const char *path, tjit_error *error) {
  const section *w = package->weights;
  const uint8_t *mine = package->file + w->offset;
  uint8_t *data;
  size_t size;
  uint64_t header;
  int status = read_file(path, &data, &size, error);
  if (status != TJIT_OK) return status;
  header = w->size >= 8 ? read_u64(mine) : UINT64_MAX;
  /* the same names, types and places have the same text */
  if (size != w->size || header > w->size - 8 || memcmp(data, mine, 8 + (size_t)header) != 0) {
    free(data);
    return fail(error, TJIT_ERROR_FORMAT, "%s does not hold the tensors of this package", path);
  }
  pthread_rwlock_wrlock(&package->state_lock);
  memcpy(package->file + w->offset, data, size);
  pthread_rwlock_unlock(&package->state_lock);
  free(data);
  return succeed(error);
}
