/*
 * The loops for one pair of element types: a template, included by
 * kernels_for_isa.h once per pair. Its parameters:
 *
 *     FEATURE, CENTER    the element types
 *     CENTERS            f8 or d8: eight centers' values side by side
 *     ON_CENTERS(op)     f8_op or d8_op
 *     ON_FEATURES(op)    f8_op, d8_op, h8_op or b8_op: load, store, stream
 *     NAME(base)         base with a suffix of the pair's own
 *
 * README.md derives what is computed here.
 */

/* One row against its center. */
typedef struct {
    const FEATURE *x;   /* (D,) */
    CENTER *c;          /* (D,) */
    FEATURE *gradient;  /* (D,) */
    bool streams;       /* is it stored past the cache? */
    CENTER scale;       /* gradient = scale * d */
    double weight;      /* w_i */
    double *sum;        /* PULL: (D,) sum of w_i d_i so far */
    double rate;        /* ALONE: c += rate * d */
    const char *next_x; /* a later row, to be fetched meanwhile, or NULL */
    const char *next_c; /* its center, likewise */
} NAME(row_task);

/* c + rate * pull */
CL_INLINE CENTERS
NAME(moved)(CENTERS c, d8 pull, double rate, int n)
{
    d8 wide = d8_add(ON_CENTERS(widen)(c, n), d8_scale(pull, rate, n), n);
    return ON_CENTERS(narrow)(wide, n);
}

/* n columns of a row, from column j on: everything that is computed per
 * element. Returns squares + d * d. */
CL_INLINE d8
NAME(block)(d8 squares, const NAME(row_task) * row, int64_t j, int what, int n)
{
    const CENTERS c = ON_CENTERS(load)(row->c + j, n);
    const CENTERS d = ON_CENTERS(sub)(ON_FEATURES(load)(row->x + j, n), c, n);
    const d8 wide = ON_CENTERS(widen)(d, n);
    if (what & ALONE) {
        ON_CENTERS(store)(row->c + j, NAME(moved)(c, wide, row->rate, n), n);
    }
    if (what & PULL) {
        const d8 pull = d8_scale(wide, row->weight, n);
        d8_store(row->sum + j, d8_add(d8_load(row->sum + j, n), pull, n), n);
    }
    if (what & GRADIENT) {
        const CENTERS gradient = ON_CENTERS(scale)(d, row->scale, n);
        if (row->streams && n == LANES) {
            ON_FEATURES(stream)(row->gradient + j, gradient);
        }
        else {
            ON_FEATURES(store)(row->gradient + j, gradient, n);
        }
    }
    return d8_add(squares, d8_mul(wide, wide, n), n);
}

/* A whole row; returns 1/2 ||d||^2. Two sets of lanes keep the processor's
 * adders busy. */
CL_INLINE double
NAME(row)(const NAME(row_task) * row, int64_t D, int what)
{
    const int64_t x_step = 2 * LANES * sizeof(FEATURE);
    const int64_t c_step = 2 * LANES * sizeof(CENTER);
    d8 even = d8_zero(), odd = d8_zero();
    int64_t j = 0;
    for (; j + 2 * LANES <= D; j += 2 * LANES) {
        if (row->next_x != NULL) {
            fetch(row->next_x + j * (int64_t)sizeof(FEATURE), x_step);
        }
        if (row->next_c != NULL) {
            fetch(row->next_c + j * (int64_t)sizeof(CENTER), c_step);
        }
        even = NAME(block)(even, row, j, what, LANES);
        odd = NAME(block)(odd, row, j + LANES, what, LANES);
    }
    if (D & 8) {
        even = NAME(block)(even, row, j, what, 8);
        j += 8;
    }
    if (D & 4) {
        even = NAME(block)(even, row, j, what, 4);
        j += 4;
    }
    if (D & 2) {
        even = NAME(block)(even, row, j, what, 2);
        j += 2;
    }
    if (D & 1) {
        even = NAME(block)(even, row, j, what, 1);
    }
    return 0.5 * d8_total(d8_add(even, odd, LANES));
}

/* Row i of the batch, which is of class `label`. */
CL_INLINE void
NAME(take_row)(NAME(row_task) * row, const cl_pass *pass, int64_t i, int64_t label)
{
    const cl_batch *b = pass->batch;
    row->x = (const FEATURE *)(b->features + i * b->feature_stride);
    row->c = (CENTER *)(b->centers + label * b->center_stride);
    row->gradient = NULL;
    row->streams = pass->store == CL_STREAMED;
    if (pass->gradient != NULL) {
        row->gradient = (FEATURE *)(pass->gradient + i * pass->gradient_stride);
    }
    row->weight = b->weights != NULL ? b->weights[i] : 1.0;
    row->scale = (CENTER)(row->weight * pass->factor);
    row->next_x = NULL;
    row->next_c = NULL;
}

/* Have what row `later` reads fetched, but for a class that is in use: rows are
 * scattered in class order, and centers in batch order, and the processor cannot
 * guess where the next one is. Of a short row that is done at once, of a longer
 * one bit by bit while this row is worked on, so as not to stand in the way of
 * its loads. */
static CL_NOINLINE void
NAME(take_next)(NAME(row_task) * row, const cl_pass *pass, int64_t i, int64_t later)
{
    const cl_batch *b = pass->batch;
    const cl_plan *plan = pass->plan;
    const int64_t label = plan->labels[later];
    const int64_t x_bytes = b->D * (int64_t)sizeof(FEATURE);
    const int64_t c_bytes = b->D * (int64_t)sizeof(CENTER);
    const bool is_short = x_bytes <= SHORT_ROW_BYTES;
    /* The last line is always fetched at once: a row that starts within a line
     * has a part of one more than its length tells. */
    const char *x = b->features + later * b->feature_stride;
    fetch(x, is_short ? x_bytes : 0);
    fetch(x + x_bytes - 1, 1);
    row->next_x = is_short ? NULL : x;
    if (label >= 0 && label != plan->labels[i]) {
        const char *c = b->centers + label * b->center_stride;
        fetch(c, is_short ? c_bytes : 0);
        fetch(c + c_bytes - 1, 1);
        row->next_c = is_short ? NULL : c;
        if (plan->in_batch_order && row->sum != NULL) {
            const double *sum = row->sum + (label - plan->labels[i]) * plan->sum_size;
            fetch((const char *)sum, (b->D + 1) * (int64_t)sizeof(*sum));
        }
    }
    if (pass->store == CL_STAGED) {
        const char *gradient = pass->gradient + later * pass->gradient_stride;
        fetch_to_store(gradient);
        fetch_to_store(gradient + x_bytes - 1);
    }
}

CL_INLINE void
NAME(rows_as)(const cl_pass *pass, int64_t first, int64_t last, int what)
{
    const cl_batch *b = pass->batch;
    for (int64_t i = first; i < last; i++) {
        const int64_t label = pass->plan->labels[i];
        if (label < 0) {
            continue;
        }
        NAME(row_task) row = {0};
        NAME(take_row)(&row, pass, i, label);
        if (pass->ahead > 0 && i + pass->ahead < last) {
            NAME(take_next)(&row, pass, i, i + pass->ahead);
        }
        pass->plan->losses[i] = row.weight * NAME(row)(&row, b->D, what);
    }
}

static void
NAME(rows)(const cl_pass *pass, int64_t first, int64_t last)
{
    if (pass->gradient == NULL) {
        NAME(rows_as)(pass, first, last, 0);
    }
    else {
        NAME(rows_as)(pass, first, last, GRADIENT);
    }
    part_end(pass);
}

/* n columns of a class whose sum is complete. `share` is 1 / (1 + n_j) or 1;
 * adding 0.0 makes a plain zero of a negative one. */
CL_INLINE void
NAME(finish_block)(const cl_pass *pass, const double *sum, double share, CENTER *c,
                   CENTER *out, int n)
{
    const d8 pull = d8_load(sum, n);
    if (pass->finish == CL_MOVE) {
        const CENTERS old = ON_CENTERS(load)(c, n);
        ON_CENTERS(store)(c, NAME(moved)(old, pull, pass->alpha * share, n), n);
    }
    else {
        const double factor = pass->finish == CL_DELTA ? -share : 1.0;
        const d8 value = d8_add(d8_scale(pull, factor, n), d8_zero(), n);
        ON_CENTERS(store)(out, ON_CENTERS(narrow)(value, n), n);
    }
}

static void
NAME(finish)(const cl_pass *pass, int64_t label, int64_t rank, const double *sum)
{
    const cl_batch *b = pass->batch;
    const double weight = sum[b->D];
    const double share = class_share(pass, weight);
    const int64_t at = pass->finish == CL_SUMS ? rank : label;
    CENTER *c = (CENTER *)(b->centers + label * b->center_stride);
    CENTER *out = c;
    if (pass->finish != CL_MOVE) {
        out = (CENTER *)(pass->class_rows + at * pass->class_stride);
    }
    int64_t j = 0;
    for (; j + LANES <= b->D; j += LANES) {
        NAME(finish_block)(pass, sum + j, share, c + j, out + j, LANES);
    }
    for (; j < b->D; j++) {
        NAME(finish_block)(pass, sum + j, share, c + j, out + j, 1);
    }
    if (pass->finish == CL_SUMS) {
        pass->classes[rank] = label;
        pass->counts[rank] = weight;
    }
}

/* The row at a place in class order; returns its weight. */
CL_INLINE double
NAME(placed_row)(const cl_pass *pass, int64_t place, int64_t label, double *sum,
                 char *staged, int what)
{
    const cl_plan *plan = pass->plan;
    const int64_t i = plan->rows[place];
    NAME(row_task) row = {.sum = sum};
    NAME(take_row)(&row, pass, i, label);
    if (what & ALONE) {
        row.rate = pass->alpha * class_share(pass, 1.0);
    }
    if (pass->ahead > 0 && place + pass->ahead < plan->counted) {
        NAME(take_next)(&row, pass, i, plan->rows[place + pass->ahead]);
    }
    char *gradient = (char *)row.gradient;
    const bool stages = what & GRADIENT && pass->store == CL_STAGED;
    if (stages) {
        staged += (uintptr_t)gradient % LINE_BYTES;
        row.gradient = (FEATURE *)staged;
    }
    const double loss = NAME(row)(&row, pass->batch->D, what);
    if (stages) {
        stream_row(gradient, staged, pass->batch->D * (int64_t)sizeof(FEATURE));
    }
    if (what & GRADIENT) {
        plan->losses[i] = row.weight * loss;
    }
    return row.weight;
}

CL_INLINE void
NAME(piece)(const cl_pass *pass, int64_t from, int64_t to, int64_t label, double *sum,
            char *staged, int what)
{
    memset(sum, 0, (size_t)(pass->batch->D + 1) * sizeof(*sum));
    for (int64_t place = from; place < to; place++) {
        sum[pass->batch->D] += NAME(placed_row)(pass, place, label, sum, staged, what);
    }
}

CL_INLINE void
NAME(chunk)(const cl_pass *pass, const cl_chunk *chunk, double *sum, char *staged,
            int what)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    const int64_t start = chunk[0].start, stop = chunk[1].start;
    const int64_t label = plan->labels[plan->rows[start]];
    const bool whole = chunk->part < 0;
    /* The sum is the row's d. (Added to zero, a negative zero would be a plain one,
     * but d is never one where c is: c comes out the same.) Without a gradient it is
     * not worth loops of its own. */
    if (ALONE_LOOPS && what & GRADIENT && whole && stop - start == 1 &&
        pass->finish == CL_MOVE && pass->batch->weights == NULL) {
        NAME(placed_row)(pass, start, label, NULL, staged, GRADIENT | ALONE);
        return;
    }
    double *into = sum;
    for (int64_t from = start, to; from < stop; from = to) {
        to = piece_end(plan, from, stop);
        NAME(piece)(pass, from, to, label, into, staged, what);
        if (into != sum) {
            add_sum(sum, into, D);
        }
        into = sum + plan->sum_size;
    }
    if (whole) {
        NAME(finish)(pass, label, chunk->rank, sum);
    }
    else {
        double *partial = plan->partials + chunk->part * (D + 1);
        memcpy(partial, sum, (size_t)(D + 1) * sizeof(*sum));
    }
}

CL_INLINE void
NAME(chunks_as)(const cl_pass *pass, int64_t first, int64_t last, double *sum,
                char *staged, int what)
{
    for (int64_t k = first; k < last; k++) {
        NAME(chunk)(pass, &pass->plan->chunks[k], sum, staged, what);
    }
}

static void
NAME(chunks)(const cl_pass *pass, int64_t first, int64_t last, double *sum,
             char *staged)
{
    if (pass->gradient == NULL) {
        NAME(chunks_as)(pass, first, last, sum, staged, PULL);
    }
    else {
        NAME(chunks_as)(pass, first, last, sum, staged, PULL | GRADIENT);
    }
    part_end(pass);
}

static void
NAME(finish_chunks)(const cl_pass *pass, double *sum)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    for (int64_t k = 0; k < plan->n_chunks; k++) {
        const cl_chunk *chunk = &plan->chunks[k];
        if (chunk->part < 0) {
            continue;
        }
        const int64_t rank = chunk->rank;
        const double *partial = plan->partials + chunk->part * (D + 1);
        memcpy(sum, partial, (size_t)(D + 1) * sizeof(*sum));
        for (; plan->chunks[k + 1].rank == rank; k++) {
            partial += D + 1;
            add_sum(sum, partial, D);
        }
        NAME(finish)(pass, plan->labels[plan->rows[chunk->start]], rank, sum);
    }
}

CL_INLINE void
NAME(segment_as)(const cl_pass *pass, int64_t first, int64_t last, double *sums,
                 int what)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    for (int64_t i = first; i < last; i++) {
        const int64_t label = plan->labels[i];
        if (label < 0) {
            continue;
        }
        NAME(row_task) row = {.sum = sums + label * plan->sum_size};
        NAME(take_row)(&row, pass, i, label);
        if (pass->ahead > 0 && i + pass->ahead < last) {
            NAME(take_next)(&row, pass, i, i + pass->ahead);
        }
        const double loss = NAME(row)(&row, D, what);
        row.sum[D] += row.weight;
        if (what & GRADIENT) {
            plan->losses[i] = row.weight * loss;
        }
    }
}

static void
NAME(segment)(const cl_pass *pass, int64_t first, int64_t last, double *sums)
{
    const int64_t n = pass->batch->K * pass->plan->sum_size;
    memset(sums, 0, (size_t)n * sizeof(*sums));
    if (pass->gradient == NULL) {
        NAME(segment_as)(pass, first, last, sums, PULL);
    }
    else {
        NAME(segment_as)(pass, first, last, sums, PULL | GRADIENT);
    }
    part_end(pass);
}

static void
NAME(finish_segments)(const cl_pass *pass)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D, K = pass->batch->K;
    int64_t rank = 0;
    for (int64_t label = 0; label < K; label++) {
        if (plan->counts[label] == 0) {
            continue;
        }
        double *sum = plan->sums + label * plan->sum_size;
        for (int64_t k = 1; k < plan->segments; k++) {
            add_sum(sum, sum + k * K * plan->sum_size, D);
        }
        NAME(finish)(pass, label, rank++, sum);
    }
}
