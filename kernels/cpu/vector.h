/*
 * vector.h: what the CPU backend does to a vector at a time beyond arithmetic:
 * stores past the caches, values that all lanes agree on, exponentials.
 */
#ifndef MOE_CPU_VECTOR_H
#define MOE_CPU_VECTOR_H

#include <string.h>

#include "kernels/cpu/cpu.h"

/*
 * The widest store that leaves the caches alone. There is one where a vector is a register of x86; elsewhere, and where
 * tests make a vector of two registers, stores are plain ones.
 */
#if defined(__AVX512F__) && MOE_LANES == 16
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm512_stream_ps(to, (__m512) (value))
#elif defined(__AVX__) && MOE_LANES == 8
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm256_stream_ps(to, (__m256) (value))
#elif defined(__SSE2__) && MOE_LANES == 4
#include <immintrin.h>
#define MOE_STORE_PAST(to, value) _mm_stream_ps(to, (__m128) (value))
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
 * Fetch the row that comes MOE_ROWS_AHEAD bytes after the one at x, as the hardware follows a stream from page to page
 * late, and not far enough for rows that are worked on for long.
 */
#define MOE_FETCH_AHEAD 4096
MOE_INLINE void
moe_fetch_ahead(const float *x, int64_t cols)
{
    const char *ahead = (const char *) x + MOE_FETCH_AHEAD;
    for (int64_t j = 0; j < cols; j += 16)
        __builtin_prefetch(ahead + j * sizeof(float));
}

/*
 * Floats of an output from which it is written past the caches: 64 MB, of which the last level of most machines keeps
 * little until it is read. A plain store reads a line before it writes it, a third of the traffic of a copy.
 */
#define MOE_STREAM_FROM ((int64_t) 16 << 20)

/* Whether to write `rows` rows of `cols` numbers so; every vector of theirs is then aligned. */
MOE_INLINE bool
moe_streams(const float *out, int64_t rows, int64_t cols)
{
#ifdef MOE_STORE_PAST
    return rows * cols >= MOE_STREAM_FROM && cols % MOE_LANES == 0 && (uintptr_t) out % sizeof(moe_lanes) == 0;
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

#endif
