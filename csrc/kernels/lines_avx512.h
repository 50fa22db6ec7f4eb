/*
 * Whole cache lines, stored past the caches, for simd.h.
 *
 * Vectors follow one another in memory, but need not start where a line does. A line is
 * put together from two of them.
 */
#ifndef CENTERLOSS_LINES_AVX512_H
#define CENTERLOSS_LINES_AVX512_H

typedef struct {
    char *next;    /* where the next vector is expected, or NULL */
    int64_t shift; /* bytes from the start of a line to there */
    __m512i last;  /* the vector before; its last `shift` bytes are not stored yet */
    __m512i lanes; /* which lanes of it and of the next one make a line */
} line_writer;

CL_INLINE line_writer
lines_begin(void)
{
    return (line_writer){.next = NULL};
}

/* Store what is left. */
CL_INLINE void
lines_end(line_writer *lines)
{
    if (lines->next != NULL) {
        const char *left = (const char *)&lines->last + LINE_BYTES - lines->shift;
        stream_store(lines->next - lines->shift, left, (size_t)lines->shift);
    }
}

CL_INLINE void
lines_store_one(line_writer *lines, char *at, __m512i v)
{
    if (at == lines->next) {
        const __m512i line = _mm512_permutex2var_epi32(lines->last, lines->lanes, v);
        _mm512_stream_si512((__m512i *)(at - lines->shift), line);
    }
    else {
        lines_end(lines);
        const int shift = (int)((uintptr_t)at % LINE_BYTES);
        const __m512i count =
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        lines->lanes = _mm512_add_epi32(count, _mm512_set1_epi32(16 - shift / 4));
        lines->shift = shift;
        stream_store(at, &v, (size_t)(LINE_BYTES - shift));
    }
    lines->last = v;
    lines->next = at + LINE_BYTES;
}

/* The size is a multiple of that of a line. */
CL_INLINE void
lines_store(line_writer *lines, void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i += LINE_BYTES) {
        __m512i v;
        memcpy(&v, (const char *)from + i, sizeof(v));
        lines_store_one(lines, (char *)to + i, v);
    }
}

#endif
