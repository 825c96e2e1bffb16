/* tjit.h: run packages that tjit.export wrote, from C or C++, without Python.
 *
 *   cc -std=c11 main.c tjit.c -lpthread
 *
 * Every function may be called from several threads at once, on one package too, except tjit_free. Calls that write state
 * wait for each other and for readers; other calls run side by side. There is no global state.
 *
 * Functions that return int return TJIT_OK (0) or a tjit_status, with a message in *error where error is not NULL.
 *
 * Arrays are DLPack's DLTensor. Include dlpack.h first, if you use it too.
 */
#ifndef TJIT_H
#define TJIT_H

#include <stddef.h>
#include <stdint.h>

#ifndef DLPACK_DLPACK_H_
#define DLPACK_DLPACK_H_
/* The part of DLPack that is used here. Source: https://github.com/dmlc/dlpack, include/dlpack/dlpack.h */
typedef enum { kDLCPU = 1 } DLDeviceType;
typedef struct {
  DLDeviceType device_type;
  int32_t device_id;
} DLDevice;
typedef enum {
  kDLInt = 0,
  kDLUInt = 1,
  kDLFloat = 2,
  kDLBfloat = 4,
  kDLBool = 6
} DLDataTypeCode;
typedef struct {
  uint8_t code; /* DLDataTypeCode */
  uint8_t bits;
  uint16_t lanes; /* 1 */
} DLDataType;
typedef struct {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides; /* in elements; NULL: contiguous, in C order */
  uint64_t byte_offset;
} DLTensor;
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  TJIT_OK = 0,
  TJIT_ERROR_FILE,     /* a file cannot be read or written */
  TJIT_ERROR_FORMAT,   /* no package, or a damaged one */
  TJIT_ERROR_VERSION,  /* a package of another format version */
  TJIT_ERROR_MACHINE,  /* made for other processors */
  TJIT_ERROR_MEMORY,   /* out of memory */
  TJIT_ERROR_NAME,     /* no entry point, state or file of that name */
  TJIT_ERROR_COUNT,    /* another number of inputs or outputs */
  TJIT_ERROR_NULL,     /* NULL where an array should be */
  TJIT_ERROR_DEVICE,   /* an array that is not in the CPU's memory */
  TJIT_ERROR_DTYPE,    /* an array of another dtype */
  TJIT_ERROR_RANK,     /* an array with another number of dims */
  TJIT_ERROR_SHAPE,    /* an array of another shape, or a size out of bounds */
  TJIT_ERROR_STRIDES,  /* an array that is not contiguous in C order, or not aligned to its elements */
  TJIT_ERROR_OVERLAP,  /* an array that is written overlaps another one */
  TJIT_ERROR_INDEX     /* the program computed an index that is out of range; what it wrote is unspecified */
} tjit_status;

typedef struct {
  int code; /* a tjit_status */
  char message[500];
} tjit_error;

typedef struct tjit_package tjit_package;
typedef struct tjit_entry tjit_entry;

/* An input, an output or a state. Owned by the package. */
typedef struct {
  const char *name;
  const char *type; /* as in "f32[batch, 10]" */
  DLDataType dtype;
  int32_t ndim;
  const int64_t *shape; /* -1: differs from call to call */
  int written;          /* 1: an input or a state that calls write */
  int number;           /* 1: a state that was a Python number; f64, read and set it with tjit_number */
} tjit_value;

/* -- packages -- */

/* Load a package from a file, or from memory, which is copied. On failure *package is NULL. */
int tjit_load(const char *path, tjit_package **package, tjit_error *error);
int tjit_load_memory(const void *data, size_t size, tjit_package **package, tjit_error *error);
/* No call may be running. NULL is allowed. */
void tjit_free(tjit_package *package);

/* The level of the processor whose code was chosen, as in "x86-64-v3". */
const char *tjit_target(const tjit_package *package);

/* At most this many threads run a call; at first TJIT_NUM_THREADS of the environment, or the usable processors. Results
   do not depend on it. */
int tjit_set_threads(tjit_package *package, int threads, tjit_error *error);
int tjit_threads(const tjit_package *package);

/* A file that was exported along. The bytes are the package's. */
int tjit_extra_file(const tjit_package *package, const char *name, const void **data, size_t *size, tjit_error *error);

/* -- entry points -- */

int tjit_entry_count(const tjit_package *package);
/* NULL where there is none. */
const tjit_entry *tjit_entry_at(const tjit_package *package, int index);
const tjit_entry *tjit_find(const tjit_package *package, const char *name);

const char *tjit_entry_name(const tjit_entry *entry);
int tjit_input_count(const tjit_entry *entry);
int tjit_output_count(const tjit_entry *entry);
const tjit_value *tjit_input(const tjit_entry *entry, int index);
const tjit_value *tjit_output(const tjit_entry *entry, int index);

/* The shape that output `index` has for these inputs, whose data may be NULL. `shape` has room for its ndim. */
int tjit_output_shape(const tjit_entry *entry, const DLTensor *inputs, int n_inputs, int index, int64_t *shape,
                      tjit_error *error);

/* Run an entry point. Outputs are the caller's memory, of the right shapes; n_outputs 0 drops the results. */
int tjit_call(const tjit_entry *entry, const DLTensor *inputs, int n_inputs, const DLTensor *outputs, int n_outputs,
              tjit_error *error);

/* -- state: what calls keep from one to the next -- */

int tjit_state_count(const tjit_package *package);
const tjit_value *tjit_state(const tjit_package *package, int index);
/* Copy a state out or in; `size` is its number of bytes. */
int tjit_read_state(tjit_package *package, const char *name, void *data, size_t size, tjit_error *error);
int tjit_write_state(tjit_package *package, const char *name, const void *data, size_t size, tjit_error *error);
int tjit_number(tjit_package *package, const char *name, double *value, tjit_error *error);
int tjit_set_number(tjit_package *package, const char *name, double value, tjit_error *error);

/* Write a package with the state as it is now; or the state alone, as a safetensors file, and read that back. A file is
   written beside its place first and then moved there. */
int tjit_save(tjit_package *package, const char *path, tjit_error *error);
int tjit_save_weights(tjit_package *package, const char *path, tjit_error *error);
int tjit_load_weights(tjit_package *package, const char *path, tjit_error *error);

/* A contiguous array. */
static inline DLTensor tjit_tensor(void *data, int code, int bits, int ndim, int64_t *shape) {
  DLTensor t;
  t.data = data;
  t.device.device_type = kDLCPU;
  t.device.device_id = 0;
  t.ndim = ndim;
  t.dtype.code = (uint8_t)code;
  t.dtype.bits = (uint8_t)bits;
  t.dtype.lanes = 1;
  t.shape = shape;
  t.strides = NULL;
  t.byte_offset = 0;
  return t;
}

#ifdef __cplusplus
}
#endif

#endif /* TJIT_H */
