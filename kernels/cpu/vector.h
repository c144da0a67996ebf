/*
 * vector.h: what the CPU backend does to a vector at a time beyond arithmetic:
 * stores past the caches, exponentials, what all lanes of a vector have together.
 */
#ifndef MOE_CPU_VECTOR_H
#define MOE_CPU_VECTOR_H

#include <string.h>

#include "kernels/cpu/cpu.h"

#define MOE_LINE_FLOATS 16

/* a where the mask's bits are set, b elsewhere. */
MOE_INLINE moe_lanes
moe_choose(moe_whole_lanes mask, moe_lanes a, moe_lanes b)
{
    return (moe_lanes) ((mask & (moe_whole_lanes) a) | (~mask & (moe_whole_lanes) b));
}

/*
 * What vectors of the compiler have no words for: a store that leaves the caches alone, and a > b ? a : b in one
 * instruction. Elsewhere than on x86, and where tests make a vector of two registers, they are done without.
 */
#if defined(__AVX512F__) && MOE_LANES == 16
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm512_stream_ps(to, (__m512) (value))
#define MOE_LARGER(a, b)          ((moe_lanes) _mm512_max_ps((__m512) (a), (__m512) (b)))
#define MOE_LARGER_NUMBER(a, b)   ((moe_lanes) _mm512_range_ps((__m512) (a), (__m512) (b), 5))
#elif defined(__AVX__) && MOE_LANES == 8
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm256_stream_ps(to, (__m256) (value))
#define MOE_LARGER(a, b)          ((moe_lanes) _mm256_max_ps((__m256) (a), (__m256) (b)))
#elif defined(__SSE2__) && MOE_LANES == 4
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm_stream_ps(to, (__m128) (value))
#define MOE_LARGER(a, b)          ((moe_lanes) _mm_max_ps((__m128) (a), (__m128) (b)))
#else
#define MOE_LARGER(a, b) moe_choose((a) > (b), a, b)
#endif

/*
 * best becomes the larger of itself and value, lane by lane, and `from` the number where that is value: where value is
 * a number and best is not, or is smaller.
 */
MOE_INLINE void
moe_keep_larger(moe_lanes value, moe_whole_lanes number, moe_lanes *best, moe_whole_lanes *from)
{
#ifdef MOE_LARGER_NUMBER
    __m512 a = (__m512) value, b = (__m512) *best;
    __mmask16 larger = _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b, _CMP_NLE_UQ);
    *best = (moe_lanes) _mm512_mask_mov_ps(b, larger, a);
    *from = (moe_whole_lanes) _mm512_mask_mov_epi32((__m512i) *from, larger, (__m512i) number);
#else
    moe_whole_lanes larger = ~(value <= *best) & (value == value);
    *best = moe_choose(larger, value, *best);
    *from = (larger & number) | (~larger & *from);
#endif
}

/* The same without numbers. Which zero is the larger, of two of different sign, is not said. */
#ifndef MOE_LARGER_NUMBER
#define MOE_LARGER_NUMBER(a, b) moe_choose(~((a) <= (b)) & ((a) == (a)), a, b)
#endif

/*
 * call(..., cols, ...) with the usual numbers of columns as constants, so that loops along a row are unrolled: their
 * ends, guessed wrong, and their overhead cost as much as their work. `cols` stands in the arguments by this name.
 */
#define MOE_AT_WIDTH(width, call, ...)                                                                                 \
    do                                                                                                                 \
    {                                                                                                                  \
        int64_t cols = (width);                                                                                        \
        if (cols == 128)                                                                                               \
        {                                                                                                              \
            cols = 128;                                                                                                \
            call(__VA_ARGS__);                                                                                         \
        }                                                                                                              \
        else if (cols == 64)                                                                                           \
        {                                                                                                              \
            cols = 64;                                                                                                 \
            call(__VA_ARGS__);                                                                                         \
        }                                                                                                              \
        else                                                                                                           \
            call(__VA_ARGS__);                                                                                         \
    } while (0)

/*
 * Fetch what comes MOE_FETCH_AHEAD floats after the row at x: the hardware follows a stream from page to page late,
 * and not far enough where a row is worked on for long.
 */
#define MOE_FETCH_AHEAD 1024
MOE_INLINE void
moe_fetch_ahead(const float *x, int64_t cols)
{
    for (int64_t j = 0; j < cols; j += MOE_LINE_FLOATS)
        __builtin_prefetch(x + MOE_FETCH_AHEAD + j);
}

/*
 * Floats of an output from which it is written past the caches: 64 MB, of which the last level of most machines keeps
 * little until it is read. A plain store reads a line before it writes it, a third of the traffic of a copy.
 */
#define MOE_STREAM_FROM ((int64_t) 16 << 20)

/* Whether to write n numbers so, in vectors from every multiple of `cols` on; each is then aligned. */
MOE_INLINE bool
moe_streams(const float *out, int64_t n, int64_t cols)
{
#ifdef MOE_STORE_PAST
    return n >= MOE_STREAM_FROM && cols % MOE_LANES == 0 && (uintptr_t) out % sizeof(moe_lanes) == 0;
#else
    return false;
#endif
}

MOE_INLINE void
moe_store(float *to, moe_lanes value, bool stream)
{
#ifdef MOE_STORE_PAST
    if (stream)
    {
        MOE_STORE_PAST(to, value);
        return;
    }
#endif
    *(moe_lanes *) to = value;
}

/* At the end of a chunk: other threads see what was streamed. */
MOE_INLINE void
moe_end_stream(bool stream)
{
#ifdef MOE_STORE_PAST
    if (stream)
        _mm_sfence();
#endif
}

/*
 * The exponentials of a vector of numbers up to 88: 2^n times a polynomial in the rest, |rest| <= log(2) / 2 (the
 * coefficients are Moshier's, of the Cephes library). Within 1.1 units in the last place; 0 below the logarithm of the
 * smallest normal number; NaN stays.
 */
MOE_INLINE moe_lanes
moe_exp_lanes(moe_lanes x)
{
    const float lowest = -87.33654f;
    const float magic = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    moe_whole_lanes small = x < lowest;
    x = (moe_lanes) (~small & (moe_whole_lanes) x);
    moe_lanes shifted = x * 1.44269504f + magic;
    moe_lanes whole = shifted - magic;
    moe_lanes r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    moe_lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    moe_whole_lanes n = (moe_whole_lanes) shifted - 0x4b400000; /* magic's bits */
    moe_lanes result = p * (moe_lanes) ((n + 127) << 23);
    return (moe_lanes) (~small & (moe_whole_lanes) result);
}

/* The first n <= MOE_LANES numbers at x, and `rest` in the other lanes. */
MOE_INLINE moe_lanes
moe_load_some(const float *x, int64_t n, float rest)
{
    moe_lanes lanes = (moe_lanes){0} + rest;
    memcpy(&lanes, x, (size_t) n * sizeof(float));
    return lanes;
}

/* y = e^(x - shift), of n numbers; y may be x. */
MOE_INLINE void
moe_exp_row(const float *x, int64_t n, float shift, float *y)
{
    int64_t i = 0;
    for (; i + MOE_LANES <= n; i += MOE_LANES)
        MOE_LANES_AT(y + i) = moe_exp_lanes(moe_load(x + i) - shift);
    if (i == n)
        return;
    moe_lanes rest = moe_exp_lanes(moe_load_some(x + i, n - i, shift) - shift);
    memcpy(y + i, &rest, (size_t) (n - i) * sizeof(float));
}

#if MOE_LANES == 16
#define MOE_LANE_NUMBERS ((moe_whole_lanes){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif MOE_LANES == 8
#define MOE_LANE_NUMBERS ((moe_whole_lanes){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define MOE_LANE_NUMBERS ((moe_whole_lanes){0, 1, 2, 3})
#endif

/*
 * The row of cols <= MOE_LANES numbers at x[at], with `rest` in the lanes beside it. Numbers from x[end] on are not
 * read.
 */
MOE_INLINE moe_lanes
moe_load_narrow(const float *x, int64_t at, int64_t cols, int64_t end, float rest)
{
    if (cols == MOE_LANES)
        return moe_load(x + at);
    if (at + MOE_LANES <= end)
        return moe_choose(MOE_LANE_NUMBERS < (int32_t) cols, moe_load(x + at), (moe_lanes){0} + rest);
    return moe_load_some(x + at, cols, rest);
}

/* The row back to its place; what follows it before x[end] may be overwritten, so that rows are written in order. */
MOE_INLINE void
moe_store_narrow(float *x, int64_t at, int64_t cols, int64_t end, moe_lanes value)
{
    if (cols == MOE_LANES || at + MOE_LANES <= end)
        MOE_LANES_AT(x + at) = value;
    else
        memcpy(x + at, &value, (size_t) cols * sizeof(float));
}

/* The largest of each `width` lanes (a power of 2, and a constant), in all of these; NaN may be passed over. */
MOE_INLINE moe_lanes
moe_largest_lane(moe_lanes x, int width)
{
    MOE_UNROLL(4)
    for (int distance = 1; distance < width; distance *= 2)
    {
        moe_lanes other = __builtin_shuffle(x, MOE_LANE_NUMBERS ^ distance);
        x = MOE_LARGER(other, x);
    }
    return x;
}

/* The sum of each `width` lanes, in all of these. */
MOE_INLINE moe_lanes
moe_sum_lanes(moe_lanes x, int width)
{
    MOE_UNROLL(4)
    for (int distance = 1; distance < width; distance *= 2)
        x += __builtin_shuffle(x, MOE_LANE_NUMBERS ^ distance);
    return x;
}

/* The largest of n numbers; NaN does not count, unless it is the first. */
MOE_INLINE float
moe_row_largest(const float *x, int64_t n)
{
    float high = x[0];
    int64_t i = 0;
    if (n >= MOE_LANES)
    {
        moe_lanes lanes = (moe_lanes){0} + high;
        for (; i + MOE_LANES <= n; i += MOE_LANES)
            lanes = MOE_LARGER(moe_load(x + i), lanes);
        high = moe_largest_lane(lanes, MOE_LANES)[0];
    }
    for (; i < n; i++)
        high = x[i] > high ? x[i] : high;
    return high;
}

#endif
