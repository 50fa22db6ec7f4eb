/*
 * The rows of a batch, grouped by label in O(B).
 *
 * Each class's rows, in batch order, are cut into chunks of at most CHUNK_ROWS.
 * A chunk is added up from zero, row after row; the chunks of a class are then
 * added up one after the other. This order depends on the labels alone, never
 * on threads, and it keeps the chains short: at most CHUNK_ROWS additions in a
 * chunk, then one per chunk.
 */
#ifndef CENTERLOSS_GROUPS_H
#define CENTERLOSS_GROUPS_H

#include "centerloss.h"

enum {
    CHUNK_ROWS = 512
};

struct cl_chunk {
    int64_t start; /* its rows are rows[start] up to the next chunk's start */
    int64_t rank;  /* its class is the rank-th of those touched, ascending */
    int64_t part;  /* its row of partials, or -1: the chunk is its whole class */
};

/* Copy the labels to (B,) int64, -1 for an ignored row, and count the others.
 * Returns the first row whose label is out of range, or -1. The copy is what
 * every later step relies on: the caller's array may change meanwhile. */
int64_t
cl_read_labels(const cl_batch *batch, int64_t *labels, int64_t *counted);

/* Sort the rows that count by label, stably; returns `rows` or `spare`, both
 * (counted,), whichever holds the result. */
int64_t *
cl_sort_rows(const int64_t *labels, int64_t B, int64_t K, int64_t counted,
             int64_t *rows, int64_t *spare);

/* The most chunks that rows can make. */
int64_t
cl_most_chunks(int64_t counted, int64_t K);

/* Cut sorted rows into chunks, with a closing one behind, and return their
 * number. Sets the numbers of classes and of partials. */
int64_t
cl_cut_chunks(const int64_t *labels, const int64_t *rows, int64_t counted,
              cl_chunk *chunks, int64_t *classes, int64_t *partials);

#endif
