#include "test/unit/aggregates/world.h"

#include "test/unit/core.h"

#include <stdio.h>
#include <stdlib.h>

#define TABLES 5
#define ROWS   40
#define FIELDS 5
#define KEYS   7

static const char *const table_names[TABLES] = {"a", "b", "c", "d", "e"};
static const char *const field_names[FIELDS] = {"p", "q", "r", "s", "t"};
static const char *const key_names[KEYS] = {"k0", "k1", "k2", "k3", "k4", "k5", "k6"};

typedef struct maker
{
    moe_job *job;
    uint64_t key; /* of everything */
    uint64_t later_key;
    int64_t horizon;
    future what;
    int64_t kept[TABLES]; /* rows up to the horizon */
} maker;

/* 0 .. n-1, of three places. */
static int64_t
pick(uint64_t key, int a, int b, int64_t c, int64_t n)
{
    return (int64_t) (moe_random_uniform(moe_key(moe_key(key, (uint64_t) a), (uint64_t) b), (uint64_t) c) * (double) n);
}

static void *
room(moe_job *job, int64_t n, size_t size)
{
    void *memory = moe_alloc(job, n, size);

    assert_non_null(memory);
    return memory;
}

static int
compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

    return (x > y) - (x < y);
}

/* Times on half days, so that many are equal; one in ten none. */
static int64_t
draw_time(uint64_t key, int table, int64_t i)
{
    if (pick(key, table, 1, i, 10) == 0)
        return MOE_TIME_ALWAYS;
    return (1 + pick(key, table, 2, i, 199)) * WORLD_DAY / 2;
}

/* Row times: those up to the horizon, then, in a different future, some other later ones. */
static int64_t *
make_times(maker *m, int table, int64_t *n)
{
    int64_t *time = room(m->job, *n + ROWS, sizeof(*time));
    int64_t more = pick(m->later_key, table, 3, 0, ROWS / 2);

    for (int64_t i = 0; i < *n; i++)
        time[i] = draw_time(m->key, table, i);
    qsort(time, (size_t) *n, sizeof(*time), compare_times);
    while (m->kept[table] < *n && time[m->kept[table]] <= m->horizon)
        m->kept[table]++;
    if (m->what == FUTURE_AS_IT_CAME)
        return time;
    *n = m->kept[table];
    for (int64_t i = 0; m->what == FUTURE_DIFFERENT && i < more; i++)
        time[(*n)++] = m->horizon + 1 + pick(m->later_key, table, 4, i, 40) * WORLD_DAY / 2;
    qsort(time, (size_t) *n, sizeof(*time), compare_times);
    return time;
}

/* The key that a row's values are drawn by: later rows have others in a different future. */
static uint64_t
row_key(const maker *m, int table, int64_t row)
{
    return row < m->kept[table] ? m->key : m->later_key;
}

static void
fill_strings(const maker *m, int table, int field, int64_t n, const uint64_t *keys, moe_column *column)
{
    int64_t *offset = room(m->job, n + 1, sizeof(*offset));
    char *bytes = room(m->job, n + 1, 8);

    for (int64_t row = 0; row < n; row++)
        offset[row + 1] =
            offset[row] +
            sprintf(bytes + offset[row], "v%d",
                    (int) (pick(keys[row], 10 + table, field, row, 8) * pick(keys[row], 20 + table, field, row, 2)));
    column->offset = offset;
    column->bytes = bytes;
}

static void
fill_field(const maker *m, int table, int field, int64_t n, const uint64_t *keys, moe_column *column)
{
    int kind = (int) pick(m->key, 30 + table, field, 1, 8);
    int64_t values = 1 + pick(m->key, 30 + table, field, 2, 12);
    uint8_t *null = room(m->job, n, 1);
    double *number = room(m->job, n, sizeof(*number));
    int64_t *time = room(m->job, n, sizeof(*time));
    bool nulls = pick(m->key, 30 + table, field, 3, 2) == 0;

    column->name = field_names[field];
    column->storage = kind < 4    ? MOE_STORE_NUMBER
                      : kind == 4 ? MOE_STORE_BOOL
                      : kind == 5 ? MOE_STORE_TIME
                                  : MOE_STORE_STRING;
    column->integral = kind < 2;
    column->encoding = kind == 1 && values > 8 ? MOE_ENCODE_CATEGORY : MOE_ENCODE_AUTO;
    for (int64_t row = 0; row < n; row++)
    {
        number[row] = (double) pick(keys[row], 40 + table, field, row, column->storage == MOE_STORE_BOOL ? 2 : values);
        number[row] += column->integral || column->storage == MOE_STORE_BOOL ? 0 : 0.37 * (double) field;
        time[row] = pick(keys[row], 50 + table, field, row, 400) * WORLD_DAY / 3;
        null[row] = nulls && pick(keys[row], 60 + table, field, row, 4) == 0;
    }
    column->null = nulls ? null : NULL;
    column->number = number;
    column->time = time;
    if (column->storage == MOE_STORE_STRING)
        fill_strings(m, table, field, n, keys, column);
}

/* When late values became known: some never, some before their row; later than the horizon, otherwise in each future.
 */
static int64_t *
make_known_at(const maker *m, int table, int bit, const int64_t *time, int64_t n, uint64_t *keys)
{
    int64_t *known = room(m->job, n, sizeof(*known));

    for (int64_t row = 0; row < n; row++)
    {
        uint64_t key = row_key(m, table, row);
        int64_t from = time && time[row] != MOE_TIME_ALWAYS ? time[row] : 0;

        known[row] = pick(key, 70 + table, bit, row, 8) == 0
                         ? MOE_TIME_NEVER
                         : from + (pick(key, 80 + table, bit, row, 30) - 3) * WORLD_DAY / 2;
        keys[row] = known[row] <= m->horizon ? key : m->later_key;
        if (known[row] > m->horizon && m->what == FUTURE_DIFFERENT)
            known[row] = m->horizon + 1 + pick(m->later_key, 90 + table, bit, row, 30) * WORLD_DAY;
    }
    return known;
}

static void
make_table(maker *m, int t, moe_table *table, moe_row_times *times)
{
    int64_t n = pick(m->key, t, 5, 0, 8) == 0 ? 0 : 1 + pick(m->key, t, 6, 0, ROWS);
    bool timed = pick(m->key, t, 7, 0, 5) != 0;
    int64_t *time = NULL;
    moe_column *columns = room(m->job, FIELDS, sizeof(*columns));
    uint64_t *keys[3];

    m->kept[t] = timed ? 0 : n;
    if (timed)
        time = make_times(m, t, &n);
    *times = (moe_row_times){.time = time, .n_hidden = 2};
    for (int bit = -1; bit < 2; bit++)
    {
        keys[bit + 1] = room(m->job, n, sizeof(uint64_t));
        for (int64_t row = 0; row < n; row++)
            keys[bit + 1][row] = row_key(m, t, row);
        if (bit >= 0)
            times->known_at[bit] = make_known_at(m, t, bit, time, n, keys[bit + 1]);
    }
    *table = (moe_table){table_names[t], n, (int) pick(m->key, t, 8, 0, FIELDS + 1), columns};
    for (int f = 0; f < table->n_columns; f++)
    {
        int late = (int) pick(m->key, t, 9, f, 5) - 3;

        columns[f].hidden_bit = late < -1 ? -1 : late;
        fill_field(m, t, f, n, keys[columns[f].hidden_bit + 1], &columns[f]);
    }
}

/* The parent of a row: of a row that stays, one that stays, or none. */
static int32_t
draw_parent(const maker *m, int k, const moe_relation *r, int64_t row, int64_t n_parents, int64_t n_base)
{
    bool stays = row < m->kept[r->child];
    int64_t n = stays ? n_base : n_parents;
    int64_t parent =
        n == 0 || pick(row_key(m, r->child, row), 100 + k, 1, row, 6) == 0
            ? -1
            : pick(row_key(m, r->child, row), 100 + k, 2, row, n < 6 ? n : 6 + pick(m->key, 100 + k, 3, 0, n - 5));

    return (int32_t) (parent < n_parents && (!stays || m->what == FUTURE_AS_IT_CAME || parent < m->kept[r->parent])
                          ? parent
                          : -1);
}

void
make_children(moe_job *job, moe_relation *r, int64_t n_children, int64_t n_parents)
{
    int64_t *offset = room(job, n_parents + 2, sizeof(*offset));
    int32_t *children = room(job, n_children, sizeof(*children));

    for (int64_t row = 0; row < n_children; row++)
        if (r->parent_of[row] >= 0)
            offset[r->parent_of[row] + 2]++;
    for (int64_t p = 0; p < n_parents; p++)
        offset[p + 2] += offset[p + 1];
    for (int64_t row = 0; row < n_children; row++)
        if (r->parent_of[row] >= 0)
            children[offset[r->parent_of[row] + 1]++] = (int32_t) row;
    r->offset = offset;
    r->children = children;
}

/* The rows a table has in the future as it came: what keys of rows that stay were drawn from. */
static int64_t
base_rows(const maker *m, int t)
{
    return pick(m->key, t, 5, 0, 8) == 0 ? 0 : 1 + pick(m->key, t, 6, 0, ROWS);
}

moe_relational *
make_world(moe_job *job, uint64_t key, int64_t horizon, future what)
{
    maker m = {.job = job, .key = moe_mix64(key), .horizon = horizon, .what = what};
    int n_tables = 2 + (int) pick(m.key, 0, 0, 0, TABLES - 1);
    int n_keys = 2 + (int) pick(m.key, 0, 0, 1, KEYS - 1);
    moe_relational *db = room(job, 1, sizeof(*db));
    moe_table *tables = room(job, n_tables, sizeof(*tables));
    moe_row_times *times = room(job, n_tables, sizeof(*times));
    moe_relation *relations = room(job, n_keys, sizeof(*relations));

    m.later_key = what == FUTURE_DIFFERENT ? moe_mix64(m.key) : m.key;
    for (int t = 0; t < n_tables; t++)
        make_table(&m, t, &tables[t], &times[t]);
    for (int k = 0; k < n_keys; k++)
    {
        moe_relation *r = &relations[k];
        int32_t *parent_of;

        r->name = key_names[k];
        r->child = (int) pick(m.key, 0, 1, k, n_tables);
        r->parent = k == 0 ? 0 : (int) pick(m.key, 0, 2, k, n_tables);
        r->parent_of = parent_of = room(job, tables[r->child].n_rows, sizeof(*parent_of));
        for (int64_t row = 0; row < tables[r->child].n_rows; row++)
            parent_of[row] = draw_parent(&m, k, r, row, tables[r->parent].n_rows, base_rows(&m, r->parent));
        make_children(job, r, tables[r->child].n_rows, tables[r->parent].n_rows);
    }
    *db = (moe_relational){n_tables, tables, times, n_keys, relations};
    return db;
}

void
world_visible(const moe_relational *db, int64_t horizon, int64_t *rows)
{
    for (int t = 0; t < db->n_tables; t++)
    {
        rows[t] = 0;
        while (rows[t] < db->tables[t].n_rows && (!db->times[t].time || db->times[t].time[rows[t]] <= horizon))
            rows[t]++;
    }
}

moe_moments
make_moments(moe_job *job, const moe_relational *db, int entity, int64_t n, uint64_t key, int64_t latest)
{
    int32_t *row = room(job, n, sizeof(*row));
    int64_t *time = room(job, n, sizeof(*time));
    int64_t *horizon = room(job, n, sizeof(*horizon));
    int64_t rows[TABLES];

    world_visible(db, latest, rows);
    if (rows[entity] == 0)
        n = 0;
    for (int64_t i = 0; i < n; i++)
    {
        row[i] = (int32_t) pick(key, 200, 0, i, rows[entity]);
        horizon[i] = latest - pick(key, 200, 1, i, 200) * WORLD_DAY / 2;
        time[i] = horizon[i] + pick(key, 200, 2, i, 2) * pick(key, 200, 3, i, 60) * WORLD_DAY / 4;
    }
    return (moe_moments){n, row, time, horizon};
}

void
make_small_world(moe_job *job, small_world *w, int64_t n, const double *values, const int64_t *time)
{
    int32_t *parent_of = room(job, n, sizeof(*parent_of));

    w->column = (moe_column){.name = "x", .storage = MOE_STORE_NUMBER, .hidden_bit = -1, .number = values};
    w->tables[0] = (moe_table){.name = "parents", .n_rows = 1};
    w->tables[1] = (moe_table){.name = "children", .n_rows = n, .n_columns = 1, .columns = &w->column};
    w->times[0] = (moe_row_times){0};
    w->times[1] = (moe_row_times){.time = time};
    w->relation = (moe_relation){.name = "key", .child = 1, .parent = 0, .parent_of = parent_of};
    make_children(job, &w->relation, n, 1);
    w->db = (moe_relational){2, w->tables, w->times, 1, &w->relation};
    w->fit_rows[0] = 1;
    w->fit_rows[1] = n;
}
