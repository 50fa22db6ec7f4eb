/*
 * The rows of a batch, grouped by label in O(B).
 *
 * Each class's rows, in batch order, are cut into chunks of CHUNK_ROWS (the last has
 * what is left). The batch is cut into segments of SEGMENT_ROWS consecutive rows; if
 * its rows have places in a larger batch, they are in the segments of that one. The
 * rows of a chunk that are in the same segment are added up from zero, one after
 * another; these sums are added up to the chunk's, and the chunks' to the class's, in
 * batch order. So a class's sum depends on its own rows and their positions in the
 * batch, never on threads, and chains of additions are short: at most CHUNK_ROWS in a
 * chunk, then one per chunk.
 */
#ifndef CENTERLOSS_GROUP_ROWS_H
#define CENTERLOSS_GROUP_ROWS_H

#include <stddef.h>

#include "centerloss.h"

enum {
    CHUNK_ROWS = 512,
    SEGMENT_ROWS = 32768
};

struct cl_chunk {
    int64_t start;       /* its rows are rows[start] up to the next chunk's start */
    int64_t class_index; /* its class's index among those in the batch, ascending */
    int64_t partial;     /* its row of partials, or -1: the chunk is its whole class */
};

/* In batch order: a chunk of CHUNK_ROWS rows. */
struct cl_full_chunk {
    int64_t last;    /* its last row */
    int64_t partial; /* its row of partials; those of a class are consecutive */
};

/* The segment of a row. The caller may change the places meanwhile, so code must stay
 * within its arrays whatever this returns, and if it returns another segment later. */
static inline int64_t
cl_segment_of(const int64_t *places, int64_t row)
{
    return (places != NULL ? places[row] : row) / SEGMENT_ROWS;
}

/* Copy the labels to plan->labels, -1 for an ignored row, and count the others. In
 * batch order also does what cl_count_rows() does. Returns the first row whose label
 * is out of range, or -1. Every later step uses the copy: the caller's array may
 * change meanwhile. */
int64_t
cl_read_labels(const cl_batch *batch, cl_plan *plan);

/* Batch order: set the counts and full chunks of the plan from its labels. The memory
 * of the sums is work space. */
void
cl_count_rows(cl_plan *plan, const cl_batch *batch);

/* Sort the counted rows by label, stably, into `rows`; `spare` is work space. Both are
 * (counted,). */
void
cl_sort_rows(const int64_t *labels, int64_t B, int64_t K, int64_t counted,
             int64_t *rows, int64_t *spare);

/* The maximum number of chunks. */
int64_t
cl_max_chunks(int64_t counted, int64_t K);

/* Cut sorted rows into chunks and return their number. One more, without rows, marks
 * the end. Sets the numbers of classes and of partials. */
int64_t
cl_cut_chunks(const int64_t *labels, const int64_t *rows, int64_t counted,
              cl_chunk *chunks, int64_t *classes, int64_t *partials);

#endif
