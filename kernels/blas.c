/*
 * blas.c: OpenBLAS behind dlopen, and the products that are shared out to threads.
 *
 * A product is cut into blocks of rows of C whose size depends on the shape
 * alone. Where C is small and k is large, as for the gradient of a weight
 * (W' = X^T Y' over many rows), k is cut into slabs instead: each has its own
 * partial C, and these are added in order.
 */
#include <cblas.h>
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/blas.h"

#define LIBRARY "libopenblas.so.0"

/* Multiply-adds worth one block: far above the cost of packing B again, far below 100 ms. */
#define BLOCK_WORK          ((int64_t) 8 << 20)
#define SMALLEST_BLOCK_ROWS 64
#define SLAB_ROWS           2048
#define MOST_SLABS          64
#define LARGEST_PARTIAL     ((int64_t) 1 << 18) /* floats of C up to which k is cut */

static struct
{
    pthread_mutex_t lock;
    void *library;
    const char *version;
    void (*sgemm)(CBLAS_LAYOUT, CBLAS_TRANSPOSE, CBLAS_TRANSPOSE, blasint, blasint, blasint, float, const float *,
                  blasint, const float *, blasint, float, float *, blasint);
} blas = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* dlopen with all signals blocked, so that any thread the library starts has them blocked too. */
static void *
open_quietly(void)
{
    sigset_t all;
    sigset_t before;
    setenv("OPENBLAS_NUM_THREADS", "1", 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return library;
}

/* Find what is needed of the library; false if a symbol is missing. */
static bool
resolve_symbols(void *library)
{
    void (*set_num_threads)(int);
    char *(*get_config)(void);
    *(void **) &blas.sgemm = dlsym(library, "cblas_sgemm");
    *(void **) &set_num_threads = dlsym(library, "openblas_set_num_threads");
    *(void **) &get_config = dlsym(library, "openblas_get_config");
    if (blas.sgemm == NULL || set_num_threads == NULL || get_config == NULL)
        return false;
    set_num_threads(1);
    blas.version = get_config();
    return true;
}

moe_code
moe_blas_open(moe_job *job)
{
    moe_code code = MOE_OK;
    pthread_mutex_lock(&blas.lock);
    if (blas.library == NULL)
    {
        void *library = open_quietly();
        if (library == NULL)
            code = moe_fail(job, MOE_UNAVAILABLE, "could not load %s: install the package libopenblas0 (%s)", LIBRARY,
                            dlerror());
        else if (!resolve_symbols(library))
            code = moe_fail(job, MOE_UNAVAILABLE, "%s is not OpenBLAS: install the package libopenblas0", LIBRARY);
        else
            blas.library = library;
    }
    pthread_mutex_unlock(&blas.lock);
    return code;
}

const char *
moe_blas_version(void)
{
    return blas.version;
}

typedef struct product
{
    moe_job *job;
    bool transpose_a;
    bool transpose_b;
    int64_t m;
    int64_t n;
    int64_t k;
    const float *a;
    int64_t lda;
    const float *b;
    int64_t ldb;
    const float *row; /* NULL, or what every row of C starts with */
    float beta;
    float *c;
    int64_t ldc;
    int64_t slab; /* length of a slab of k */
} product;

static int64_t
at_least_one(int64_t n)
{
    return n > 0 ? n : 1;
}

/* Rows [begin, end) of C, from all of k. */
static void
multiply_rows(int64_t begin, int64_t end, void *arg)
{
    const product *p = arg;
    float beta = p->beta;
    if (moe_job_cancelled(p->job))
        return;
    for (int64_t i = begin; p->row != NULL && i < end; i++)
        memcpy(p->c + i * p->ldc, p->row, (size_t) p->n * sizeof(float));
    if (p->row != NULL)
        beta = 1;
    blas.sgemm(CblasRowMajor, p->transpose_a ? CblasTrans : CblasNoTrans, p->transpose_b ? CblasTrans : CblasNoTrans,
               (blasint) (end - begin), (blasint) p->n, (blasint) p->k, 1.0f,
               p->transpose_a ? p->a + begin : p->a + begin * p->lda, (blasint) at_least_one(p->lda), p->b,
               (blasint) at_least_one(p->ldb), beta, p->c + begin * p->ldc, (blasint) at_least_one(p->ldc));
}

/* All of C from the slab [begin, end) of k, into the slab's own partial result. */
static void
multiply_slab(int64_t begin, int64_t end, void *arg)
{
    const product *p = arg;
    product slab = *p;
    slab.k = end - begin;
    slab.a = p->transpose_a ? p->a + begin * p->lda : p->a + begin;
    slab.b = p->transpose_b ? p->b + begin : p->b + begin * p->ldb;
    slab.beta = 0;
    slab.c = p->c + begin / p->slab * p->m * p->n;
    slab.ldc = p->n;
    multiply_rows(0, p->m, &slab);
}

/* C = beta * C + the partial results in order. */
static void
add_partials(const product *p, const float *partials, int64_t slabs)
{
    for (int64_t i = 0; i < p->m; i++)
    {
        float *c = p->c + i * p->ldc;
        for (int64_t j = 0; j < p->n; j++)
            c[j] = p->beta == 0 ? 0 : p->beta * c[j];
        for (int64_t s = 0; s < slabs; s++)
        {
            const float *partial = partials + (s * p->m + i) * p->n;
            for (int64_t j = 0; j < p->n; j++)
                c[j] += partial[j];
        }
    }
}

static void
multiply_in_slabs(const product *p)
{
    moe_job *job = p->job;
    product part = *p;
    part.slab = (p->k + MOST_SLABS - 1) / MOST_SLABS;
    part.slab = part.slab < SLAB_ROWS ? SLAB_ROWS : part.slab;
    int64_t slabs = (p->k + part.slab - 1) / part.slab;
    part.c = moe_alloc(job, slabs * p->m * p->n, sizeof(float));
    if (part.c == NULL)
        return;
    moe_parallel(job, p->k, part.slab, multiply_slab, &part);
    add_partials(p, part.c, slabs);
    moe_free(job, part.c);
}

/* Choose how to cut; a cancel seen within is recorded. */
static void
multiply(product *p)
{
    moe_job *job = p->job;
    if (p->m <= 0 || p->n <= 0)
        return;
    if (blas.library == NULL)
    {
        moe_fail(job, MOE_UNAVAILABLE, "%s was not opened", LIBRARY);
        return;
    }
    if (p->n > INT_MAX || p->k > INT_MAX || p->lda > INT_MAX || p->ldb > INT_MAX || p->ldc > INT_MAX)
    {
        moe_fail(job, MOE_LIMIT, "a matrix product of inner dimension %lld is too large", (long long) p->k);
        return;
    }
    if (p->row == NULL && p->k >= 2 * SLAB_ROWS && p->m * p->n <= LARGEST_PARTIAL && p->m <= p->k / 8)
    {
        multiply_in_slabs(p);
        moe_job_check(job);
        return;
    }
    int64_t rows = BLOCK_WORK / (p->n * at_least_one(p->k));
    rows = rows < SMALLEST_BLOCK_ROWS ? SMALLEST_BLOCK_ROWS : rows > INT_MAX / 2 ? INT_MAX / 2 : rows;
    moe_parallel(job, p->m, rows, multiply_rows, p);
    moe_job_check(job);
}

void
moe_gemm(moe_job *job, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
         const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    product p = {job, transpose_a, transpose_b, m, n, k, a, lda, b, ldb, NULL, beta, c, ldc, 0};
    multiply(&p);
}

void
moe_gemm_row(moe_job *job, int64_t m, int64_t n, int64_t k, const float *a, const float *b, const float *row, float *c)
{
    product p = {job, false, false, m, n, k, a, k, b, n, row, 0, c, n, 0};
    multiply(&p);
}
