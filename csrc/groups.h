/*
 * The rows of a batch, grouped by label in O(B).
 *
 * Each class's rows, in batch order, are cut into chunks of CHUNK_ROWS, the last of
 * what is left, and a chunk into pieces: its rows of one segment, SEGMENT_ROWS
 * consecutive rows of the batch. A piece is added up from zero, row after row, the
 * pieces of a chunk one after the other, and so are the chunks of a class. Thus a
 * class's sum depends on its own rows and their places in the batch, never on
 * threads, and chains are short: at most CHUNK_ROWS additions in a chunk, then one
 * per chunk.
 */
#ifndef CENTERLOSS_GROUPS_H
#define CENTERLOSS_GROUPS_H

#include "centerloss.h"

enum {
    CHUNK_ROWS = 512,
    SEGMENT_ROWS = 32768
};

struct cl_chunk {
    int64_t start; /* its rows are rows[start] up to the next chunk's start */
    int64_t rank;  /* its class is the rank-th of those touched, ascending */
    int64_t part;  /* its row of partials, or -1: the chunk is its whole class */
};

/* Copy the labels to plan->labels, -1 for an ignored row, and count the
 * others, class by class too unless plan->counts is NULL. Returns the first row
 * whose label is out of range, or -1. The copy is what every later step relies on:
 * the caller's array may change meanwhile. */
int64_t
cl_read_labels(const cl_batch *batch, cl_plan *plan);

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
