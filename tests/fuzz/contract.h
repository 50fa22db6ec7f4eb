/*
 * What the parts of the harness contract.c share.
 *
 *     contract.c          stops with a message; the run, and main
 *     contract_arrays.c   numbers of every type, arrays of them
 *     contract_input.c    bytes -> a test_case
 *     contract_jobs.c     a test_case -> results; those of two runs, compared
 *     contract_oracle.c   plain loops in double
 *     contract_checks.c   results against the plain loops
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "centerloss.h"

/* Print what is wrong, as printf does, and abort. */
_Noreturn void
fail(const char *format, ...);

/* ------------------------------------------------------------------- numbers */

typedef enum {
    F16,
    BF16,
    F32,
    F64
} format;

typedef struct {
    int size, fraction_bits;
    double largest, smallest; /* finite, and above zero */
} format_facts;

extern const format_facts formats[]; /* by format */
/* By cl_types. */
extern const format feature_formats[CL_TYPES], center_formats[CL_TYPES];

/* The number at p, which need not be aligned. */
double
load(const char *p, format f);

/* A value rounded to the type of the centers. */
double
rounded(double value, format f);

/* -------------------------------------------------------------------- arrays */

/* Rows in a block of memory of exactly the bytes that they reach over, after some
 * that give them their place within a cache line. */
typedef struct {
    char *memory, *first;
    int64_t rows, row_bytes, stride, bytes;
} array;

/* Rows of one byte over and over; free a.memory. Bits of `layout` say where they lie,
 * how far apart and in which direction, counted in `unit` bytes. */
array
make_array(int64_t rows, int64_t row_bytes, int64_t unit, unsigned layout);

/* The same bytes, in the same layout, in memory of their own. */
array
copy_of(const array *a);

char *
row_of(const array *a, int64_t row);

/* Fail unless every byte that is in no row is as make_array() left it. */
void
check_gaps(const array *a, const char *name);

/* --------------------------------------------------- a batch, and what is wanted */

typedef struct {
    cl_batch batch; /* without its centers, which every run sets */
    cl_loss_options loss_options;
    cl_update_options update_options;
    int needs, threads;
    bool wants_gradient;
    unsigned gradient_layout, deltas_layout, losses_layout;
    array features, centers, labels;
    double *weights; /* or NULL */
} test_case;

/* Of any bytes; as if zeros followed the last one. */
test_case
take_case(const uint8_t *data, size_t size);

void
free_case(test_case *t);

/* The bits that a label of `size` bytes has. */
uint64_t
label_mask(int size);

/* ------------------------------------------------------------------- results */

/* What all jobs of a plan stored; without the losses or groups that the case does not
 * need, and after a bad label, their arrays are empty. */
typedef struct {
    cl_status status;
    int64_t bad_row, counted, classes;
    double loss, step_loss, plan_weight;
    array losses, gradient, step_losses, step_gradient; /* B rows */
    array stepped, updated, deltas;                     /* K rows */
    int64_t *touched;                                   /* U of each */
    array sums;
    double *counts;
} results;

results
run_jobs(const test_case *t, const char *isa, int threads);

void
free_results(results *r);

/* Fail unless two runs of a case stored the same bits, those of a NaN aside. */
void
same_results(const test_case *t, const results *a, const results *b);

/* Fail unless they are what the plain loops make of the case. */
void
check_results(const test_case *t, const results *r);

/* --------------------------------------------------------------- plain loops */

/* A sum, wide enough that its own rounding is none of many rows, and that of the finite
 * magnitudes, which rounding errors are measured by. */
typedef struct {
    long double sum;
    double size;
} total;

void
add(total *t, double value);

/* Sums whose parts may or may not overflow, by their order. */
bool
tells_nothing(const total *t);

/* Class of every row, -1 if it is ignored; returns the first that is wrong, or -1. */
int64_t
read_classes(const test_case *t, int64_t *classes);

double
weight_of(const test_case *t, int64_t row);

/* x - c, rounded to the type of the centers. */
double
difference(const test_case *t, int64_t row, int64_t class, int64_t j);

/* Before the factor of the objective; 0 for class -1. */
double
row_loss(const test_case *t, int64_t row, int64_t class);

/* The sums of every class, (K, D), and its weight and number of rows. */
typedef struct {
    total *sums, *weights;
    int64_t *rows;
} class_totals;

/* `classes` as read_classes() found them. */
class_totals
add_up_classes(const test_case *t, const int64_t *classes);

void
free_class_totals(class_totals *c);

#endif
