/* What tests/test_export.py runs without Python: package_test MODE PACKAGE ...
 *
 *   run PACKAGE ENTRY CALLS SIZE FOLDER   input n is FOLDER/inN; SIZE for every dynamic dim; writes FOLDER/outN, and
 *                                         FOLDER/state_NAME for every state
 *   checks PACKAGE FOLDER                 error codes, state, saving: of the package "mlp" of test_export.py
 *   threads PACKAGE                       one handle in several threads
 *   corrupt PACKAGE                       damaged bytes are refused, never followed
 */
#include "mlp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tjit_error error;

static void stop(const char *what, int line) {
  fprintf(stderr, "line %d: %s [%d %s]\n", line, what, error.code, error.message);
  exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : stop(#condition, __LINE__))
#define OK(call) CHECK((call) == TJIT_OK)

static unsigned char *read_all(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  unsigned char *data;
  if (file == NULL) stop(path, __LINE__);
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  data = (unsigned char *)malloc(*size + 1);
  CHECK(data != NULL && fread(data, 1, *size, file) == *size);
  fclose(file);
  return data;
}

static void write_all(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  CHECK(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

/* -- run -- */

static size_t bytes_of(const DLTensor *t) {
  size_t bytes = t->dtype.bits / 8;
  int i;
  for (i = 0; i < t->ndim; i++) bytes *= (size_t)t->shape[i];
  return bytes;
}

static DLTensor tensor_like(const tjit_value *v, int64_t size) {
  int64_t *shape = (int64_t *)malloc(sizeof *shape * (size_t)(v->ndim + 1));
  int i;
  for (i = 0; i < v->ndim; i++) shape[i] = v->shape[i] < 0 ? size : v->shape[i];
  return tjit_tensor(NULL, v->dtype.code, v->dtype.bits, v->ndim, shape);
}

static void free_tensors(DLTensor *t, int n) {
  int i;
  for (i = 0; i < n; i++) {
    free(t[i].data);
    free(t[i].shape);
  }
  free(t);
}

static void run(const char *path, const char *name, int calls, int64_t size, const char *folder) {
  tjit_package *p;
  const tjit_entry *e;
  DLTensor *in, *out;
  char file[600];
  int i, n, m;
  OK(tjit_load(path, &p, &error));
  e = tjit_find(p, name);
  CHECK(e != NULL);
  n = tjit_input_count(e);
  m = tjit_output_count(e);
  in = (DLTensor *)calloc((size_t)n + 1, sizeof *in);
  out = (DLTensor *)calloc((size_t)m + 1, sizeof *out);
  for (i = 0; i < n; i++) {
    size_t bytes;
    in[i] = tensor_like(tjit_input(e, i), size);
    snprintf(file, sizeof file, "%s/in%d", folder, i);
    in[i].data = read_all(file, &bytes);
    CHECK(bytes == bytes_of(&in[i]));
  }
  for (i = 0; i < m; i++) {
    out[i] = tensor_like(tjit_output(e, i), 0);
    OK(tjit_output_shape(e, in, n, i, out[i].shape, &error));
    out[i].data = malloc(bytes_of(&out[i]) + 1);
  }
  while (calls-- > 0) OK(tjit_call(e, in, n, out, m, &error));
  for (i = 0; i < m; i++) {
    snprintf(file, sizeof file, "%s/out%d", folder, i);
    write_all(file, out[i].data, bytes_of(&out[i]));
  }
  for (i = 0; i < tjit_state_count(p); i++) {
    const tjit_value *v = tjit_state(p, i);
    DLTensor t = tensor_like(v, 0);
    void *data = malloc(bytes_of(&t) + 1);
    OK(tjit_read_state(p, v->name, data, bytes_of(&t), &error));
    snprintf(file, sizeof file, "%s/state_%s", folder, v->name);
    write_all(file, data, bytes_of(&t));
    free(data);
    free(t.shape);
  }
  printf("%s\n", tjit_target(p));
  free_tensors(in, n);
  free_tensors(out, m);
  tjit_free(p);
}

/* -- checks: train(x: f32[batch, 16], y: i64[batch]) -> f32[], predict(x: f32[batch, 16]) -> f32[batch, 4] -- */

static void check_arrays(tjit_package *p) {
  const tjit_entry *e = tjit_find(p, "predict");
  float x[16 * 16 + 1], y[16 * 4];
  int64_t in_shape[] = {3, 16}, out_shape[] = {3, 4}, strides[] = {16, 1}, found[2];
  DLTensor good = tjit_tensor(x, kDLFloat, 32, 2, in_shape), out = tjit_tensor(y, kDLFloat, 32, 2, out_shape), bad;
  memset(x, 0, sizeof x);
  OK(tjit_call(e, &good, 1, &out, 1, &error));
  OK(tjit_call(e, &good, 1, &out, 1, NULL));
  OK(tjit_call(e, &good, 1, NULL, 0, &error)); /* results dropped */
  good.strides = strides;
  OK(tjit_call(e, &good, 1, &out, 1, &error));
  OK(tjit_output_shape(e, &good, 1, 0, found, &error));
  CHECK(found[0] == 3 && found[1] == 4);
  CHECK(tjit_call(NULL, &good, 1, &out, 1, &error) == TJIT_ERROR_NAME);
  CHECK(tjit_call(e, &good, 2, &out, 1, &error) == TJIT_ERROR_COUNT);
  CHECK(tjit_call(e, &good, 1, &out, 2, &error) == TJIT_ERROR_COUNT);
  CHECK(tjit_call(e, NULL, 1, &out, 1, &error) == TJIT_ERROR_NULL);
  CHECK(tjit_output_shape(e, &good, 1, 1, found, &error) == TJIT_ERROR_COUNT);
  bad = good, bad.data = NULL;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_NULL);
  bad = good, bad.shape = NULL;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_NULL);
  bad = good, bad.dtype.bits = 64;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_DTYPE);
  CHECK(strcmp(error.message, "predict: x should be f32[batch, 16]; it has type code 2 with 64 bits and 1 lanes") == 0);
  bad = good, bad.ndim = 1;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_RANK);
  bad = good, bad.device.device_id = 0, *(int *)&bad.device.device_type = 2;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_DEVICE);
  bad = good, bad.data = (char *)x + 1;
  CHECK(tjit_call(e, &bad, 1, &out, 1, &error) == TJIT_ERROR_STRIDES);
  strides[0] = 17;
  CHECK(tjit_call(e, &good, 1, &out, 1, &error) == TJIT_ERROR_STRIDES);
  strides[0] = 16;
  in_shape[1] = 15;
  CHECK(tjit_call(e, &good, 1, &out, 1, &error) == TJIT_ERROR_SHAPE);
  CHECK(strcmp(error.message, "predict: x should be f32[batch, 16], here [3, 16]; it is [3, 15]") == 0);
  in_shape[1] = 16, in_shape[0] = 65;
  CHECK(tjit_call(e, &good, 1, &out, 1, &error) == TJIT_ERROR_SHAPE);
  CHECK(strcmp(error.message, "predict: batch is 65; it should be 1 to 64") == 0);
  in_shape[0] = -1;
  CHECK(tjit_call(e, &good, 1, &out, 1, &error) == TJIT_ERROR_SHAPE);
  in_shape[0] = 4; /* the output has room for 3 */
  CHECK(tjit_call(e, &good, 1, &out, 1, &error) == TJIT_ERROR_SHAPE);
  in_shape[0] = 3;
  bad = out, bad.data = x + 16 * 3 - 1;
  CHECK(tjit_call(e, &good, 1, &bad, 1, &error) == TJIT_ERROR_OVERLAP);
  good.byte_offset = 4, good.strides = NULL;
  OK(tjit_call(e, &good, 1, &out, 1, &error));
}

static void check_state(tjit_package *p, const char *folder) {
  float x[8 * 16], weights[32 * 16], other[32 * 16], loss;
  int64_t y[8];
  double lr;
  char file[600];
  tjit_package *again;
  int i;
  for (i = 0; i < 8 * 16; i++) x[i] = (float)(i % 7) / 7;
  for (i = 0; i < 8; i++) y[i] = i % 4;
  OK(tjit_number(p, "lr", &lr, &error));
  CHECK(lr == 0.1);
  OK(tjit_read_state(p, "a.weight", weights, sizeof weights, &error));
  OK(mlp_set_lr(p, 0.0, &error));
  OK(mlp_train(p, x, y, 8, &loss, &error));
  OK(tjit_read_state(p, "a.weight", other, sizeof other, &error));
  CHECK(memcmp(weights, other, sizeof weights) == 0); /* with a learning rate of 0 */
  OK(mlp_set_lr(p, 0.5, &error));
  OK(mlp_train(p, x, y, 8, &loss, &error));
  OK(tjit_read_state(p, "a.weight", other, sizeof other, &error));
  CHECK(memcmp(weights, other, sizeof weights) != 0);
  CHECK(tjit_read_state(p, "nothing", other, 4, &error) == TJIT_ERROR_NAME);
  CHECK(tjit_read_state(p, "a.weight", other, 4, &error) == TJIT_ERROR_SHAPE);
  CHECK(tjit_number(p, "a.weight", &lr, &error) == TJIT_ERROR_NAME);
  snprintf(file, sizeof file, "%s/saved.tjit", folder);
  OK(tjit_save(p, file, &error));
  OK(tjit_load(file, &again, &error));
  OK(tjit_read_state(again, "a.weight", weights, sizeof weights, &error));
  CHECK(memcmp(weights, other, sizeof weights) == 0);
  memset(weights, 0, sizeof weights);
  OK(tjit_write_state(again, "a.weight", weights, sizeof weights, &error));
  snprintf(file, sizeof file, "%s/weights.safetensors", folder);
  OK(tjit_save_weights(p, file, &error));
  OK(tjit_load_weights(again, file, &error));
  OK(tjit_read_state(again, "a.weight", weights, sizeof weights, &error));
  CHECK(memcmp(weights, other, sizeof weights) == 0);
  snprintf(file, sizeof file, "%s/saved.tjit", folder);
  CHECK(tjit_load_weights(again, file, &error) == TJIT_ERROR_FORMAT);
  CHECK(tjit_save(p, "/nonexistent/x.tjit", &error) == TJIT_ERROR_FILE);
  tjit_free(again);
}

static void checks(const char *path, const char *folder) {
  tjit_package *p = NULL;
  const void *data;
  size_t size;
  CHECK(tjit_load("/nonexistent.tjit", &p, &error) == TJIT_ERROR_FILE && p == NULL);
  OK(tjit_load(path, &p, &error));
  CHECK(tjit_entry_count(p) == 2 && tjit_find(p, "nothing") == NULL && tjit_entry_at(p, 2) == NULL);
  CHECK(strcmp(tjit_entry_name(tjit_entry_at(p, 0)), "train") == 0);
  CHECK(strcmp(tjit_input(tjit_find(p, "train"), 1)->type, "i64[batch]") == 0);
  CHECK(tjit_output(tjit_find(p, "predict"), 0)->shape[0] == -1 && tjit_output(tjit_find(p, "predict"), 0)->shape[1] == 4);
  OK(tjit_extra_file(p, "notes.txt", &data, &size, &error));
  CHECK(size == 5 && memcmp(data, "hello", 5) == 0);
  CHECK(tjit_extra_file(p, "other.txt", &data, &size, &error) == TJIT_ERROR_NAME);
  CHECK(tjit_set_threads(p, 0, &error) == TJIT_ERROR_COUNT);
  OK(tjit_set_threads(p, 3, &error));
  CHECK(tjit_threads(p) == 3);
  check_arrays(p);
  check_state(p, folder);
  tjit_free(p);
  tjit_free(NULL);
}

/* -- threads -- */

enum { THREADS = 4, ROUNDS = 50 };

typedef struct {
  tjit_package *package;
  int number, failed;
  float expected[64 * 4];
} job;

static void fill(float *x, int number) {
  int i;
  for (i = 0; i < 64 * 16; i++) x[i] = (float)((i * 7 + number * 13) % 31) / 31;
}

static void *work(void *argument) {
  job *j = (job *)argument;
  float x[64 * 16], y[64 * 4];
  tjit_error mine;
  int i;
  fill(x, j->number);
  for (i = 0; i < ROUNDS; i++) {
    memset(y, 0, sizeof y);
    if (mlp_predict(j->package, x, 64, y, &mine) || memcmp(y, j->expected, sizeof y) != 0) j->failed = 1;
    if (mlp_predict(j->package, x, 65, y, &mine) != TJIT_ERROR_SHAPE) j->failed = 1;
  }
  return NULL;
}

static void *train(void *argument) {
  job *j = (job *)argument;
  float x[64 * 16], loss;
  int64_t y[64];
  int i;
  for (i = 0; i < 64; i++) y[i] = i % 4;
  fill(x, 0);
  for (i = 0; i < ROUNDS / THREADS; i++)
    if (mlp_train(j->package, x, y, 64, &loss, NULL)) j->failed = 1;
  return NULL;
}

static void threads(const char *path) {
  static job jobs[THREADS];
  pthread_t handles[THREADS];
  float x[64 * 16], weights[2][32 * 16];
  tjit_package *p, *q;
  int i, round;
  OK(tjit_load(path, &p, &error));
  OK(tjit_load(path, &q, &error));
  for (i = 0; i < THREADS; i++) {
    jobs[i].package = p;
    jobs[i].number = i;
    fill(x, i);
    OK(mlp_predict(q, x, 64, jobs[i].expected, &error));
  }
  for (round = 0; round < 2; round++) { /* predictions at once, then training steps at once */
    for (i = 0; i < THREADS; i++) CHECK(pthread_create(&handles[i], NULL, round ? train : work, &jobs[i]) == 0);
    for (i = 0; i < THREADS; i++) {
      pthread_join(handles[i], NULL);
      CHECK(!jobs[i].failed);
    }
  }
  jobs[0].package = q; /* as many steps one after the other give the same weights */
  for (i = 0; i < THREADS; i++) train(&jobs[0]);
  OK(tjit_read_state(p, "a.weight", weights[0], sizeof weights[0], &error));
  OK(tjit_read_state(q, "a.weight", weights[1], sizeof weights[1], &error));
  CHECK(memcmp(weights[0], weights[1], sizeof weights[0]) == 0);
  tjit_free(p);
  tjit_free(q);
}

/* -- corrupt -- */

static uint32_t get_u32(const unsigned char *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }

static uint32_t crc_of(const unsigned char *p, size_t size) {
  uint32_t crc = 0xFFFFFFFFu;
  int k;
  while (size-- > 0) {
    crc ^= *p++;
    for (k = 0; k < 8; k++) crc = crc & 1 ? 0xEDB88320u ^ crc >> 1 : crc >> 1;
  }
  return ~crc;
}

static void put_crc(unsigned char *at, const unsigned char *data, size_t size) {
  uint32_t crc = crc_of(data, size);
  int i;
  for (i = 0; i < 4; i++) at[i] = (unsigned char)(crc >> 8 * i);
}

static void refused(const unsigned char *data, size_t size, int exact) {
  tjit_package *p = NULL;
  int status = tjit_load_memory(data, size, &p, &error);
  if (exact) CHECK(status == TJIT_ERROR_FORMAT || status == TJIT_ERROR_VERSION);
  CHECK((status == TJIT_OK) == (p != NULL));
  tjit_free(p);
}

static void corrupt(const char *path) {
  size_t size, at, n, i;
  unsigned char *data = read_all(path, &size), *copy;
  for (at = 0; at < size; at += at < 2000 ? 7 : size / 200 + 1) { /* cut short; memory of just that size for the sanitizer */
    copy = (unsigned char *)malloc(at + 1);
    memcpy(copy, data, at);
    refused(copy, at, 1);
    free(copy);
  }
  for (at = 0; at < size; at += at < 1500 ? 1 : size / 300 + 1) { /* one bit */
    data[at] ^= (unsigned char)(1 << at % 8);
    refused(data, size, 1);
    data[at] ^= (unsigned char)(1 << at % 8);
  }
  n = get_u32(data + 24);
  for (i = 0; i < n; i++) { /* with a checksum that fits: whatever is read, nothing outside of the bytes is touched */
    unsigned char *row = data + 64 + 32 * i;
    size_t offset = get_u32(row + 16), length = get_u32(row + 24), padded = (length + 63) / 64 * 64;
    uint32_t kind = get_u32(row);
    /* the table; headers and tables of images, but not of the pool, whose code runs already when it is loaded */
    size_t span = kind == 2 ? length : kind == 5 ? 1000 : 0;
    for (at = 0; at < span && at < length; at += kind == 2 ? 1 : 5) {
      unsigned char before = data[offset + at];
      int bit = (int)(at * 5 % 8);
      data[offset + at] = (unsigned char)(at % 3 ? before ^ 1 << bit : 0xFF);
      put_crc(row + 12, data + offset, padded);
      put_crc(data + 12, data + 16, get_u32(data + 64 + 16) - 16);
      refused(data, size, 0);
      data[offset + at] = before;
    }
    put_crc(row + 12, data + offset, padded);
  }
  free(data);
}

int main(int argc, char **argv) {
  const char *mode = argc > 2 ? argv[1] : "";
  if (strcmp(mode, "run") == 0 && argc == 7)
    run(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), argv[6]);
  else if (strcmp(mode, "checks") == 0 && argc == 4)
    checks(argv[2], argv[3]);
  else if (strcmp(mode, "threads") == 0)
    threads(argv[2]);
  else if (strcmp(mode, "corrupt") == 0)
    corrupt(argv[2]);
  else
    return 2;
  return 0;
}
