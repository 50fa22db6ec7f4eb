/*
 * Eight lanes: the arithmetic every kernel is made of.
 *
 * An f8 or a d8 is eight floats or doubles that are worked on side by side. It
 * is held in parts of the vector width of the instruction set the file is
 * compiled for: VECTOR_BYTES is 16, 32 or 64, or undefined where the compiler
 * has no vector types, and then a part is one number. All give the same bits,
 * since a lane is the same sequence of IEEE operations everywhere. That rests
 * on two rules: no contraction to fused multiply-adds (-ffp-contract=off), and
 * lanes are added up in the one order of d8_total().
 *
 * Every function takes n, a constant: LANES, or 4, 2 or 1 for the columns left
 * over at the end of a row. Only the first n lanes are loaded and stored; the
 * others are zero when loaded, and whatever is made of them is not looked at.
 * So a formula is written once for all.
 */
#ifndef CENTERLOSS_LANES_H
#define CENTERLOSS_LANES_H

#include <float.h>
#include <stdbool.h>
#include <string.h>

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "each operation has to be the IEEE one that is written: no -ffast-math, no x87"
#endif

#if defined(__GNUC__)
#define CL_INLINE static inline __attribute__((always_inline))
#define CL_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define CL_INLINE static __forceinline
#define CL_NOINLINE __declspec(noinline)
#pragma fp_contract(off) /* before 2022 it fuses under /fp:precise too */
#else
#define CL_INLINE static inline
#define CL_NOINLINE
#endif

enum {
    LANES = 8,
    LINE_BYTES = 64 /* of a cache line */
};

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define STREAM_BYTES 16
#else
#define STREAM_BYTES 0
#endif

#ifdef VECTOR_BYTES
/* A part: as many doubles as fill a vector, and as many floats. */
typedef double d_part __attribute__((vector_size(VECTOR_BYTES)));
typedef float f_part __attribute__((vector_size(VECTOR_BYTES / 2)));
#define PART_CONVERT(v, part_type) __builtin_convertvector(v, part_type)
#define PART_LANE(v, k) ((v)[k])
#else
typedef double d_part;
typedef float f_part;
#define PART_CONVERT(v, part_type) ((part_type)(v))
#define PART_LANE(v, k) (v)
#endif

/* An instruction set may bring instructions of its own for these. */
#ifndef PART_WIDEN
#define PART_WIDEN(v) PART_CONVERT(v, d_part)
#define PART_NARROW(v) PART_CONVERT(v, f_part)
#endif

enum {
    PART_LANES = sizeof(d_part) / sizeof(double),
    PARTS = LANES / PART_LANES,
};

typedef struct {
    f_part part[PARTS];
} f8;

typedef struct {
    d_part part[PARTS];
} d8;

/* How many parts n lanes take, and how many of them they fill. */
CL_INLINE int
parts(int n)
{
    return (n + PART_LANES - 1) / PART_LANES;
}

CL_INLINE int
full_parts(int n)
{
    return n / PART_LANES;
}

CL_INLINE d8
d8_zero(void)
{
    d8 v;
    memset(&v, 0, sizeof(v));
    return v;
}

CL_INLINE d8
d8_load(const double *p, int n)
{
    d8 v = d8_zero();
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(&v.part[i], p + i * PART_LANES, sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        PART_LANE(v.part[k / PART_LANES], k % PART_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
d8_store(double *p, d8 v, int n)
{
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(p + i * PART_LANES, &v.part[i], sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / PART_LANES], k % PART_LANES);
    }
}

CL_INLINE d8
d8_add(d8 a, d8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] += b.part[i];
    }
    return a;
}

CL_INLINE d8
d8_sub(d8 a, d8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE d8
d8_mul(d8 a, d8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b.part[i];
    }
    return a;
}

CL_INLINE d8
d8_scale(d8 a, double b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b;
    }
    return a;
}

/* All lanes added up, halving: ((0+4)+(2+6)) + ((1+5)+(3+7)). */
CL_INLINE double
d8_total(d8 v)
{
    double lane[LANES], four[4], two[2];
    memcpy(lane, &v, sizeof(v));
    for (int k = 0; k < 4; k++) {
        four[k] = lane[k] + lane[k + 4];
    }
    for (int k = 0; k < 2; k++) {
        two[k] = four[k] + four[k + 2];
    }
    return two[0] + two[1];
}

/* Store past the cache: worth it for results too large to stay in it. Both
 * addresses and the size are multiples of STREAM_BYTES, where that is not 0. */
CL_INLINE void
stream_store(void *to, const void *from, size_t size)
{
#if STREAM_BYTES
    for (size_t i = 0; i < size; i += STREAM_BYTES) {
        __m128i part;
        memcpy(&part, (const char *)from + i, STREAM_BYTES);
        _mm_stream_si128((__m128i *)((char *)to + i), part);
    }
#else
    memcpy(to, from, size);
#endif
}

/* A cache line; both addresses are those of lines. */
CL_INLINE void
stream_line(char *to, const char *from)
{
#if defined(STREAM_LINE)
    STREAM_LINE(to, from);
#else
    stream_store(to, from, LINE_BYTES);
#endif
}

/* A whole row past the cache, line by line: each is stored at once, so that none
 * leaves for memory in pieces. The lines that the row shares with others are not
 * streamed. `from` has the place within a line that `to` has. */
CL_INLINE void
stream_row(char *to, const char *from, int64_t size)
{
    const int64_t head = -(intptr_t)to & (LINE_BYTES - 1);
    const int64_t lines = (size - head) / LINE_BYTES * LINE_BYTES;
    memcpy(to, from, (size_t)head);
    for (int64_t i = head; i < head + lines; i += LINE_BYTES) {
        stream_line(to + i, from + i);
    }
    memcpy(to + head + lines, from + head + lines, (size_t)(size - head - lines));
}

/* To be called once after the last stream_store, so that other threads which
 * learn that the job is done also see what it stored. */
CL_INLINE void
stream_end(void)
{
#if STREAM_BYTES
    _mm_sfence();
#endif
}

CL_INLINE void
d8_stream(double *p, d8 v)
{
    stream_store(p, &v, sizeof(v));
}

CL_INLINE f8
f8_zero(void)
{
    f8 v;
    memset(&v, 0, sizeof(v));
    return v;
}

CL_INLINE f8
f8_load(const float *p, int n)
{
    f8 v = f8_zero();
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(&v.part[i], p + i * PART_LANES, sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        PART_LANE(v.part[k / PART_LANES], k % PART_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
f8_store(float *p, f8 v, int n)
{
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(p + i * PART_LANES, &v.part[i], sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / PART_LANES], k % PART_LANES);
    }
}

CL_INLINE void
f8_stream(float *p, f8 v)
{
    stream_store(p, &v, sizeof(v));
}

CL_INLINE f8
f8_sub(f8 a, f8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE f8
f8_scale(f8 a, float b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b;
    }
    return a;
}

CL_INLINE d8
f8_widen(f8 v, int n)
{
    d8 wide = d8_zero();
    for (int i = 0; i < parts(n); i++) {
        wide.part[i] = PART_WIDEN(v.part[i]);
    }
    return wide;
}

CL_INLINE f8
f8_narrow(d8 v, int n)
{
    f8 narrow = f8_zero();
    for (int i = 0; i < parts(n); i++) {
        narrow.part[i] = PART_NARROW(v.part[i]);
    }
    return narrow;
}

/* A double is as wide as it gets: these let one template serve both types. */
CL_INLINE d8
d8_widen(d8 v, int n)
{
    (void)n;
    return v;
}

CL_INLINE d8
d8_narrow(d8 v, int n)
{
    (void)n;
    return v;
}

#endif
