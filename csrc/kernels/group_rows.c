#include "group_rows.h"

#include <string.h>

/* A label as int64. An unsigned one above INT64_MAX becomes negative, which is out of
 * range too. */
static inline int64_t
load_label(const char *p, int size, bool is_signed)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    int64_t i64;
    switch (size) {
        case 1:
            memcpy(&u8, p, 1);
            return is_signed ? (int64_t)(int8_t)u8 : (int64_t)u8;
        case 2:
            memcpy(&u16, p, 2);
            return is_signed ? (int64_t)(int16_t)u16 : (int64_t)u16;
        case 4:
            memcpy(&u32, p, 4);
            return is_signed ? (int64_t)(int32_t)u32 : (int64_t)u32;
        default:
            memcpy(&i64, p, 8);
            return i64;
    }
}

/* Count a row of a class and, if it is the last of a full chunk, store that as `next`.
 * Returns where the chunk after it is to be stored. */
static inline cl_full_chunk *
count_row(int64_t *counts, int64_t label, int64_t row, cl_full_chunk *next)
{
    if (++counts[label] % CHUNK_ROWS == 0) {
        next->last = row;
        next++;
    }
    return next;
}

/* Give each full chunk its row of partials. `end` is one past the last full chunk. */
static void
number_full_chunks(cl_plan *plan, const cl_batch *batch, const cl_full_chunk *end)
{
    plan->n_full = end - plan->full_chunks;
    if (plan->n_full == 0) {
        return;
    }
    int64_t *next = (int64_t *)plan->sums; /* (K,) the next partial of each class */
    int64_t n = 0;
    for (int64_t label = 0; label < batch->K; label++) {
        next[label] = n;
        n += plan->counts[label] / CHUNK_ROWS;
    }
    for (int64_t k = 0; k < n; k++) {
        cl_full_chunk *chunk = &plan->full_chunks[k];
        chunk->partial = next[plan->labels[chunk->last]]++;
        plan->last_rows[chunk->partial] = chunk->last;
    }
}

void
cl_count_rows(cl_plan *plan, const cl_batch *batch)
{
    memset(plan->counts, 0, (size_t)batch->K * sizeof(*plan->counts));
    cl_full_chunk *next = plan->full_chunks;
    for (int64_t i = 0; i < batch->B; i++) {
        if (plan->labels[i] >= 0) {
            next = count_row(plan->counts, plan->labels[i], i, next);
        }
    }
    number_full_chunks(plan, batch, next);
}

/* The last four arguments are constants in every call, so each label type has loops of
 * its own. `may_be_full`: the batch has enough rows for a full chunk. */
static inline int64_t
read_labels_as(const cl_batch *b, cl_plan *plan, int size, bool is_signed, bool count,
               bool may_be_full)
{
    const int64_t B = b->B, stride = b->label_stride;
    const uint64_t K = (uint64_t)b->K;
    /* An unsigned label of 8 bytes that reads as negative matches no ignore_index. */
    const bool can_match = is_signed || b->ignore_index >= 0;
    const bool ignore = b->has_ignore_index && can_match;
    const int64_t ignore_index = ignore ? b->ignore_index : -1;
    int64_t *labels = plan->labels;
    int64_t *counts = plan->counts;
    cl_full_chunk *next = plan->full_chunks;
    int64_t ignored = 0;
    for (int64_t i = 0; i < B; i++) {
        const int64_t label = load_label(b->labels + i * stride, size, is_signed);
        if (label == ignore_index && ignore) {
            labels[i] = -1;
            ignored++;
            continue;
        }
        if ((uint64_t)label >= K) {
            return i;
        }
        labels[i] = label;
        if (count && may_be_full) {
            next = count_row(counts, label, i, next);
        }
        else if (count) {
            counts[label]++;
        }
    }
    plan->counted = B - ignored;
    number_full_chunks(plan, b, next);
    return -1;
}

static inline int64_t
read_labels_of(const cl_batch *b, cl_plan *plan, int size, bool is_signed)
{
    if (!plan->in_batch_order) {
        return read_labels_as(b, plan, size, is_signed, false, false);
    }
    return b->B < CHUNK_ROWS ? read_labels_as(b, plan, size, is_signed, true, false)
                             : read_labels_as(b, plan, size, is_signed, true, true);
}

int64_t
cl_read_labels(const cl_batch *batch, cl_plan *plan)
{
    const bool is_signed = batch->label_signed;
    switch (batch->label_size) {
        case 1:
            return is_signed ? read_labels_of(batch, plan, 1, true)
                             : read_labels_of(batch, plan, 1, false);
        case 2:
            return is_signed ? read_labels_of(batch, plan, 2, true)
                             : read_labels_of(batch, plan, 2, false);
        case 4:
            return is_signed ? read_labels_of(batch, plan, 4, true)
                             : read_labels_of(batch, plan, 4, false);
        default:
            return is_signed ? read_labels_of(batch, plan, 8, true)
                             : read_labels_of(batch, plan, 8, false);
    }
}

/* How many bits distinguish n values. */
static int
bits_for(int64_t n)
{
    int bits = 0;
    while (bits < 63 && ((int64_t)1 << bits) < n) {
        bits++;
    }
    return bits;
}

/* The counters of the values of a digit should stay in the first-level cache. */
enum {
    MAX_DIGIT_BITS = 11
};

/* One pass of the sort: move `from`, or all rows in batch order if it is NULL, to
 * `to`, by the digit of the label that starts at bit `shift`. */
static void
sort_by_digit(const int64_t *labels, const int64_t *from, int64_t *to, int64_t counted,
              int shift, int digit_bits)
{
    int64_t starts[1 << MAX_DIGIT_BITS];
    const int64_t digits = (int64_t)1 << digit_bits;
    memset(starts, 0, (size_t)digits * sizeof(*starts));
    for (int64_t p = 0; p < counted; p++) {
        const int64_t row = from != NULL ? from[p] : p;
        starts[(labels[row] >> shift) & (digits - 1)]++;
    }
    int64_t start = 0;
    for (int64_t digit = 0; digit < digits; digit++) {
        const int64_t count = starts[digit];
        starts[digit] = start;
        start += count;
    }
    for (int64_t p = 0; p < counted; p++) {
        const int64_t row = from != NULL ? from[p] : p;
        to[starts[(labels[row] >> shift) & (digits - 1)]++] = row;
    }
}

/* The counted rows, in batch order. */
static void
list_rows(const int64_t *labels, int64_t B, int64_t *rows)
{
    for (int64_t i = 0; i < B; i++) {
        if (labels[i] >= 0) {
            *rows++ = i;
        }
    }
}

/* A radix sort from the lowest digit up. A digit has no more values than there are
 * rows (but at least 16), so a pass costs O(B); with K <= B^m there are O(m)
 * passes. Passes write to `rows` and `spare` in turn, the last one to `rows`. */
void
cl_sort_rows(const int64_t *labels, int64_t B, int64_t K, int64_t counted,
             int64_t *rows, int64_t *spare)
{
    const int bits = bits_for(K);
    int max_bits = bits_for(counted);
    max_bits = max_bits < 4 ? 4 : max_bits > MAX_DIGIT_BITS ? MAX_DIGIT_BITS : max_bits;
    const int passes = (bits + max_bits - 1) / max_bits;
    const bool listed = counted < B || passes == 0;
    int64_t *to = (passes + listed) % 2 ? rows : spare;
    const int64_t *from = NULL;
    if (listed) {
        list_rows(labels, B, to);
        from = to;
        to = to == rows ? spare : rows;
    }
    for (int pass = 0, shift = 0; pass < passes; pass++) {
        const int digit_bits = (bits - shift + passes - pass - 1) / (passes - pass);
        sort_by_digit(labels, from, to, counted, shift, digit_bits);
        shift += digit_bits;
        from = to;
        to = to == rows ? spare : rows;
    }
}

int64_t
cl_max_chunks(int64_t counted, int64_t K)
{
    const int64_t max_classes = counted < K ? counted : K;
    return max_classes + counted / CHUNK_ROWS;
}

int64_t
cl_cut_chunks(const int64_t *labels, const int64_t *rows, int64_t counted,
              cl_chunk *chunks, int64_t *classes, int64_t *partials)
{
    int64_t n_chunks = 0, n_classes = 0, n_partials = 0;
    for (int64_t start = 0; start < counted; n_classes++) {
        const int64_t label = labels[rows[start]];
        int64_t stop = start + 1;
        while (stop < counted && labels[rows[stop]] == label) {
            stop++;
        }
        const bool whole = stop - start <= CHUNK_ROWS;
        for (; start < stop; start += CHUNK_ROWS) {
            const int64_t partial = whole ? -1 : n_partials++;
            chunks[n_chunks++] = (cl_chunk){start, n_classes, partial};
        }
        start = stop;
    }
    chunks[n_chunks] = (cl_chunk){counted, n_classes, -1};
    *classes = n_classes;
    *partials = n_partials;
    return n_chunks;
}
