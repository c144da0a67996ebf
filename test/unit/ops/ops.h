/*
 * ops.h: what the cases of test_ops.c are written with.
 *
 * A case runs one operation of the backends' table on one shape: it asks for
 * inputs and outputs, which lie in the memory of the run's device, and calls the
 * operation. The harness then checks every array: outputs against those of the
 * reference, inputs and what lies around any array against being written to.
 *
 * Inputs are functions of the shape and of the row's number, so that a run over
 * some of a shape's rows (`first` on) has the numbers these rows have in the
 * whole, and must give the same bits (ops_rows outputs).
 */
#ifndef MOE_TEST_OPS_H
#define MOE_TEST_OPS_H

#include "test/unit/core.h"

#include "kernels/device.h"

typedef enum ops_type
{
    OPS_FLOAT,
    OPS_DOUBLE,
    OPS_INDEX, /* int32_t */
    OPS_COUNT  /* int64_t */
} ops_type;

typedef struct ops_array
{
    const char *name; /* of an output; NULL: an input */
    ops_type type;
    int64_t n;
    int64_t per_row; /* numbers a row, where these depend on nothing but their row; 0: no such promise */
    char *block;     /* in the device's memory, with guards around */
    char *data;      /* what the operation sees */
    char *host;      /* inputs: what went in; outputs: what came out */
} ops_array;

#define OPS_MOST_ARRAYS 96
#define OPS_MOST_HOST   512

typedef struct ops_run
{
    moe_job *job;
    const moe_backend *backend;
    int64_t whole; /* rows of the shape, of which this run has [first, first + rows) */
    int64_t first;
    int64_t rows;
    int64_t cols;
    bool add;
    bool shifted; /* arrays are aligned to their numbers only */
    int arrays;
    ops_array array[OPS_MOST_ARRAYS];
    int hosts;
    void *host[OPS_MOST_HOST]; /* memory to be freed with the run */
} ops_run;

/*
 * |got - expected| <= epsilon * (relative * |expected| + spread * the largest
 * |number| of the output + absolute), epsilon being 2^-23 (2^-52 for doubles).
 */
typedef struct ops_tolerance
{
    float relative;
    float spread;
    float absolute;
} ops_tolerance;

typedef struct ops_case
{
    const char *name; /* of the operation */
    size_t entry;     /* its place in moe_backend */
    void (*run)(ops_run *run);
    ops_tolerance tolerance;
    int64_t least_cols;
    int64_t most_cols; /* 0: any */
} ops_case;

#define OPS_CASE(op, ...)                                                                                              \
    {                                                                                                                  \
        .name = #op, .entry = offsetof(moe_backend, op), .run = run_##op, __VA_ARGS__                                  \
    }

/* The cases, by subject. */
extern const ops_case ops_dense_cases[], ops_elementwise_cases[], ops_row_cases[], ops_sparse_cases[],
    ops_segment_cases[], ops_mixture_cases[], ops_loss_cases[];
extern const int ops_dense_count, ops_elementwise_count, ops_row_count, ops_sparse_count, ops_segment_count,
    ops_mixture_count, ops_loss_count;

/* A backend that is present, or a device that may be. */
typedef struct ops_backend
{
    const char *name;
    const moe_backend *table; /* NULL: that of the device */
    const char *module;       /* folder of the module that drives the device */
    float looser;             /* factor on tolerances */
} ops_backend;

#define OPS_MOST_BACKENDS 8
/* Whether every instruction is interpreted (valgrind), so that the largest shapes would take minutes. */
bool ops_slow(void);
/* Fill in the backends to be checked against the reference, tell of those that are not there, and give their number. */
int ops_backends(ops_backend list[OPS_MOST_BACKENDS]);
/* A job that computes on the backend; NULL and the reason where its device cannot be opened. */
moe_job *ops_start(const ops_backend *backend, int threads, char *reason, size_t size);

/* Host memory of the job with random numbers: n, or per_row for each row of the run. */
float *ops_normal(ops_run *run, int64_t n, uint64_t key);
float *ops_row_normal(ops_run *run, int64_t per_row, uint64_t key);
/* Indices in [-1, limit), small ones often. */
int32_t *ops_index(ops_run *run, int64_t n, int64_t limit, uint64_t key);

/* Inputs in the device's memory: copies of host values, or random as above. */
const void *ops_input(ops_run *run, ops_type type, int64_t n, const void *values);
const float *ops_floats(ops_run *run, int64_t n, uint64_t key);
const float *ops_row_floats(ops_run *run, int64_t per_row, uint64_t key);
const int32_t *ops_row_indices(ops_run *run, int64_t limit, uint64_t key);

/* An output of n numbers: NaN, or where `add` random ones. */
float *ops_output(ops_run *run, const char *name, int64_t n, bool add);
/* The same of per_row numbers for each row, which depend on their row alone. */
float *ops_rows(ops_run *run, const char *name, int64_t per_row, bool add);
void *ops_other_output(ops_run *run, const char *name, ops_type type, int64_t n);
/* An output that starts as host values. */
void *ops_changed(ops_run *run, const char *name, ops_type type, int64_t n, int64_t per_row, const void *values);

/* Lists of entries for the rows: empty ones, one long, and one in eleven of -1 alone. */
typedef struct ops_lists
{
    int64_t entries;
    int64_t before; /* entries of the shape's rows before the run's first */
    const int64_t *offset;
    const int64_t *host_offset;
} ops_lists;
ops_lists ops_make_lists(ops_run *run);
const int32_t *ops_list_indices(ops_run *run, const ops_lists *lists, int64_t limit, uint64_t key);
const float *ops_list_floats(ops_run *run, const ops_lists *lists, int64_t per_entry, uint64_t key);

/* Run a case; then the outputs are in host memory, and everything that must not have changed has been looked at. */
void ops_execute(const ops_case *c, ops_run *run);
/* Fetch the outputs of a run that was made without a case, and look at what must not have changed. */
void ops_collect(ops_run *run, const char *what);
/* Free the run's arrays. */
void ops_release(ops_run *run);
/* Fail with a description of the first difference. */
void ops_compare(const ops_case *c, const char *backend, const ops_run *got, const ops_run *expected, float looser);
void ops_compare_bits(const ops_case *c, const char *backend, const char *what, const ops_run *got,
                      const ops_run *expected);

/* Compare operations of a backend of the host on matrices of more than 2^31 numbers with what they must give; false
 * where the system gives no address space for them. */
bool ops_check_large(moe_job *job, const moe_backend *backend);

#endif
