/*
 * Declarations of the harness:
 *
 *     contract.c          runs a test case; main
 *     contract_arrays.c   numbers of every type, arrays of them
 *     contract_input.c    bytes -> a test_case
 *     contract_jobs.c     a test_case -> results; compares those of two runs
 *     contract_oracle.c   plain loops in double
 *     contract_checks.c   compares results with the plain loops
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "centerloss.h"

/* Print a message as printf does, and abort. */
_Noreturn void
fail(const char *message, ...);

/* ------------------------------------------------------------------- numbers */

typedef enum {
    F16,
    BF16,
    F32,
    F64
} format;

typedef struct {
    int size, fraction_bits;
    double largest, smallest; /* finite and positive */
} format_facts;

extern const format_facts formats[]; /* indexed by format */
/* Indexed by cl_types. */
extern const format feature_formats[CL_TYPES], center_formats[CL_TYPES];

/* The number at p, which may be unaligned. */
double
load(const char *p, format f);

/* A value rounded to the type of the centers. */
double
rounded(double value, format f);

/* -------------------------------------------------------------------- arrays */

/* Rows in memory of exactly the size that they need, after a few bytes that determine
 * their position within a cache line. */
typedef struct {
    char *memory, *first;
    int64_t rows, row_bytes, stride, bytes;
} array;

/* Rows filled with one byte; free a.memory. Bits of `layout` give their position, gap
 * and direction, in units of `unit` bytes. */
array
make_array(int64_t rows, int64_t row_bytes, int64_t unit, unsigned layout);

/* A copy with the same bytes and layout. */
array
copy_of(const array *a);

char *
row_of(const array *a, int64_t row);

/* Fail unless every byte outside of the rows is as make_array() left it. */
void
check_gaps(const array *a, const char *name);

/* --------------------------------------------------- a batch and options */

typedef struct {
    cl_batch batch; /* every run sets its centers */
    cl_loss_options loss_options;
    cl_update_options update_options;
    int needs, threads;
    bool wants_gradient;
    unsigned gradient_layout, deltas_layout, losses_layout;
    array features, centers, labels;
    double *weights; /* or NULL */
    int64_t *places; /* or NULL */
} test_case;

/* Any bytes make a case; zeros follow the last one. */
test_case
take_case(const uint8_t *data, size_t size);

void
free_case(test_case *t);

/* The bits that a label of `size` bytes has. */
uint64_t
label_mask(int size);

/* ------------------------------------------------------------------- results */

/* What all operations stored. Arrays are empty if the case does not need them, and
 * after a bad label. */
typedef struct {
    cl_status status;
    int64_t bad_row, counted, classes, stepped_classes, updated_classes;
    double loss, step_loss, plan_weight;
    array losses, gradient, step_losses, step_gradient; /* B rows */
    array stepped, updated, deltas;                     /* K rows */
    int64_t *touched;                                   /* U of each */
    array sums;
    double *counts;
} results;

results
run_operations(const test_case *t, const char *isa, int threads);

void
free_results(results *r);

/* Fail unless two runs of a case stored the same bits, except those of a NaN. */
void
same_results(const test_case *t, const results *a, const results *b);

/* Fail unless they agree with the plain loops. */
void
check_results(const test_case *t, const results *r);

/* --------------------------------------------------------------- plain loops */

/* A sum, in a type whose rounding is negligible, and the sum of its finite magnitudes,
 * to which rounding errors are relative. */
typedef struct {
    long double sum;
    double size;
} total;

void
add(total *t, double value);

/* Whether the sum may overflow, depending on the order of its summands. */
bool
may_overflow(const total *t);

/* The class of every row, -1 if ignored; returns the first bad row, or -1. */
int64_t
read_classes(const test_case *t, int64_t *classes);

double
weight_of(const test_case *t, int64_t row);

/* x - c, rounded to the type of the centers. */
double
difference(const test_case *t, int64_t row, int64_t class, int64_t j);

/* Without the factor of loss_weight and reduction; 0 for class -1. */
double
row_loss(const test_case *t, int64_t row, int64_t class);

/* The sums of every class, (K, D), and its weight and number of rows. */
typedef struct {
    total *sums, *weights;
    int64_t *rows;
} class_totals;

/* `classes` as read_classes() found them; all rows, or only those that are finite. */
class_totals
add_up_classes(const test_case *t, const int64_t *classes, bool only_finite);

void
free_class_totals(class_totals *c);

#endif
