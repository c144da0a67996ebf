/*
 * spec.h: a column's fitted specification and a bound table's inputs.
 *
 * Shared by the features_*.c files, which make them, and encoder.c, which
 * reads them; nobody else includes this. A column contributes to a row in up
 * to three ways: `dense` floats (number, bool, time, vector), one `category`
 * entry (a row of the table's embedding parameter), and a `bag` of rows of the
 * hash table all columns share.
 */
#ifndef MOE_EMBED_SPEC_H
#define MOE_EMBED_SPEC_H

#include "embed/dictionary.h"
#include "embed/features.h"

#define MOE_BINS             4    /* quantile bins of a numeric column */
#define MOE_VECTOR_MAX       2048 /* longer vectors are pooled */
#define MOE_VECTOR_POOLED    5    /* mean, deviation, min, max, log length */
#define MOE_TIME_COMPONENTS  6    /* month, day, weekday, hour, minute, second */
#define MOE_TIME_TREND       4    /* position in the fitted range, and three cosines of it */
#define MOE_TIME_HARMONICS   2    /* sine and cosine each, per component */
#define MOE_HASH_BUCKETS_MIN (1 << 6)
#define MOE_HASH_BUCKETS_MAX (1 << 13)
#define MOE_INPUT_CLIP       5.0
#define MOE_NUMBER_MAX       1e140

/* What a column contributes; several bits may be set. */
enum
{
    MOE_PART_NUMERIC = 1,
    MOE_PART_BOOL = 2,
    MOE_PART_TIME = 4,
    MOE_PART_VECTOR = 8,
    MOE_PART_CATEGORY = 16,
    MOE_PART_HASHED = 32,
    MOE_PART_TEXT = 64,
    MOE_PART_ALL = 127
};
#define MOE_PARTS_DENSE (MOE_PART_NUMERIC | MOE_PART_BOOL | MOE_PART_TIME | MOE_PART_VECTOR)
#define MOE_PARTS_BAG   (MOE_PART_HASHED | MOE_PART_TEXT)

typedef enum moe_ignored
{
    MOE_USED,
    MOE_IGNORED_NO_ROWS,
    MOE_IGNORED_ALL_NULL,
    MOE_IGNORED_CONSTANT
} moe_ignored;

/* x -> clip((f(x) - mean) * inverse), f the identity or sign(z) log(1 + |z|) of z = (x - center) / spread. */
typedef struct moe_scaling
{
    bool log;
    double center, spread;
    double mean, inverse;      /* inverse is 0 where the values do not vary */
    int n_bins;                /* 0..MOE_BINS */
    double edge[MOE_BINS + 1]; /* ascending; n_bins + 1 of them if n_bins > 0 */
} moe_scaling;

typedef struct moe_spec
{
    moe_storage storage;
    moe_ignored ignored; /* then parts is 0 */
    int parts;
    bool missing;        /* NULL is a state of its own: it occurred in the fit rows or the column can be hidden */
    moe_scaling scaling; /* NUMERIC */
    int64_t time_low, time_high; /* TIME: range of the fit rows */
    int time_components;         /* TIME: mask of the components that vary */
    int vector_length;           /* VECTOR: 1..MOE_VECTOR_MAX, or 0: pooled */
    double *vector_mean;         /* VECTOR: one per dense float */
    double *vector_inverse;
    moe_dictionary dictionary; /* CATEGORY */
    int64_t n_distinct;        /* CATEGORY, HASHED: distinct values of the fit rows */

    /* Derived by moe_features_layout. */
    int dense_at, dense_width; /* place in the table's dense row; the missing flag, if any, is last */
    int category_at;           /* place among the table's category entries, or -1 */
    int64_t category_row;      /* first row in the embedding parameter: NULL (if missing), unknown, values */
    uint64_t hash_key;
    char description[64];

    /* Binding */
    int hidden_bit;
    int64_t *bag_offset; /* [n_rows + 1] into bag_index */
    int32_t *bag_index;  /* buckets of the hash table */
} moe_spec;

typedef struct moe_features_table
{
    int n_columns;
    moe_spec *columns;
    int dense_width;
    int n_categories; /* entries a row */
    int n_bags;
    int64_t category_rows; /* rows of the embedding parameter */

    bool bound;
    int64_t n_rows;
    float *dense;      /* [n_rows * dense_width] */
    int32_t *category; /* [n_rows * n_categories]: rows of the embedding parameter, -1: none */
    bool hides;        /* some column has a hidden bit */
    uint8_t *ready;    /* [n_rows] whose inputs are computed; NULL: all are */
    const moe_column *source;
} moe_features_table;

struct moe_features
{
    moe_job *job;
    int n_tables;
    moe_features_table *tables;
    int buckets;     /* of the hash table, a power of two; 0: no column needs it */
    int64_t binding; /* number of the binding that stands: tells it from earlier ones */

    const bool *const *hidden; /* [n_tables], each NULL or [n_columns]; NULL: all is shown */
};

/* Allocate tables without columns. NULL on failure. */
moe_features *moe_features_create(moe_job *job, int n_tables);
/* Have the inputs of these rows of a table, where they are computed as they are asked for. */
moe_code moe_features_need(moe_features *features, int t, const int32_t *rows, int64_t n);
/* Derive places, widths and descriptions from the specifications. */
moe_code moe_features_layout(moe_features *features);
/* The embedding row of NULL, of a value not in the dictionary, and of value i. */
int32_t moe_spec_category_null(const moe_spec *spec);
int32_t moe_spec_category_unknown(const moe_spec *spec);
int32_t moe_spec_category_value(const moe_spec *spec, int64_t i);

/* Number of dense floats of the parts, without the missing flag. */
int moe_spec_values(const moe_spec *spec);
/* Write a row's dense_width floats. */
void moe_spec_dense(const moe_spec *spec, const moe_column *column, int64_t row, float *out);
/* Those of rows begin..end-1, `stride` floats apart. */
void moe_spec_dense_rows(const moe_spec *spec, const moe_column *column, int64_t begin, int64_t end, float *out,
                         int64_t stride);
/* Write what moe_spec_dense writes for NULL. */
void moe_spec_dense_null(const moe_spec *spec, float *out);
/* A row's hashes for HASHED or TEXT; at most MOE_BAG_MAX, 0 for NULL. */
#define MOE_BAG_MAX 64
int moe_spec_bag(const moe_spec *spec, const moe_column *column, int64_t row, uint64_t *hash);

/* The five pooled statistics of a vector. */
void moe_pool_vector(const float *items, int64_t length, double *out);
/* Month (0..11), day (0..30), weekday (0..6, Sunday 0), hour, minute, second. */
void moe_time_components(int64_t time, int *out);
extern const int moe_time_periods[MOE_TIME_COMPONENTS];

/* NULL, or a value that stands for none (an infinite timestamp, a number that is not finite). */
static inline bool
moe_column_missing(const moe_column *column, int64_t row)
{
    if (column->null && column->null[row])
        return true;
    if (column->storage == MOE_STORE_NUMBER || column->storage == MOE_STORE_BOOL)
        return !(column->number[row] - column->number[row] == 0);
    return column->storage == MOE_STORE_TIME &&
           (column->time[row] == MOE_TIME_ALWAYS || column->time[row] == MOE_TIME_NEVER);
}

/* sign(z) log(1 + |z|) of z = (x - center) / spread. */
double moe_log_scale(const moe_scaling *scaling, double x);
/* A NUMBER, BOOL or TIME (in seconds) as a number, within +-1e140 so that squares can be summed. */
static inline double
moe_column_number(const moe_column *column, int64_t row)
{
    double number = column->storage == MOE_STORE_TIME ? (double) column->time[row] / 1e6 : column->number[row];

    return number > MOE_NUMBER_MAX ? MOE_NUMBER_MAX : number < -MOE_NUMBER_MAX ? -MOE_NUMBER_MAX : number;
}

#endif
