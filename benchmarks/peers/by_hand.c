/*
 * A step for one shape, ROWS x DIM features and CLASSES centers, with the rate ALPHA,
 * as one would write it for that shape alone. by_hand.py compiles it for the workload
 * and this processor. DIM is a multiple of 16; labels are not checked; one thread.
 *
 * Differences and gradient are floats; losses and class sums are added up in double
 * precision, in any order, with fused multiply-adds.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

_Static_assert(DIM % 16 == 0, "rows are processed 16 columns at a time");

#define FEW_CLASSES (CLASSES * 8LL * DIM <= 2 << 20 && CLASSES <= ROWS / 4)
#define STREAMED (ROWS * 4LL * DIM >= 4 << 20)    /* gradient past the caches */
#define BY_LABEL (STREAMED && CLASSES <= 1 << 16) /* the order of the classes */

enum {
    ROWS_AHEAD = 8, /* prefetched, where rows are visited in order */
    CLASSES_AHEAD = 2,
};

#define INLINE static inline __attribute__((always_inline))

/* Sixteen columns: a row's floats, the same as doubles, and stores past the caches. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
typedef __m512 floats;
typedef struct {
    __m512d low, high;
} doubles;

INLINE floats
load(const float *p)
{
    return _mm512_loadu_ps(p);
}

INLINE void
store(float *p, floats v, bool aligned)
{
    (void)aligned;
    _mm512_storeu_ps(p, v);
}

INLINE floats
sub(floats a, floats b)
{
    return _mm512_sub_ps(a, b);
}

INLINE floats
scale(floats v, float factor)
{
    return _mm512_mul_ps(v, _mm512_set1_ps(factor));
}

INLINE floats
add_scaled(floats c, floats d, float factor)
{
    return _mm512_fmadd_ps(d, _mm512_set1_ps(factor), c);
}

INLINE doubles
widen(floats v)
{
    return (doubles){_mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                     _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))};
}

INLINE doubles
zero(void)
{
    return (doubles){_mm512_setzero_pd(), _mm512_setzero_pd()};
}

INLINE doubles
add_squares(doubles sum, doubles v)
{
    return (doubles){_mm512_fmadd_pd(v.low, v.low, sum.low),
                     _mm512_fmadd_pd(v.high, v.high, sum.high)};
}

INLINE void
add_to(double *sum, doubles v)
{
    _mm512_store_pd(sum, _mm512_add_pd(_mm512_load_pd(sum), v.low));
    _mm512_store_pd(sum + 8, _mm512_add_pd(_mm512_load_pd(sum + 8), v.high));
}

INLINE double
total(doubles v)
{
    return _mm512_reduce_add_pd(_mm512_add_pd(v.low, v.high));
}

/* Consecutive blocks of 16 floats, stored as whole cache lines. */
typedef struct {
    floats last;   /* the block before, whose last `shift` floats are not stored yet */
    int shift;     /* floats from the start of a line to a block */
    __m512i lanes; /* the last `shift` of a block, and the first of the next */
    bool started;
} stream;

INLINE stream
stream_begin(const float *p)
{
    const int shift = (int)((uintptr_t)p % 64 / 4);
    const __m512i count =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return (stream){_mm512_setzero_ps(), shift,
                    _mm512_add_epi32(count, _mm512_set1_epi32(16 - shift)), false};
}

INLINE void
stream_store(stream *s, float *p, floats v)
{
    const floats line = _mm512_permutex2var_ps(s->last, s->lanes, v);
    if (s->started || s->shift == 0) {
        _mm512_stream_ps(p - s->shift, line);
    }
    else {
        _mm512_mask_storeu_ps(p - s->shift, (__mmask16)(0xffff << s->shift), line);
    }
    s->started = true;
    s->last = v;
}

/* p is where the next block would be. */
INLINE void
stream_end(stream *s, float *p)
{
    const floats line = _mm512_permutex2var_ps(s->last, s->lanes, s->last);
    _mm512_mask_storeu_ps(p - s->shift, (__mmask16)((1 << s->shift) - 1), line);
}

#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef struct {
    __m256 low, high;
} floats;
typedef struct {
    __m256d part[4];
} doubles;

INLINE floats
load(const float *p)
{
    return (floats){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

/* In pieces of 16 bytes unless aligned: these cross no cache line. */
INLINE void
store(float *p, floats v, bool aligned)
{
    if (aligned) {
        _mm256_store_ps(p, v.low);
        _mm256_store_ps(p + 8, v.high);
    }
    else {
        _mm_storeu_ps(p, _mm256_castps256_ps128(v.low));
        _mm_storeu_ps(p + 4, _mm256_extractf128_ps(v.low, 1));
        _mm_storeu_ps(p + 8, _mm256_castps256_ps128(v.high));
        _mm_storeu_ps(p + 12, _mm256_extractf128_ps(v.high, 1));
    }
}

INLINE floats
sub(floats a, floats b)
{
    return (floats){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}

INLINE floats
scale(floats v, float factor)
{
    const __m256 all = _mm256_set1_ps(factor);
    return (floats){_mm256_mul_ps(v.low, all), _mm256_mul_ps(v.high, all)};
}

INLINE floats
add_scaled(floats c, floats d, float factor)
{
    const __m256 all = _mm256_set1_ps(factor);
    return (floats){_mm256_fmadd_ps(d.low, all, c.low),
                    _mm256_fmadd_ps(d.high, all, c.high)};
}

INLINE doubles
widen(floats v)
{
    return (doubles){{_mm256_cvtps_pd(_mm256_castps256_ps128(v.low)),
                      _mm256_cvtps_pd(_mm256_extractf128_ps(v.low, 1)),
                      _mm256_cvtps_pd(_mm256_castps256_ps128(v.high)),
                      _mm256_cvtps_pd(_mm256_extractf128_ps(v.high, 1))}};
}

INLINE doubles
zero(void)
{
    const __m256d none = _mm256_setzero_pd();
    return (doubles){{none, none, none, none}};
}

INLINE doubles
add_squares(doubles sum, doubles v)
{
    for (int i = 0; i < 4; i++) {
        sum.part[i] = _mm256_fmadd_pd(v.part[i], v.part[i], sum.part[i]);
    }
    return sum;
}

INLINE void
add_to(double *sum, doubles v)
{
    for (int i = 0; i < 4; i++) {
        const __m256d before = _mm256_load_pd(sum + 4 * i);
        _mm256_store_pd(sum + 4 * i, _mm256_add_pd(before, v.part[i]));
    }
}

INLINE double
total(doubles v)
{
    const __m256d four = (v.part[0] + v.part[1]) + (v.part[2] + v.part[3]);
    return (four[0] + four[1]) + (four[2] + four[3]);
}

typedef struct {
    bool aligned;
} stream;

INLINE stream
stream_begin(const float *p)
{
    return (stream){(uintptr_t)p % 32 == 0};
}

INLINE void
stream_store(stream *s, float *p, floats v)
{
    if (s->aligned) {
        _mm256_stream_ps(p, v.low);
        _mm256_stream_ps(p + 8, v.high);
    }
    else {
        _mm_stream_ps(p, _mm256_castps256_ps128(v.low));
        _mm_stream_ps(p + 4, _mm256_extractf128_ps(v.low, 1));
        _mm_stream_ps(p + 8, _mm256_castps256_ps128(v.high));
        _mm_stream_ps(p + 12, _mm256_extractf128_ps(v.high, 1));
    }
}

INLINE void
stream_end(stream *s, float *p)
{
    (void)s;
    (void)p;
}

#else
#error "no loop for this processor: it has neither AVX-512 nor AVX2"
#endif

INLINE void
store_gradient(stream *s, float *g, floats d, bool aligned)
{
    const floats v = scale(d, 1.0F / ROWS);
    if (STREAMED) {
        stream_store(s, g, v);
    }
    else {
        store(g, v, aligned);
    }
}

/* A row that is added to the sum of its class; returns ||d||^2. */
INLINE double
row(const float *x, const float *c, float *g, double *sum, stream *s, bool aligned,
    const float *ahead)
{
    doubles squares = zero();
    for (int k = 0; k < DIM; k += 16) {
        if (ahead != NULL) {
            __builtin_prefetch(ahead + k, 0, 2);
        }
        const floats d = sub(load(x + k), load(c + k));
        const doubles wide = widen(d);
        squares = add_squares(squares, wide);
        add_to(sum + k, wide);
        store_gradient(s, g + k, d, aligned);
    }
    return total(squares);
}

/* A row that is the only one of its class, whose center moves at once. */
INLINE double
only_row(const float *x, float *c, float *g, bool aligned, const float *next_x,
         const float *next_c)
{
    doubles squares = zero();
    stream s = stream_begin(g);
    for (int k = 0; k < DIM; k += 16) {
        if (next_x != NULL) {
            __builtin_prefetch(next_x + k, 0, 2);
        }
        __builtin_prefetch(next_c + k, 0, 2);
        const floats before = load(c + k);
        const floats d = sub(load(x + k), before);
        squares = add_squares(squares, widen(d));
        store_gradient(&s, g + k, d, aligned);
        store(c + k, add_scaled(before, d, ALPHA / 2), aligned);
    }
    if (STREAMED) {
        stream_end(&s, g + DIM);
    }
    return total(squares);
}

INLINE void
move(float *c, const double *sum, int n)
{
    const double rate = (double)ALPHA / (1 + n);
    for (int k = 0; k < DIM; k++) {
        c[k] += (float)(rate * sum[k]);
    }
}

#if FEW_CLASSES
/* Rows in order, with a sum for every class. */
static double sums[CLASSES][DIM] __attribute__((aligned(64)));
static int counts[CLASSES];

INLINE double
all_rows(const float *x, const int64_t *labels, const float *c, float *g, bool aligned)
{
    double loss = 0;
    stream s = stream_begin(g);
    for (int64_t i = 0; i < ROWS; i++) {
        const int64_t j = labels[i];
        const float *ahead = x + (i + ROWS_AHEAD) * DIM;
        counts[j]++;
        loss += row(x + i * DIM, c + j * DIM, g + i * DIM, sums[j], &s, aligned, ahead);
    }
    if (STREAMED) {
        stream_end(&s, g + (int64_t)ROWS * DIM);
        _mm_sfence();
    }
    return loss;
}

double
step(const float *x, const int64_t *labels, float *c, float *g)
{
    memset(sums, 0, sizeof(sums));
    memset(counts, 0, sizeof(counts));
    const bool aligned = (uintptr_t)g % 64 == 0;
    const double loss =
        aligned ? all_rows(x, labels, c, g, true) : all_rows(x, labels, c, g, false);
    for (int64_t j = 0; j < CLASSES; j++) {
        move(c + j * DIM, sums[j], counts[j]);
    }
    return loss / (2.0 * ROWS);
}

#else
/* Class by class. The rows of a class are linked: 1 + its first row, or 0, and for a
 * row, 1 + the next of its class, or 0. */
static int first_row[CLASSES], next_row[ROWS];
static int classes[ROWS]; /* the first rows of the classes, as they are visited */

static int
link_rows(const int64_t *labels)
{
    int n = 0;
    for (int i = ROWS - 1; i >= 0; i--) {
        next_row[i] = first_row[labels[i]];
        first_row[labels[i]] = i + 1;
    }
    if (BY_LABEL) {
        for (int j = 0; j < CLASSES; j++) {
            if (first_row[j] > 0) {
                classes[n++] = first_row[j] - 1;
                first_row[j] = 0;
            }
        }
    }
    else {
        for (int i = 0; i < ROWS; i++) {
            if (first_row[labels[i]] == i + 1) {
                classes[n++] = i;
                first_row[labels[i]] = 0;
            }
        }
    }
    return n;
}

INLINE double
one_class(const float *x, float *c, float *g, int first, bool aligned)
{
    static double sum[DIM] __attribute__((aligned(64)));
    double loss = 0;
    int n = 0;
    memset(sum, 0, sizeof(sum));
    for (int i = first; i >= 0; i = next_row[i] - 1) {
        const int64_t at = (int64_t)i * DIM;
        stream s = stream_begin(g + at);
        loss += row(x + at, c, g + at, sum, &s, aligned, NULL);
        if (STREAMED) {
            stream_end(&s, g + at + DIM);
        }
        n++;
    }
    move(c, sum, n);
    return loss;
}

INLINE double
all_classes(const float *x, const int64_t *labels, float *c, float *g, bool aligned)
{
    const int n = link_rows(labels);
    double loss = 0;
    for (int u = 0; u < n; u++) {
        const int64_t i = classes[u];
        const int64_t next = classes[u + CLASSES_AHEAD < n ? u + CLASSES_AHEAD : n - 1];
        float *own = c + labels[i] * DIM;
        if (next_row[i] == 0) {
            loss += only_row(x + i * DIM, own, g + i * DIM, aligned,
                             BY_LABEL ? x + next * DIM : NULL, c + labels[next] * DIM);
        }
        else {
            loss += one_class(x, own, g, classes[u], aligned);
        }
    }
    if (STREAMED) {
        _mm_sfence();
    }
    return loss;
}

double
step(const float *x, const int64_t *labels, float *c, float *g)
{
    const bool aligned = ((uintptr_t)c | (uintptr_t)g) % 64 == 0;
    const double loss = aligned ? all_classes(x, labels, c, g, true)
                                : all_classes(x, labels, c, g, false);
    return loss / (2.0 * ROWS);
}
#endif
