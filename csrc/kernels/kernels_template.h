/*
 * The loops for one pair of element types: a template, included by
 * kernels_for_isa.h once per pair. Its parameters:
 *
 *     FEATURE, CENTER    the element types
 *     CENTERS            f32x16 or f64x16: sixteen values of a center
 *     ON_CENTERS(op)     f32x16_op or f64x16_op
 *     ON_FEATURES(op)    the same for f32x16, f64x16, f16x16 or bf16x16: load, store
 *                        and stream
 *     NAME(base)         base with a suffix of the pair
 *
 * README.md in the folder above has the algorithm and the symbols.
 */

/* One row and its center. Arrays that are written overlap no others. */
typedef struct {
    const FEATURE *restrict x;  /* (D,) */
    const CENTER *c;            /* (D,) */
    CENTER *updated;            /* SINGLETON: c, to be written */
    CENTER *restrict old;       /* SINGLETON: (D,) copy of c before */
    FEATURE *restrict gradient; /* (D,) */
    bool nontemporal;           /* store the gradient past the caches? */
    line_writer *lines;         /* for such stores */
    CENTER scale;               /* gradient = scale * d */
    double weight;              /* w_i */
    double *restrict sum;       /* ACCUMULATE: (D,) sum of w_i d_i so far */
    double rate;                /* SINGLETON: c += rate * d */
    const FEATURE *next_x;      /* a later row, prefetched meanwhile, or NULL */
    const CENTER *next_c;       /* its center; prefetched if next_x is not NULL */
} NAME(row_task);

/* c + rate * sum */
CL_INLINE CENTERS
NAME(moved)(CENTERS c, f64x16 sum, double rate, int n)
{
    f64x16 wide = f64x16_add(ON_CENTERS(widen)(c, n), f64x16_scale(sum, rate, n), n);
    return ON_CENTERS(narrow)(wide, n);
}

/* n columns of a row, from column j on: everything that is computed per element.
 * Returns squares + d * d. */
CL_INLINE f64x16
NAME(block)(f64x16 squares, const NAME(row_task) * row, int64_t j, int what, int n)
{
    const CENTERS c = ON_CENTERS(load)(row->c + j, n);
    const CENTERS d = ON_CENTERS(sub)(ON_FEATURES(load)(row->x + j, n), c, n);
    const f64x16 wide = ON_CENTERS(widen)(d, n);
    if (what & SINGLETON) {
        ON_CENTERS(store)(row->old + j, c, n);
        const CENTERS moved = what & EXACT_RATE
                                  ? ON_CENTERS(add_scaled)(c, d, row->rate, n)
                                  : NAME(moved)(c, wide, row->rate, n);
        ON_CENTERS(store)(row->updated + j, moved, n);
    }
    if (what & ACCUMULATE) {
        const f64x16 weighted =
            what & WEIGHTED ? f64x16_scale(wide, row->weight, n) : wide;
        f64x16_store(row->sum + j,
                     f64x16_add(f64x16_load(row->sum + j, n), weighted, n), n);
    }
    if (what & GRADIENT) {
        const CENTERS gradient = ON_CENTERS(scale)(d, row->scale, n);
        if (row->nontemporal && n == LANES) {
            ON_FEATURES(stream)(row->gradient + j, gradient, row->lines);
        }
        else {
            ON_FEATURES(store)(row->gradient + j, gradient, n);
        }
    }
    return ON_CENTERS(add_squares)(squares, wide, n);
}

/* A whole row; returns 1/2 ||d||^2. */
CL_INLINE double
NAME(row)(const NAME(row_task) * row, int64_t D, int what)
{
    f64x16 squares = f64x16_zero();
    const int64_t whole = D / LANES * LANES;
    int64_t j = 0;
    for (; j < whole; j += LANES) {
        if (row->next_x != NULL) {
            prefetch(row->next_x + j, LANES * sizeof(FEATURE));
            prefetch(row->next_c + j, LANES * sizeof(CENTER));
        }
        squares = NAME(block)(squares, row, j, what, LANES);
    }
    if (row->next_x != NULL) { /* the last cache line, where a row starts within one */
        prefetch(row->next_x + D - 1, 1);
        prefetch(row->next_c + D - 1, 1);
    }
    if (D & 8) {
        squares = NAME(block)(squares, row, j, what, 8);
        j += 8;
    }
    if (D & 4) {
        squares = NAME(block)(squares, row, j, what, 4);
        j += 4;
    }
    if (D & 2) {
        squares = NAME(block)(squares, row, j, what, 2);
        j += 2;
    }
    if (D & 1) {
        squares = NAME(block)(squares, row, j, what, 1);
    }
    return 0.5 * f64x16_total(squares);
}

/* row() for at most SHORT_ROW_VALUES values: fewer instructions, in shorter chains. */
CL_INLINE double
NAME(short_row)(const NAME(row_task) * row, int64_t D, int what)
{
    f64x16 squares = f64x16_zero();
    int64_t j = 0;
    if (D & 2) {
        squares = NAME(block)(squares, row, j, what, 2);
        j += 2;
    }
    if (D & 1) {
        squares = NAME(block)(squares, row, j, what, 1);
    }
    return 0.5 * f64x16_total_of_two(squares);
}

/* Row i of the batch, which is of class `label`. `sum` is the class's, or NULL. */
CL_INLINE void
NAME(init_row_task)(NAME(row_task) * row, const row_arrays *a, int64_t i, int64_t label,
                    double *sum)
{
    row->x = (const FEATURE *)(a->features + i * a->feature_stride);
    row->c = (const CENTER *)(a->centers + label * a->center_stride);
    row->gradient = NULL;
    if (a->gradient != NULL) {
        row->gradient = (FEATURE *)(a->gradient + i * a->gradient_stride);
    }
    row->nontemporal = a->nontemporal;
    row->lines = a->lines;
    row->weight = a->weights != NULL ? a->weights[i] : 1.0;
    row->scale = (CENTER)(row->weight * a->factor);
    row->sum = sum;
    row->next_x = NULL;
    row->next_c = NULL;
}

/* Prefetch row `later` and its center while this one is computed, line by line, so that
 * the prefetches do not delay its loads: rows in class order, and centers in batch
 * order, are scattered, and the processor cannot guess where the next one is. */
CL_INLINE void
NAME(prefetch_row)(NAME(row_task) * row, const row_arrays *a, int64_t later)
{
    const int64_t label = a->labels[later];
    row->next_x = (const FEATURE *)(a->features + later * a->feature_stride);
    row->next_c = row->c;
    if (label >= 0) {
        row->next_c = (const CENTER *)(a->centers + label * a->center_stride);
    }
}

CL_INLINE void
NAME(rows_as)(const cl_pass *pass, int64_t first, int64_t last, int what)
{
    line_writer lines = lines_begin();
    const row_arrays a = arrays_of(pass, &lines);
    for (int64_t i = first; i < last; i++) {
        const int64_t label = a.labels[i];
        if (label < 0) {
            continue;
        }
        NAME(row_task) row;
        NAME(init_row_task)(&row, &a, i, label, NULL);
        if (a.prefetch_distance > 0 && i + a.prefetch_distance < last) {
            NAME(prefetch_row)(&row, &a, i + a.prefetch_distance);
        }
        a.losses[i] = row.weight * NAME(row)(&row, a.D, what);
    }
    lines_end(&lines);
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
    finish_stores(pass);
}

/* n columns of a class whose sum is complete. Adding 0.0 turns -0.0 into 0.0. */
CL_INLINE void
NAME(finalize_block)(const cl_pass *pass, const double *sum, double normalizer,
                     const CENTER *c, CENTER *out, int n)
{
    const f64x16 total = f64x16_load(sum, n);
    if (pass->finalize == CL_UPDATE) {
        const CENTERS old = ON_CENTERS(load)(c, n);
        ON_CENTERS(store)(out, NAME(moved)(old, total, pass->alpha * normalizer, n), n);
    }
    else {
        const double factor = pass->finalize == CL_DELTA ? -normalizer : 1.0;
        const f64x16 value =
            f64x16_add(f64x16_scale(total, factor, n), f64x16_zero(), n);
        ON_CENTERS(store)(out, ON_CENTERS(narrow)(value, n), n);
    }
}

static void
NAME(finalize_class)(const cl_pass *pass, int64_t label, int64_t class_index,
                     const double *sum)
{
    const cl_batch *b = pass->batch;
    const double weight = sum[b->D];
    const double normalizer = class_normalizer(pass, weight);
    const CENTER *c = (const CENTER *)(b->centers + label * b->center_stride);
    CENTER *out;
    if (pass->finalize == CL_UPDATE) {
        out = (CENTER *)(pass->centers + label * b->center_stride);
    }
    else {
        const int64_t row = pass->finalize == CL_SUMS ? class_index : label;
        out = (CENTER *)(pass->class_rows + row * pass->class_stride);
    }
    int64_t j = 0;
    for (; j + LANES <= b->D; j += LANES) {
        NAME(finalize_block)(pass, sum + j, normalizer, c + j, out + j, LANES);
    }
    for (; j < b->D; j++) {
        NAME(finalize_block)(pass, sum + j, normalizer, c + j, out + j, 1);
    }
    if (pass->finalize == CL_SUMS) {
        pass->classes[class_index] = label;
        pass->counts[class_index] = weight;
    }
}

/* The row at a position in class order, of the `counted` ones; returns 1/2 ||d||^2.
 * `sum` is the class's or, for SINGLETON, where the old center is kept. `rate` is for
 * SINGLETON. */
CL_INLINE double
NAME(process_row)(const row_arrays *a, int64_t position, int64_t counted, int64_t label,
                  double *sum, double rate, int what)
{
    const int64_t i = a->rows[position];
    NAME(row_task) row;
    NAME(init_row_task)(&row, a, i, label, sum);
    if (what & SINGLETON) {
        row.updated = (CENTER *)(a->centers + label * a->center_stride);
        row.old = (CENTER *)sum;
        row.rate = rate;
    }
    const int64_t later = position + a->prefetch_distance;
    if (later > position && later < counted) {
        NAME(prefetch_row)(&row, a, a->rows[later]);
    }
    const double loss = NAME(row)(&row, a->D, what);
    if (what & GRADIENT) {
        a->losses[i] = row.weight * loss;
    }
    if (what & ACCUMULATE) {
        sum[a->D] += row.weight;
    }
    return loss;
}

/* Class order: add up again the finite rows of a class, which are at the positions
 * start..stop-1, as if there were no others. `sums` is (3, D + 1): the sum, and work
 * space. Returns how many rows counted. */
static int64_t
NAME(sum_finite_rows)(const cl_pass *pass, int64_t start, int64_t stop, int64_t label,
                      double *sums)
{
    const cl_plan *plan = pass->plan;
    const row_arrays a = arrays_of(pass, NULL);
    const int64_t D = a.D;
    double *chunk_sum = sums + plan->sum_size;
    double *segment_sum = chunk_sum + plan->sum_size;
    clear_sum(sums, D);
    clear_sum(chunk_sum, D);
    clear_sum(segment_sum, D);
    int64_t counted = 0, segment = -1;
    for (int64_t position = start; position < stop; position++) {
        const int64_t i = plan->rows[position];
        NAME(row_task) row;
        NAME(init_row_task)(&row, &a, i, label, segment_sum);
        if (!is_finite(NAME(row)(&row, D, 0))) {
            continue;
        }
        const bool new_chunk = counted % CHUNK_ROWS == 0;
        const int64_t row_segment = cl_segment_of(a.places, i);
        if (new_chunk || row_segment != segment) {
            add_sum(chunk_sum, segment_sum, D);
            clear_sum(segment_sum, D);
            segment = row_segment;
        }
        if (new_chunk) {
            add_sum(sums, chunk_sum, D);
            clear_sum(chunk_sum, D);
        }
        NAME(row)(&row, D, ACCUMULATE | WEIGHTED);
        segment_sum[D] += row.weight;
        counted++;
    }
    add_sum(chunk_sum, segment_sum, D);
    add_sum(sums, chunk_sum, D);
    return counted;
}

/* Class order: finalize a class whose rows are at the positions start..stop-1, unless
 * all of them are left out. `sums` is (3, D + 1): the sum, and work space. Returns how
 * many classes were finalized: 1 or 0. */
static int64_t
NAME(finalize_rows)(const cl_pass *pass, int64_t start, int64_t stop,
                    int64_t class_index, double *sums)
{
    const cl_plan *plan = pass->plan;
    const int64_t label = plan->labels[plan->rows[start]];
    if (is_nan(sums[pass->batch->D]) &&
        NAME(sum_finite_rows)(pass, start, stop, label, sums) == 0) {
        return 0;
    }
    NAME(finalize_class)(pass, label, class_index, sums);
    return 1;
}

/* A chunk that is the only row of its class: its center is updated with the row. The
 * row's d is used in place of the class's sum, 0.0 + d, which differs if d is -0.0. The
 * center gets the same bits: the sign of a zero that is added matters only if c is
 * -0.0, and then d = x - c is never -0.0. */
CL_INLINE int64_t
NAME(singleton)(const cl_pass *pass, const row_arrays *a, int64_t position,
                int64_t label, double *old)
{
    const double rate = pass->alpha * class_normalizer(pass, 1.0);
    const int64_t counted = pass->plan->counted;
    const int what = GRADIENT | SINGLETON;
    const double loss =
        is_power_of_two(rate)
            ? NAME(process_row)(a, position, counted, label, old, rate,
                                what | EXACT_RATE)
            : NAME(process_row)(a, position, counted, label, old, rate, what);
    if (may_have_nonfinite(pass, loss)) {
        memcpy(pass->centers + label * a->center_stride, old,
               (size_t)a->D * sizeof(CENTER));
        return 0;
    }
    return 1;
}

CL_INLINE int64_t
NAME(chunk)(const cl_pass *pass, const row_arrays *a, const cl_chunk *chunk,
            double *sums, int what)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = a->D;
    const int64_t start = chunk[0].start, stop = chunk[1].start;
    const int64_t label = a->labels[a->rows[start]];
    const bool is_whole_class = chunk->partial < 0;
    /* Such a row is not worth loops of its own if there is no gradient to store. */
    if (what & GRADIENT && is_whole_class && stop - start == 1 &&
        pass->finalize == CL_UPDATE && a->weights == NULL) {
        return NAME(singleton)(pass, a, start, label, sums);
    }
    double *segment_sum = sums, total = 0;
    for (int64_t from = start, to; from < stop; from = to) {
        to = segment_end(a, from, stop);
        clear_sum(segment_sum, D);
        for (int64_t position = from; position < to; position++) {
            total += NAME(process_row)(a, position, plan->counted, label, segment_sum,
                                       0.0, what);
        }
        if (segment_sum != sums) {
            add_sum(sums, segment_sum, D);
        }
        segment_sum = sums + plan->sum_size;
    }
    if (may_have_nonfinite(pass, total)) {
        sums[D] = NAN;
    }
    if (is_whole_class) {
        return NAME(finalize_rows)(pass, start, stop, chunk->class_index, sums);
    }
    memcpy(plan->partials + chunk->partial * (D + 1), sums,
           (size_t)(D + 1) * sizeof(*sums));
    return 0;
}

CL_INLINE int64_t
NAME(chunks_as)(const cl_pass *pass, int64_t first, int64_t last, double *sums,
                int what)
{
    line_writer lines = lines_begin();
    const row_arrays a = arrays_of(pass, &lines);
    int64_t finalized = 0;
    for (int64_t k = first; k < last; k++) {
        finalized += NAME(chunk)(pass, &a, &pass->plan->chunks[k], sums, what);
    }
    lines_end(&lines);
    return finalized;
}

static int64_t
NAME(chunks)(const cl_pass *pass, int64_t first, int64_t last, double *sums)
{
    int64_t finalized;
    if (pass->gradient == NULL) {
        finalized = NAME(chunks_as)(pass, first, last, sums, ACCUMULATE | WEIGHTED);
    }
    else if (pass->batch->weights == NULL) {
        finalized = NAME(chunks_as)(pass, first, last, sums, ACCUMULATE | GRADIENT);
    }
    else {
        finalized =
            NAME(chunks_as)(pass, first, last, sums, ACCUMULATE | WEIGHTED | GRADIENT);
    }
    finish_stores(pass);
    return finalized;
}

static int64_t
NAME(finalize_chunks)(const cl_pass *pass, double *sums)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    int64_t finalized = 0;
    for (int64_t k = 0; k < plan->n_chunks; k++) {
        const cl_chunk *chunk = &plan->chunks[k];
        if (chunk->partial < 0) {
            continue;
        }
        const int64_t class_index = chunk->class_index;
        const double *partial = plan->partials + chunk->partial * (D + 1);
        memcpy(sums, partial, (size_t)(D + 1) * sizeof(*sums));
        for (; plan->chunks[k + 1].class_index == class_index; k++) {
            partial += D + 1;
            add_sum(sums, partial, D);
        }
        const int64_t stop = plan->chunks[k + 1].start;
        finalized += NAME(finalize_rows)(pass, chunk->start, stop, class_index, sums);
    }
    return finalized;
}

/* Rows of a segment, whose sums are given. Returns the total of their 1/2 ||d||^2. */
CL_INLINE double
NAME(segment_as)(const cl_pass *pass, int64_t first, int64_t last, double *sums,
                 int what)
{
    line_writer lines = lines_begin();
    const row_arrays a = arrays_of(pass, &lines);
    const int64_t sum_size = pass->plan->sum_size;
    const int64_t ahead = a.prefetch_distance * a.feature_stride;
    double total = 0;
    for (int64_t i = first; i < last; i++) {
        const int64_t label = a.labels[i];
        if (label < 0) {
            continue;
        }
        double *sum = sums + label * sum_size;
        NAME(row_task) row;
        NAME(init_row_task)(&row, &a, i, label, sum);
        if (ahead > 0) { /* the centers of few classes are in a cache */
            row.next_x = (const FEATURE *)((const char *)row.x + ahead);
            row.next_c = row.c;
        }
        const double loss = what & SHORT ? NAME(short_row)(&row, a.D, what)
                                         : NAME(row)(&row, a.D, what);
        total += loss;
        sum[a.D] += row.weight;
        if (what & GRADIENT) {
            a.losses[i] = row.weight * loss;
        }
    }
    lines_end(&lines);
    return total;
}

static double
NAME(segment_rows)(const cl_pass *pass, int64_t first, int64_t last, double *sums)
{
    if (pass->gradient == NULL) {
        return NAME(segment_as)(pass, first, last, sums, ACCUMULATE | WEIGHTED);
    }
    if (pass->batch->weights == NULL && pass->batch->D <= SHORT_ROW_VALUES) {
        return NAME(segment_as)(pass, first, last, sums, ACCUMULATE | GRADIENT | SHORT);
    }
    if (pass->batch->weights == NULL) {
        return NAME(segment_as)(pass, first, last, sums, ACCUMULATE | GRADIENT);
    }
    return NAME(segment_as)(pass, first, last, sums, ACCUMULATE | WEIGHTED | GRADIENT);
}

/* Batch order: move the sum of a full chunk to its partial. */
CL_INLINE void
NAME(end_chunk)(const cl_pass *pass, const cl_full_chunk *chunk, double *sums)
{
    const cl_plan *plan = pass->plan;
    const int64_t D = pass->batch->D;
    double *sum = sums + plan->labels[chunk->last] * plan->sum_size;
    memcpy(plan->partials + chunk->partial * (D + 1), sum,
           (size_t)(D + 1) * sizeof(*sum));
    clear_sum(sum, D);
}

static void
NAME(segments)(const cl_pass *pass, int64_t first, int64_t last)
{
    const cl_plan *plan = pass->plan;
    const int64_t B = pass->batch->B, n = pass->batch->K * plan->sum_size;
    const cl_full_chunk *chunk = plan->full_chunks;
    const cl_full_chunk *const stop = chunk + plan->n_full;
    while (chunk < stop && chunk->last < first * SEGMENT_ROWS) {
        chunk++;
    }
    for (int64_t k = first; k < last; k++) {
        const int64_t end = k + 1 < plan->segments ? (k + 1) * SEGMENT_ROWS : B;
        double *sums = plan->sums + k * n, total = 0;
        memset(sums, 0, (size_t)n * sizeof(*sums));
        int64_t row = k * SEGMENT_ROWS;
        for (; chunk < stop && chunk->last < end; chunk++) {
            total += NAME(segment_rows)(pass, row, chunk->last + 1, sums);
            NAME(end_chunk)(pass, chunk, sums);
            row = chunk->last + 1;
        }
        total += NAME(segment_rows)(pass, row, end, sums);
        if (may_have_nonfinite(pass, total)) {
            sums[pass->batch->D] = NAN;
        }
    }
    finish_stores(pass);
}

/* Batch order: finalize the classes, none of which is marked. */
static int64_t
NAME(finalize_sums)(const cl_pass *pass)
{
    const cl_plan *plan = pass->plan;
    int64_t finalized = 0, partial = 0;
    for (int64_t label = 0; label < pass->batch->K; label++) {
        if (plan->counts[label] > 0) {
            const int64_t next = partial + plan->counts[label] / CHUNK_ROWS;
            const double *sum = next == partial
                                    ? add_segments(pass, label)
                                    : add_chunks(pass, label, partial, next);
            NAME(finalize_class)(pass, label, finalized++, sum);
            partial = next;
        }
    }
    return finalized;
}

/* Batch order: leave out the rows that are not finite. */
static void
NAME(leave_out_rows)(const cl_pass *pass)
{
    const row_arrays a = arrays_of(pass, NULL);
    int64_t *labels = pass->plan->labels;
    for (int64_t i = 0; i < pass->batch->B; i++) {
        if (labels[i] >= 0) {
            NAME(row_task) row;
            NAME(init_row_task)(&row, &a, i, labels[i], NULL);
            if (!is_finite(NAME(row)(&row, a.D, 0))) {
                labels[i] = left_out(labels[i]);
            }
        }
    }
    cl_count_rows(pass->plan, pass->batch);
}

static int64_t
NAME(finalize_segments)(const cl_pass *pass)
{
    if (!is_marked(pass)) {
        return NAME(finalize_sums)(pass);
    }
    cl_pass sums_only = *pass;
    sums_only.gradient = NULL;
    sums_only.skip_nonfinite = false;
    NAME(leave_out_rows)(pass);
    NAME(segments)(&sums_only, 0, pass->plan->segments);
    const int64_t finalized = NAME(finalize_sums)(pass);
    restore_labels(pass);
    return finalized;
}
