/* Trains and runs the classifier that 01_digits.py exported. There is no Python in this process.
 *
 *   digits FOLDER
 *
 * FOLDER holds digits.tjit and the data as plain arrays: images and test (float, 64 a digit), labels and order
 * (int64_t). Writes the loss of every step to FOLDER/losses and the class of every digit of test to FOLDER/classes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digits.h" /* written by tjit.export beside digits.tjit */

enum { PIXELS = 64, BATCH = 32, EPOCHS = 30 };

static const char *folder;

static void fail(const char *what) {
  fprintf(stderr, "digits: %s\n", what);
  exit(1);
}

static FILE *open_in_folder(const char *name, const char *mode) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, mode);
  if (!file) fail(path);
  return file;
}

/* The whole file; *count is how many items of `size` bytes it holds. */
static void *read_array(const char *name, size_t size, int64_t *count) {
  FILE *file = open_in_folder(name, "rb");
  fseek(file, 0, SEEK_END);
  *count = ftell(file) / (long)size;
  rewind(file);
  void *items = malloc(*count * size);
  if (!items || fread(items, size, *count, file) != (size_t)*count) fail(name);
  fclose(file);
  return items;
}

static void write_array(const char *name, const void *items, size_t size, int64_t count) {
  FILE *file = open_in_folder(name, "wb");
  if (fwrite(items, size, count, file) != (size_t)count || fclose(file)) fail(name);
}

/* One step on the digits that `chosen` numbers; returns the loss. The package updates weights and momentum itself. */
static float train(tjit_package *package, const float *images, const int64_t *labels, const int64_t *chosen) {
  float batch[BATCH * PIXELS], loss;
  int64_t answers[BATCH];
  for (int i = 0; i < BATCH; i++) {
    memcpy(batch + i * PIXELS, images + chosen[i] * PIXELS, PIXELS * sizeof(float));
    answers[i] = labels[chosen[i]];
  }
  tjit_error error;
  if (digits_step(package, batch, answers, &loss, &error) != TJIT_OK) fail(error.message);
  return loss;
}

static void train_all(tjit_package *package) {
  int64_t count, total;
  float *images = read_array("images", PIXELS * sizeof(float), &count);
  int64_t *labels = read_array("labels", sizeof(int64_t), &count);
  int64_t *order = read_array("order", sizeof(int64_t), &total);
  int64_t steps = total / BATCH, per_epoch = steps / EPOCHS;
  float *losses = malloc(steps * sizeof(float)), sum = 0;
  if (!losses) fail("no memory");
  for (int64_t n = 0; n < steps; n++) {
    sum += losses[n] = train(package, images, labels, order + n * BATCH);
    if ((n + 1) % per_epoch) continue;
    if ((n + 1) / per_epoch % 10 == 0) printf("    epoch %2d  loss %.4f\n", (int)((n + 1) / per_epoch), sum / per_epoch);
    sum = 0;
  }
  write_array("losses", losses, sizeof(float), steps);
  free(images), free(labels), free(order), free(losses);
}

static void classify_test(tjit_package *package) {
  int64_t count;
  float *pixels = read_array("test", PIXELS * sizeof(float), &count);
  int64_t *classes = malloc(count * sizeof(int64_t));
  if (!classes) fail("no memory");
  tjit_error error;
  if (digits_classify(package, pixels, count, classes, &error) != TJIT_OK) fail(error.message);
  write_array("classes", classes, sizeof(int64_t), count);
  printf("    classified %d digits with what it trained\n", (int)count);
  free(pixels), free(classes);
}

int main(int argc, char **argv) {
  if (argc != 2) fail("usage: digits FOLDER");
  folder = argv[1];
  char path[4096];
  snprintf(path, sizeof path, "%s/digits.tjit", folder);
  tjit_package *package;
  tjit_error error;
  if (tjit_load(path, &package, &error) != TJIT_OK) fail(error.message);
  train_all(package);
  classify_test(package);
  tjit_free(package);
  return 0;
}
