/*
 * fdw_seeds.c: which seeds a scan scores: the values its plan gives, as row numbers and times.
 *
 * Keys are the cross product of the values given for each key column. A value
 * that occurs twice gives one row, NULL gives none.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/lsyscache.h"

#include "extension/fdw.h"
#include "extension/key.h"
#include "extension/moe_ml.h"

/* Beyond this many combinations of composite keys the scan goes over all rows and leaves the rest to the recheck. */
#define MAX_COMBINATIONS (1 << 20)

typedef struct moe_value_set /* the values given for one column, of its own type */
{
    int n;
    Datum *value;
} value_set;

/* Append a value given as another type, unless nothing can equal it. */
static void
add_value(const moe_scan *scan, AttrNumber column, Datum value, Oid from, value_set *set)
{
    Oid to = scan->shape->type[column - 1];

    if (column == scan->shape->as_of)
        set->value[set->n++] = Int64GetDatum(moe_time_convert(value, from, to));
    else if (moe_key_convert(value, from, to, &set->value[set->n]))
        set->n++;
}

/* Evaluate one pushed expression. */
static value_set
evaluate(const moe_scan *scan, int i, ExprContext *econtext)
{
    AttrNumber column = list_nth_int(scan->columns, i);
    Oid type = list_nth_oid(scan->types, i);
    value_set set = {0, NULL};
    bool null;
    Datum value = ExecEvalExpr(list_nth(scan->values, i), econtext, &null);

    if (null)
        return set;
    if (list_nth_int(scan->arrays, i))
    {
        ArrayType *array = DatumGetArrayTypeP(value);
        Datum *elements;
        bool *nulls;
        int n;
        int16 length;
        bool by_value;
        char align;

        get_typlenbyvalalign(ARR_ELEMTYPE(array), &length, &by_value, &align);
        deconstruct_array(array, ARR_ELEMTYPE(array), length, by_value, align, &elements, &nulls, &n);
        set.value = palloc_array(Datum, Max(n, 1));
        for (int k = 0; k < n; k++)
            if (!nulls[k])
                add_value(scan, column, elements[k], type, &set);
        return set;
    }
    set.value = palloc_array(Datum, 1);
    add_value(scan, column, value, type, &set);
    return set;
}

static int
compare_int64(const void *a, const void *b)
{
    int64 x = *(const int64 *) a, y = *(const int64 *) b;

    return (x > y) - (x < y);
}

static int
compare_int32(const void *a, const void *b)
{
    int32 x = *(const int32 *) a, y = *(const int32 *) b;

    return (x > y) - (x < y);
}

/* The distinct times, ascending. */
static void
set_times(moe_scan *scan, const value_set *set)
{
    int n = 0;

    scan->times = palloc_array(int64, Max(set->n, 1));
    for (int i = 0; i < set->n; i++)
        scan->times[i] = DatumGetInt64(set->value[i]);
    qsort(scan->times, set->n, sizeof(int64), compare_int64);
    for (int i = 0; i < set->n; i++)
        if (n == 0 || scan->times[n - 1] != scan->times[i])
            scan->times[n++] = scan->times[i];
    scan->n_times = n;
}

/* The distinct rows with one of the keys, ascending; false if there are too many combinations to look up. */
static bool
set_candidates(moe_scan *scan, const value_set *sets)
{
    int n_key = scan->shape->n_key;
    Datum *key = palloc_array(Datum, n_key);
    bool *nulls = palloc0_array(bool, n_key);
    int64 combinations = 1, n = 0, distinct = 0;

    for (int i = 0; i < n_key; i++)
    {
        combinations *= sets[i].n;
        if (combinations > MAX_COMBINATIONS && n_key > 1)
            return false;
    }
    scan->candidates = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int32) * Max(combinations, 1));
    for (int64 c = 0; c < combinations; c++)
    {
        int64 rest = c;
        int32 row;

        for (int i = 0; i < n_key; i++)
        {
            key[i] = sets[i].value[rest % sets[i].n];
            rest /= sets[i].n;
        }
        row = moe_data_find(scan->predictor->data, key, nulls);
        if (row >= 0)
            scan->candidates[n++] = row;
        if (c % 4096 == 0)
            CHECK_FOR_INTERRUPTS();
    }
    qsort(scan->candidates, n, sizeof(int32), compare_int32);
    for (int64 i = 0; i < n; i++)
        if (distinct == 0 || scan->candidates[distinct - 1] != scan->candidates[i])
            scan->candidates[distinct++] = scan->candidates[i];
    scan->n_candidates = distinct;
    return true;
}

void
moe_scan_evaluate(moe_scan *scan, ExprContext *econtext)
{
    scan->sets = palloc0_array(value_set, scan->shape->as_of);
    for (int i = 0; i < list_length(scan->values); i++)
        scan->sets[list_nth_int(scan->columns, i) - 1] = evaluate(scan, i, econtext);
}

bool
moe_scan_is_empty(const moe_scan *scan)
{
    ListCell *cell;

    foreach (cell, scan->columns)
        if (scan->sets[lfirst_int(cell) - 1].n == 0)
            return true;
    return false;
}

bool
moe_scan_asked(const moe_scan *scan, moe_asked *asked)
{
    const value_set *times = &scan->sets[scan->shape->as_of - 1];
    int n_key = scan->shape->n_key;
    bool one = scan->key_is_given;

    memset(asked, 0, sizeof(*asked));
    if (scan->time_is_given && times->n != 1)
        return false;
    asked->has_time = scan->time_is_given;
    asked->time = scan->time_is_given ? DatumGetInt64(times->value[0]) : 0;
    for (int i = 0; one && i < n_key; i++)
        one = scan->sets[i].n == 1;
    if (!one)
        return true;
    asked->n_key = n_key;
    asked->key = palloc_array(Datum, n_key);
    for (int i = 0; i < n_key; i++)
        asked->key[i] = scan->sets[i].value[0];
    return true;
}

void
moe_scan_resolve(moe_scan *scan)
{
    if (scan->time_is_given)
        set_times(scan, &scan->sets[scan->shape->as_of - 1]);
    else
    {
        scan->times = palloc_array(int64, 1);
        scan->times[0] = moe_predictor_default_time(scan->predictor);
        scan->n_times = 1;
    }
    scan->candidates = NULL;
    scan->n_candidates = 0;
    if (scan->key_is_given && !set_candidates(scan, scan->sets))
        scan->candidates = NULL;
}
