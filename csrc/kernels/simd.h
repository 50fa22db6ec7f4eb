/*
 * Eight lanes: the arithmetic of every kernel.
 *
 * An f32x8 or an f64x8 is eight floats or doubles side by side. It is held in parts of
 * the vector width of the instruction set that the file is compiled for: VECTOR_BYTES
 * is 32 or 64; without it a part is one number. All give the same bits, because a lane
 * goes through the same sequence of IEEE operations everywhere. Two rules ensure that:
 * no contraction to fused multiply-adds (-ffp-contract=off), and lanes are added up in
 * the one order of f64x8_total().
 *
 * Every function takes n, a constant: LANES, or 4, 2 or 1 for the columns left over at
 * the end of a row. Only the first n lanes are loaded and stored; the others are zero
 * when loaded, and their results are not used. So a formula is written once for all.
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
    LANES = 8,
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
/* A part: the doubles that fill a vector, and as many floats. */
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

/* An instruction set may define its own instructions for these. */
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
} f32x8;

typedef struct {
    d_part part[PARTS];
} f64x8;

/* How many parts n lanes need, and how many of them they fill. */
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

CL_INLINE f64x8
f64x8_zero(void)
{
    f64x8 v;
    memset(&v, 0, sizeof(v));
    return v;
}

CL_INLINE f64x8
f64x8_load(const double *p, int n)
{
    f64x8 v = f64x8_zero();
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(&v.part[i], p + i * PART_LANES, sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        PART_LANE(v.part[k / PART_LANES], k % PART_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
f64x8_store(double *p, f64x8 v, int n)
{
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(p + i * PART_LANES, &v.part[i], sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / PART_LANES], k % PART_LANES);
    }
}

CL_INLINE f64x8
f64x8_add(f64x8 a, f64x8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] += b.part[i];
    }
    return a;
}

CL_INLINE f64x8
f64x8_sub(f64x8 a, f64x8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE f64x8
f64x8_mul(f64x8 a, f64x8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b.part[i];
    }
    return a;
}

CL_INLINE f64x8
f64x8_scale(f64x8 a, double b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b;
    }
    return a;
}

/* The sum of all lanes, by halving: ((0+4)+(2+6)) + ((1+5)+(3+7)). */
CL_INLINE double
f64x8_total(f64x8 v)
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

/* f64x8_total() of lanes that are >= 0, from the third on zero. */
CL_INLINE double
f64x8_total_of_two(f64x8 v)
{
    double lane[2];
    memcpy(lane, &v, sizeof(lane));
    return lane[0] + lane[1];
}

/* memcpy, the size a multiple of that of a part. GCC would copy 16 bytes at a time. */
CL_INLINE void
copy_parts(void *to, const void *from, size_t size)
{
#ifdef VECTOR_BYTES
    for (size_t i = 0; i < size; i += sizeof(d_part)) {
        d_part part;
        memcpy(&part, (const char *)from + i, sizeof(part));
        memcpy((char *)to + i, &part, sizeof(part));
    }
#else
    memcpy(to, from, size);
#endif
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

CL_INLINE void
f64x8_stream(double *p, f64x8 v)
{
    stream_store(p, &v, sizeof(v));
}

CL_INLINE f32x8
f32x8_zero(void)
{
    f32x8 v;
    memset(&v, 0, sizeof(v));
    return v;
}

CL_INLINE f32x8
f32x8_load(const float *p, int n)
{
    f32x8 v = f32x8_zero();
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(&v.part[i], p + i * PART_LANES, sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        PART_LANE(v.part[k / PART_LANES], k % PART_LANES) = p[k];
    }
    return v;
}

CL_INLINE void
f32x8_store(float *p, f32x8 v, int n)
{
    for (int i = 0; i < full_parts(n); i++) {
        memcpy(p + i * PART_LANES, &v.part[i], sizeof(v.part[i]));
    }
    for (int k = full_parts(n) * PART_LANES; k < n; k++) {
        p[k] = PART_LANE(v.part[k / PART_LANES], k % PART_LANES);
    }
}

CL_INLINE void
f32x8_stream(float *p, f32x8 v)
{
    stream_store(p, &v, sizeof(v));
}

CL_INLINE f32x8
f32x8_sub(f32x8 a, f32x8 b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] -= b.part[i];
    }
    return a;
}

CL_INLINE f32x8
f32x8_scale(f32x8 a, float b, int n)
{
    for (int i = 0; i < parts(n); i++) {
        a.part[i] *= b;
    }
    return a;
}

CL_INLINE f64x8
f32x8_widen(f32x8 v, int n)
{
    f64x8 wide = f64x8_zero();
    for (int i = 0; i < parts(n); i++) {
        wide.part[i] = PART_WIDEN(v.part[i]);
    }
    return wide;
}

CL_INLINE f32x8
f32x8_narrow(f64x8 v, int n)
{
    f32x8 narrow = f32x8_zero();
    for (int i = 0; i < parts(n); i++) {
        narrow.part[i] = PART_NARROW(v.part[i]);
    }
    return narrow;
}

/* A double needs no widening: these let one template serve both types. */
CL_INLINE f64x8
f64x8_widen(f64x8 v, int n)
{
    (void)n;
    return v;
}

CL_INLINE f64x8
f64x8_narrow(f64x8 v, int n)
{
    (void)n;
    return v;
}

#endif
