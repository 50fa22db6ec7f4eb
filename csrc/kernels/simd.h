/*
 * Sixteen lanes: the arithmetic of every kernel.
 *
 * An f32x16 or an f64x16 is sixteen floats or doubles side by side. It is held in parts
 * of the vector width of the instruction set that the file is compiled for:
 * VECTOR_BYTES is 32 or 64; without it a part is one number. All give the same bits,
 * because a lane goes through the same sequence of IEEE operations everywhere, or
 * through another one with the same result. Two rules ensure that: the compiler makes
 * no fused multiply-adds (-ffp-contract=off), and lanes are added up in the one order
 * of f64x16_total().
 *
 * Most functions take n, a constant: LANES, or 8, 4, 2 or 1 for the columns left over
 * at the end of a row. Only the first n lanes are loaded and stored; the others are
 * zero when loaded, and their results are not used. So a formula is written once for
 * all.
 */
#ifndef CENTERLOSS_SIMD_H
#define CENTERLOSS_SIMD_H

#include <float.h>
#include <stdbool.h>
#include <string.h>

#if defined(__FAST_MATH__) || FLT_EVAL_METHOD != 0
#error "operations must be IEEE operations as written: no -ffast-math, no x87"
#endif

#if defined(__GNUC__)
#define CL_INLINE static inline __attribute__((always_inline))
#define CL_NOINLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define CL_INLINE static __forceinline
#define CL_NOINLINE __declspec(noinline)
#pragma fp_contract(off) /* MSVC before 2022 fuses under /fp:precise too */
#else
#define CL_INLINE static inline
#define CL_NOINLINE
#endif

enum {
    LANES = 16,
    LINE_BYTES = 64,  /* of a cache line */
    STREAM_BYTES = 16 /* of a store past the caches */
};

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define HAS_STREAM 1
#else
#define HAS_STREAM 0
#endif

#ifdef VECTOR_BYTES
/* A part: the floats, or the doubles, that fill a vector. */
typedef double d_part __attribute__((vector_size(VECTOR_BYTES)));
typedef float f_part __attribute__((vector_size(VECTOR_BYTES)));
/* The same in an array, where it need not be aligned. */
typedef d_part d_in_array __attribute__((aligned(sizeof(double)), may_alias));
typedef f_part f_in_array __attribute__((aligned(sizeof(float)), may_alias));
#define PART_LANE(v, k) ((v)[k])
#else
/* A part: one number. Files with vectors have their own PART_WIDEN and PART_NARROW. */
typedef double d_part, d_in_array;
typedef float f_part, f_in_array;
#define PART_LANE(v, k) (v)
#define PART_WIDEN(v, half) ((d_part)(v))
#define PART_NARROW(low, high) ((f_part)(low))
#endif

enum {
    D_LANES = sizeof(d_part) / sizeof(double),
    F_LANES = sizeof(f_part) / sizeof(float),
    HALVES = F_LANES / D_LANES, /* d_parts that one f_part is widened to */
};

typedef struct {
    f_part part[LANES / F_LANES];
} f32x16;

typedef struct {
    d_part part[LANES / D_LANES];
} f64x16;

/* How many parts n lanes need. */
CL_INLINE int
parts(int n, int part_lanes)
{
    return (n + part_lanes - 1) / part_lanes;
}

CL_INLINE f64x16
f64x16_zero(void)
{
    const d_part zero = {0};
    f64x16 v;
    for (int i = 0; i < LANES / D_LANES; i++) {
        v.part[i] = zero;
    }
    return v;
}

CL_INLINE f64x16
f64x16_load(const double *p, int n)
{
    f64x16 v = f64x16_zero();
    for (int i = 0; i < n / D_LANES; i++) {
        v.part[i] = *(const d_in_array *)(p + i * D_LANES);
    }
    for (int k = n / D_LANES * D_LANES; k < n; k++) {
        PART_LANE(v.part[k / D_LANES], k % D_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
f64x16_store(double *p, f64x16 v, int n)
{
    for (int i = 0; i < n / D_LANES; i++) {
        *(d_in_array *)(p + i * D_LANES) = v.part[i];
    }
    for (int k = n / D_LANES * D_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / D_LANES], k % D_LANES);
    }
}

CL_INLINE f64x16
f64x16_add(f64x16 a, f64x16 b, int n)
{
    for (int i = 0; i < parts(n, D_LANES); i++) {
        a.part[i] += b.part[i];
    }
    return a;
}

CL_INLINE f64x16
f64x16_sub(f64x16 a, f64x16 b, int n)
{
    for (int i = 0; i < parts(n, D_LANES); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE f64x16
f64x16_mul(f64x16 a, f64x16 b, int n)
{
    for (int i = 0; i < parts(n, D_LANES); i++) {
        a.part[i] *= b.part[i];
    }
    return a;
}

CL_INLINE f64x16
f64x16_scale(f64x16 a, double b, int n)
{
    for (int i = 0; i < parts(n, D_LANES); i++) {
        a.part[i] *= b;
    }
    return a;
}

/* The sum of eight lanes, by halving: ((0+4)+(2+6)) + ((1+5)+(3+7)). */
CL_INLINE double
eight_total(const double *lane)
{
    double four[4], two[2];
    for (int k = 0; k < 4; k++) {
        four[k] = lane[k] + lane[k + 4];
    }
    for (int k = 0; k < 2; k++) {
        two[k] = four[k] + four[k + 2];
    }
    return two[0] + two[1];
}

/* The sum of all lanes, by halving: the last eight are added to the first eight. */
CL_INLINE double
f64x16_total(f64x16 v)
{
    double lane[8];
    for (int i = 0; i < LANES / D_LANES / 2; i++) {
        v.part[i] += v.part[i + LANES / D_LANES / 2];
    }
    memcpy(lane, &v, sizeof(lane));
    return eight_total(lane);
}

/* f64x16_total() if no lane is negative, and all but the first two are zero. */
CL_INLINE double
f64x16_total_of_two(f64x16 v)
{
    double lane[2];
    memcpy(lane, &v, sizeof(lane));
    return lane[0] + lane[1];
}

/* Store past the caches if HAS_STREAM, for results too large to stay in them. Both
 * addresses and the size are multiples of STREAM_BYTES. */
CL_INLINE void
stream_store(void *to, const void *from, size_t size)
{
#if HAS_STREAM
    for (size_t i = 0; i < size; i += STREAM_BYTES) {
        __m128i part;
        memcpy(&part, (const char *)from + i, STREAM_BYTES);
        _mm_stream_si128((__m128i *)((char *)to + i), part);
    }
#else
    memcpy(to, from, size);
#endif
}

/* Call once after the last stream_store, so that other threads see what was stored when
 * they see that the operation is done. */
CL_INLINE void
stream_end(void)
{
#if HAS_STREAM
    _mm_sfence();
#endif
}

#if defined(VECTOR_BYTES) && VECTOR_BYTES == 64
#include "lines_avx512.h"
#else
/* Without AVX-512, a line is stored in pieces, and nothing has to be kept. */
typedef struct {
    bool unused;
} line_writer;

CL_INLINE line_writer
lines_begin(void)
{
    return (line_writer){false};
}

CL_INLINE void
lines_end(line_writer *lines)
{
    (void)lines;
}

CL_INLINE void
lines_store(line_writer *lines, void *to, const void *from, size_t size)
{
    (void)lines;
    stream_store(to, from, size);
}
#endif

CL_INLINE void
f64x16_stream(double *p, f64x16 v, line_writer *lines)
{
    lines_store(lines, p, &v, sizeof(v));
}

CL_INLINE f32x16
f32x16_zero(void)
{
    const f_part zero = {0};
    f32x16 v;
    for (int i = 0; i < LANES / F_LANES; i++) {
        v.part[i] = zero;
    }
    return v;
}

CL_INLINE f32x16
f32x16_load(const float *p, int n)
{
    f32x16 v = f32x16_zero();
    for (int i = 0; i < n / F_LANES; i++) {
        v.part[i] = *(const f_in_array *)(p + i * F_LANES);
    }
    for (int k = n / F_LANES * F_LANES; k < n; k++) {
        PART_LANE(v.part[k / F_LANES], k % F_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
f32x16_store(float *p, f32x16 v, int n)
{
    for (int i = 0; i < n / F_LANES; i++) {
        *(f_in_array *)(p + i * F_LANES) = v.part[i];
    }
    for (int k = n / F_LANES * F_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / F_LANES], k % F_LANES);
    }
}

CL_INLINE void
f32x16_stream(float *p, f32x16 v, line_writer *lines)
{
    lines_store(lines, p, &v, sizeof(v));
}

CL_INLINE f32x16
f32x16_sub(f32x16 a, f32x16 b, int n)
{
    for (int i = 0; i < parts(n, F_LANES); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE f32x16
f32x16_scale(f32x16 a, float b, int n)
{
    for (int i = 0; i < parts(n, F_LANES); i++) {
        a.part[i] *= b;
    }
    return a;
}

CL_INLINE f64x16
f32x16_widen(f32x16 v, int n)
{
    f64x16 wide = f64x16_zero();
    for (int i = 0; i < parts(n, D_LANES); i++) {
        wide.part[i] = PART_WIDEN(v.part[i / HALVES], i % HALVES);
    }
    return wide;
}

CL_INLINE f32x16
f32x16_narrow(f64x16 v, int n)
{
    f32x16 narrow = f32x16_zero();
    for (int i = 0; i < parts(n, F_LANES); i++) {
        narrow.part[i] =
            PART_NARROW(v.part[i * HALVES], v.part[i * HALVES + HALVES - 1]);
    }
    return narrow;
}

/* sum + v * v, where v was widened from float: its squares are exact, so fused
 * operations give the same. */
CL_INLINE f64x16
f32x16_add_squares(f64x16 sum, f64x16 v, int n)
{
#ifdef PART_FMA_F64
    for (int i = 0; i < parts(n, D_LANES); i++) {
        sum.part[i] = PART_FMA_F64(v.part[i], v.part[i], sum.part[i]);
    }
    return sum;
#else
    return f64x16_add(sum, f64x16_mul(v, v, n), n);
#endif
}

CL_INLINE f64x16
f64x16_add_squares(f64x16 sum, f64x16 v, int n)
{
    return f64x16_add(sum, f64x16_mul(v, v, n), n);
}

/* c + d * scale, where scale is a power of two, rounded once. The product of a float
 * and a power of two has the float's digits, and the sum of two such numbers, rounded
 * to double and then to float, is what it is when rounded to float at once (Figueroa
 * 1995: 53 >= 2 * 24 + 2). */
CL_INLINE f32x16
f32x16_add_scaled(f32x16 c, f32x16 d, double scale, int n)
{
#ifdef PART_FMA_F32
    const f_part factor = (float)scale - (f_part){0};
    for (int i = 0; i < parts(n, F_LANES); i++) {
        c.part[i] = PART_FMA_F32(d.part[i], factor, c.part[i]);
    }
    return c;
#else
    const f64x16 step = f64x16_scale(f32x16_widen(d, n), scale, n);
    return f32x16_narrow(f64x16_add(f32x16_widen(c, n), step, n), n);
#endif
}

CL_INLINE f64x16
f64x16_add_scaled(f64x16 c, f64x16 d, double scale, int n)
{
    return f64x16_add(c, f64x16_scale(d, scale, n), n);
}

/* A double needs no widening: these let one template serve both types. */
CL_INLINE f64x16
f64x16_widen(f64x16 v, int n)
{
    (void)n;
    return v;
}

CL_INLINE f64x16
f64x16_narrow(f64x16 v, int n)
{
    (void)n;
    return v;
}

#endif
