/*
 * aggregates_plan.h: what a plan of aggregates consists of; shared by the aggregates*.c files, nobody else includes it.
 *
 * A plan is a function of what was fitted of tables and keys (moe_agg_table,
 * moe_agg_key), the entity, the window and the most columns: so only these
 * are stored, and moe_agg_layout derives the rest.
 *
 *   stream  the events of an owner table: source rows, in order of (event time, row), an owner's side by side
 *   path    how a seed comes to an owner row: itself, a key of its own, or the latest visible child's other key
 *   part    columns that one sweep computes: a path, a stream of the owner it ends at, and what is made of the events
 */
#ifndef MOE_EMBED_AGGREGATES_PLAN_H
#define MOE_EMBED_AGGREGATES_PLAN_H

#include "embed/aggregates.h"
#include "embed/dictionary.h"

#include <math.h>

#define MOE_AGG_DAY        INT64_C(86400000000)
#define MOE_AGG_NUMBER_MAX 1e140 /* larger numbers count as this: sums stay finite */
#define MOE_AGG_CODES      6     /* frequent codes of a column at most */
#define MOE_AGG_CODE_OTHER 254
#define MOE_AGG_CODE_NULL  255
#define MOE_AGG_BLOCK      32 /* values that one walk over an owner's events sums up at most */
#define MOE_AGG_SIBLINGS   64 /* siblings that an event is compared with at most */
#define MOE_AGG_AT_ONCE    16 /* events that are compared at once at most */
#define MOE_AGG_WINDOWS    3
#define MOE_AGG_KEYS_MAX   1000
#define MOE_AGG_PARTS_MAX  4096

/* How many events of an owner that a path leads to are summed up: at least, and less than twice as many. */
#define MOE_AGG_LATEST_EVENTS   1024
#define MOE_AGG_LATEST_COMPARED 256

extern const int moe_agg_window_spans[MOE_AGG_WINDOWS]; /* in label windows */

typedef enum moe_agg_kind /* what is made of a column's value */
{
    MOE_AGG_NUMBER,
    MOE_AGG_DAYS,    /* from row time to value; in streams */
    MOE_AGG_DATE,    /* from value to seed time, in days; of own rows */
    MOE_AGG_MISSING, /* 1 where NULL, else 0 */
    MOE_AGG_CODE     /* 1 where it is the code, else 0 */
} moe_agg_kind;

typedef struct moe_agg_field /* a column of a table */
{
    char *name;
    moe_storage storage;
    int hidden_bit;
    int kinds; /* bits 1 << moe_agg_kind */
    moe_dictionary codes;

    bool coded; /* some column of the plan is about a code */
    /* Bound: */
    moe_column column;
    uint8_t *code; /* [n_rows] number of the code, OTHER or NULL; where coded */
} moe_agg_field;

typedef struct moe_agg_value
{
    int field;
    moe_agg_kind kind;
    int code;
} moe_agg_value;

typedef struct moe_agg_list /* of values of a table, by number */
{
    int n;
    int *value;
} moe_agg_list;

enum /* which values: of own rows, compared with siblings', of partners, of the stream of a hidden bit */
{
    MOE_AGG_OF_OWN,
    MOE_AGG_OF_SIBLINGS,
    MOE_AGG_OF_PARTNERS,
    MOE_AGG_OF_STREAM, /* of bit -1, then of bit 0, ... */
    MOE_AGG_LISTS = MOE_AGG_OF_STREAM + 1 + MOE_HIDDEN_MAX
};

typedef struct moe_agg_table
{
    char *name;
    bool timed;  /* its rows have times */
    bool filled; /* it had rows when it was fitted */
    int n_fields;
    moe_agg_field *fields;

    int n_values;
    moe_agg_value *values;
    moe_agg_list lists[MOE_AGG_LISTS];
    /* Bound: */
    int64_t n_rows;
    moe_row_times times;
    double *numbers; /* [n_rows, those compared with siblings'], NaN where NULL; or NULL */
} moe_agg_table;

typedef struct moe_agg_key /* a relation */
{
    char *name;
    int child;
    int parent;
    moe_relation bound;
    const int64_t *parent_time; /* of the parent's rows, or NULL */
    float *compared;            /* [child rows, values of siblings, 2], or NULL: what was computed is kept */
    uint8_t *is_compared;       /* [child rows] */
} moe_agg_key;

typedef struct moe_agg_stream
{
    int key;    /* whose parent is the owner */
    int below;  /* grandchildren: the key whose parent is key's child; else -1 */
    int beyond; /* of a path: the other key of the source, without which a row is no event; else -1 */
    int source; /* the table whose rows are events */
    int bit;    /* events are values that become known later; or -1 */
    bool timed; /* events have times */
    /* Bound: */
    const int64_t *offset; /* [owner rows + 1] */
    const int32_t *rows;
    int64_t *own_offset; /* where they are not the relation's */
    int32_t *own_rows;
    const int64_t *time, *middle_time, *known_at; /* each may be NULL */
    const int32_t *middle;                        /* a source row's row of below, or of beyond */
} moe_agg_stream;

typedef enum moe_agg_path_kind
{
    MOE_AGG_SELF,
    MOE_AGG_KEY,   /* the row that `key` of the seed's row points at */
    MOE_AGG_LATEST /* the row that `other` of the latest visible child over `key` points at */
} moe_agg_path_kind;

typedef struct moe_agg_shared /* the columns of owners as of one horizon */
{
    int64_t horizon;
    int64_t n, capacity;
    int64_t width;  /* columns of the path's sweeps */
    int32_t *place; /* [owner rows] -1: not kept; NULL: no room was made */
    int32_t *owner; /* [n] */
    float *columns; /* [n, width] */
} moe_agg_shared;

typedef struct moe_agg_path
{
    moe_agg_path_kind kind;
    int key;
    int other;
    int owner;               /* table */
    moe_agg_stream children; /* of LATEST: where it looks for the latest */
    moe_agg_shared shared;   /* bound; not of SELF */
} moe_agg_path;

typedef enum moe_agg_part_kind
{
    MOE_AGG_PART_OWN,
    MOE_AGG_PART_SEASON,
    MOE_AGG_PART_EVENTS,
    MOE_AGG_PART_SIBLINGS,
    MOE_AGG_PART_PARTNERS
} moe_agg_part_kind;

typedef struct moe_agg_part
{
    moe_agg_part_kind kind;
    moe_aggregate_family family;
    int path;
    int stream; /* or -1 */
    int other;  /* of SIBLINGS and PARTNERS: the events' key that leads to the row they share; else -1 */
    int beyond; /* of PARTNERS: the key whose rows there are counted; -1: the partner's own columns */
    int64_t wanted;
    int first; /* column */
    int n;
    /* Bound, of PARTNERS with rows beyond: what was known of each event's partner is kept. */
    int places;       /* counts and values */
    float *kept;      /* [child rows, places], or NULL */
    uint8_t *is_kept; /* [child rows] */
} moe_agg_part;

typedef enum moe_agg_op
{
    MOE_AGG_COUNT,
    MOE_AGG_COUNT_WINDOW,
    MOE_AGG_SINCE_LAST,
    MOE_AGG_SINCE_FIRST,
    MOE_AGG_FAST, /* exponential mean, half-life 6 events */
    MOE_AGG_SLOW, /* 20 events */
    MOE_AGG_MEAN,
    MOE_AGG_MEAN_WINDOW,
    MOE_AGG_SUM_WINDOW,
    MOE_AGG_LAST,
    MOE_AGG_OWN,
    MOE_AGG_SINE,
    MOE_AGG_COSINE,
    MOE_AGG_LAG
} moe_agg_op;

typedef struct moe_agg_column
{
    int part;
    moe_agg_op op;
    int window; /* of *_WINDOW: its place in moe_agg_window_spans */
    int value;  /* place in the part's list of values; of siblings twice that, + 1: the difference; of partners after
                 * the counts; or -1 */
    int64_t name;
} moe_agg_column;

struct moe_aggregates
{
    moe_job *job;
    int entity;
    int64_t window;
    int max_columns;
    int n_tables;
    moe_agg_table *tables;
    int n_keys;
    moe_agg_key *keys;

    int n_streams, n_paths, n_parts, n_columns;
    moe_agg_stream *streams;
    moe_agg_path *paths;
    moe_agg_part *parts;
    moe_agg_column *columns;
    moe_buffer names;
    bool bound;
};

/* Tables and keys without content. NULL on failure. */
moe_aggregates *moe_agg_create(moe_job *job, int n_tables, int n_keys);
/* Derive streams, paths, parts, columns and names from what was fitted. */
moe_code moe_agg_layout(moe_aggregates *a);
moe_code moe_agg_name_columns(moe_aggregates *a);
void moe_agg_unbind(moe_aggregates *a);
/* Give a stream its events, and take them again. */
moe_code moe_agg_bind_stream(moe_aggregates *a, moe_agg_stream *stream);
void moe_agg_unbind_stream(moe_job *job, moe_agg_stream *stream);
/* Whether a part needs a table's rows. */
bool moe_agg_part_needs(const moe_aggregates *a, const moe_agg_part *part, int table);
/* The table of a part's values, and which of them. */
int moe_agg_part_table(const moe_aggregates *a, const moe_agg_part *part);
const moe_agg_list *moe_agg_part_values(const moe_aggregates *a, const moe_agg_part *part);
/* A column's value, or NULL for one that is about rows. */
const moe_agg_value *moe_agg_value_of(const moe_aggregates *a, const moe_agg_column *column);

/* What is sorted: events, or seeds, of owners. */
typedef struct moe_agg_record
{
    int32_t owner;
    int32_t item;
    int64_t time;
} moe_agg_record;

/* By owner, time, item, on the job's threads. The array may be replaced by another. */
moe_code moe_agg_sort(moe_job *job, moe_agg_record **records, int64_t n);

/* Seeds that a path leads to an owner, sorted, one owner's beside another's. */
typedef struct moe_agg_seeds
{
    int64_t n;
    moe_agg_record *records; /* item: the seed; time: the horizon */
    int64_t n_groups;
    int64_t *group; /* [n_groups + 1] */
} moe_agg_seeds;

/* Compute the columns of a part of EVENTS, SIBLINGS or PARTNERS. */
moe_code moe_agg_sweep(moe_aggregates *a, const moe_agg_part *part, const moe_agg_seeds *seeds, float *out);
/* May these seeds of a path, all as of one horizon, share what is computed? Makes room if there is none. */
bool moe_agg_is_shared(moe_aggregates *a, moe_agg_path *path, const moe_agg_seeds *seeds);
/* Give the columns that are kept to the seeds whose owners they are of, which leave `seeds`. */
void moe_agg_take_shared(moe_aggregates *a, const moe_agg_path *path, moe_agg_seeds *seeds, float *out);
/* Keep what was computed for the others, as far as there is room. */
void moe_agg_keep_shared(moe_aggregates *a, moe_agg_path *path, const moe_agg_seeds *seeds, float *out);
void moe_agg_forget_shared(moe_job *job, moe_agg_shared *shared);
typedef struct moe_agg_siblings /* of a row: the rows that share its key and have row time <= its own */
{
    int32_t row;
    int n;
    int32_t rows[MOE_AGG_SIBLINGS]; /* the latest of them, latest first */
    /* While they are looked for: */
    int64_t time;
    int64_t first, begin,
        end; /* places among the parent's children: the first; the end of the visible lies in between */
} moe_agg_siblings;

/* Find the siblings of n rows. */
void moe_agg_find_siblings(const moe_agg_table *table, const moe_agg_key *key, moe_agg_siblings *siblings, int n);
/*
 * Event rows, at most MOE_AGG_AT_ONCE of them, each against its siblings. Of each row ranks and differences of n
 * values, in single precision, by their places in the table's list of such. No two threads may ask for the same row at
 * a time.
 */
void moe_agg_compare(const moe_agg_table *table, const moe_agg_key *key, const int32_t *rows, int n_rows,
                     const int *places, int n, float (*out)[MOE_AGG_BLOCK]);
/*
 * What was known of an event row's partner at the row's own time: n values, in single precision, NaN where NULL, by
 * their places in the part's list. Partner: the row that the part's other key points at. No two threads may ask for the
 * same row at a time.
 */
void moe_agg_partner(const moe_aggregates *a, const moe_agg_part *part, int32_t row, const int *places, int n,
                     float *out);
/* Make room to keep what was known of partners, if it takes no more than is left. */
moe_code moe_agg_keep_partners(const moe_aggregates *a, moe_agg_part *part, int64_t *left);
/* How many values a part has: two of each that is compared with siblings, counts before those of partners. */
int64_t moe_agg_places(const moe_aggregates *a, const moe_agg_part *part);
/* How many counts stand before the values in a part of PARTNERS. */
int moe_agg_partner_counts(const moe_aggregates *a, const moe_agg_part *part);
/* The end of those of the rows [begin, end) of a relation that have row time <= time. */
int64_t moe_agg_visible_end(const moe_relation *relation, const moe_row_times *times, int64_t begin, int64_t end,
                            int64_t time);
/* The latest rows of a relation that have row time <= time, latest first, at most MOE_AGG_SIBLINGS, one excepted (-1:
 * none).
 */
int moe_agg_latest(const moe_relation *relation, const moe_row_times *times, int32_t parent, int64_t time,
                   int32_t except, int32_t *rows);
/* Put the numbers that are compared side by side, row by row, if there is room to spare. */
void moe_agg_pack(moe_job *job, moe_agg_table *table);
/* Make room to keep what was compared over a key, if it takes no more than is left. */
moe_code moe_agg_keep_compared(moe_job *job, const moe_agg_table *table, moe_agg_key *key, int64_t *left);

static inline bool
moe_agg_missing(const moe_column *column, int64_t row)
{
    if (column->null && column->null[row])
        return true;
    if (column->storage == MOE_STORE_NUMBER || column->storage == MOE_STORE_BOOL)
        return !(column->number[row] - column->number[row] == 0);
    return column->storage == MOE_STORE_TIME &&
           (column->time[row] == MOE_TIME_ALWAYS || column->time[row] == MOE_TIME_NEVER);
}

static inline double
moe_agg_number(const moe_column *column, int64_t row)
{
    double x = column->number[row];

    return x > MOE_AGG_NUMBER_MAX ? MOE_AGG_NUMBER_MAX : x < -MOE_AGG_NUMBER_MAX ? -MOE_AGG_NUMBER_MAX : x;
}

/* Days from one moment to another. */
static inline double
moe_agg_days(int64_t from, int64_t to)
{
    int64_t difference;

    if (__builtin_sub_overflow(to, from, &difference))
        return ((double) to - (double) from) / (double) MOE_AGG_DAY;
    return (double) difference / (double) MOE_AGG_DAY;
}

static inline int64_t
moe_agg_row_time(const moe_row_times *times, int64_t row)
{
    return times->time ? times->time[row] : MOE_TIME_ALWAYS;
}

/* The value of an event; NaN where NULL. */
static inline double
moe_agg_event_value(const moe_agg_table *table, const moe_agg_value *value, int64_t row)
{
    const moe_agg_field *field = &table->fields[value->field];

    if (value->kind == MOE_AGG_CODE)
        return field->code[row] == MOE_AGG_CODE_NULL ? NAN : field->code[row] == value->code;
    if (value->kind == MOE_AGG_MISSING)
        return moe_agg_missing(&field->column, row);
    if (moe_agg_missing(&field->column, row))
        return NAN;
    if (value->kind == MOE_AGG_NUMBER)
        return moe_agg_number(&field->column, row);
    if (moe_agg_row_time(&table->times, row) == MOE_TIME_ALWAYS)
        return NAN;
    return moe_agg_days(table->times.time[row], field->column.time[row]);
}

/* Where in memory it is, or most of it. */
static inline const void *
moe_agg_event_place(const moe_agg_table *table, const moe_agg_value *value, int64_t row)
{
    const moe_agg_field *field = &table->fields[value->field];

    if (value->kind == MOE_AGG_CODE)
        return &field->code[row];
    if (value->kind == MOE_AGG_MISSING)
        return field->column.null ? &field->column.null[row] : NULL;
    return value->kind == MOE_AGG_NUMBER ? (const void *) &field->column.number[row] : &field->column.time[row];
}

/* When an event came to be: the latest of its rows' times and of the moment its values became known. */
static inline int64_t
moe_agg_event_time(const moe_agg_stream *stream, int32_t row)
{
    int64_t time = stream->time ? stream->time[row] : MOE_TIME_ALWAYS;

    if (stream->middle_time && stream->middle_time[stream->middle[row]] > time)
        time = stream->middle_time[stream->middle[row]];
    if (stream->known_at && stream->known_at[row] > time)
        time = stream->known_at[row];
    return time;
}

/* As stored: finite, or NaN. */
static inline float
moe_agg_float(double x)
{
    return x > 3e38 ? 3e38f : x < -3e38 ? -3e38f : (float) x;
}

#endif
