/*
 * aggregates_partners.c: of an event, what was known at its own time of another row it points at.
 *
 * Of a purchase its supplier, say: the supplier's own columns, how many returns there had been by then, and the mean of
 * their values over the latest. A fixed property of the purchase, as what siblings
 * say is: nothing later can change it. It is how aggregates reach rows that lie three keys away from theirs.
 */
#include "embed/aggregates_plan.h"
#include "kernels/memory.h"

int
moe_agg_partner_counts(const moe_aggregates *a, const moe_agg_part *part)
{
    if (part->kind != MOE_AGG_PART_PARTNERS || part->beyond < 0)
        return 0;
    return a->tables[a->keys[part->beyond].child].timed ? 3 : 1;
}

/* The mean of the rows' values that are not NULL. */
static double
mean_of(const moe_agg_table *table, const moe_agg_value *value, const int32_t *rows, int n)
{
    double sum = 0;
    int count = 0;

    for (int i = 0; i < n; i++)
    {
        double x = moe_agg_event_value(table, value, rows[i]);

        if (isnan(x))
            continue;
        sum += x;
        count++;
    }
    return count > 0 ? sum / count : NAN;
}

typedef struct beyond /* a partner's rows over a key, those visible at a time */
{
    const moe_relation *relation;
    const moe_row_times *times;
    int64_t begin, end; /* places in the relation's children */
    int64_t time;
    int32_t except; /* the event, where it is among them; or -1 */
} beyond;

/* Those within the longest window. */
static double
count_in_window(const moe_aggregates *a, const beyond *b)
{
    int64_t span, since;

    if (__builtin_mul_overflow(a->window, (int64_t) moe_agg_window_spans[MOE_AGG_WINDOWS - 1], &span) ||
        __builtin_sub_overflow(b->time, span, &since))
        since = MOE_TIME_ALWAYS;
    return (double) (b->end - moe_agg_visible_end(b->relation, b->times, b->begin, b->end, since) -
                     (b->except >= 0 && b->time > since));
}

/* How many a day there were since the first, of two or more. */
static double
count_a_day(const beyond *b)
{
    int64_t first = b->begin;
    int64_t n;
    double days;

    if (first < b->end && b->times->time[b->relation->children[first]] == MOE_TIME_ALWAYS)
        first = moe_agg_visible_end(b->relation, b->times, first, b->end, MOE_TIME_ALWAYS);
    n = b->end - first - (b->except >= 0 && b->time > MOE_TIME_ALWAYS);
    if (n < 2)
        return NAN;
    days = moe_agg_days(b->times->time[b->relation->children[first]], b->time);
    return days > 0 ? (double) n / days : NAN;
}

static void
look_beyond(const moe_aggregates *a, const moe_agg_part *part, int32_t partner, int64_t time, int32_t row,
            const int *places, int n, float *out)
{
    const moe_agg_key *key = &a->keys[part->beyond];
    const moe_agg_table *table = &a->tables[key->child];
    const moe_agg_list *list = moe_agg_part_values(a, part);
    int counts = moe_agg_partner_counts(a, part);
    int32_t latest[MOE_AGG_SIBLINGS];
    int found = -1;
    beyond b = {.relation = &key->bound,
                .times = &table->times,
                .begin = key->bound.offset[partner],
                .time = time,
                .except = part->beyond == part->other ? row : -1};

    b.end = moe_agg_visible_end(b.relation, b.times, b.begin, key->bound.offset[partner + 1], time);
    for (int i = 0; i < n; i++)
    {
        int place = places ? places[i] : i;

        if (place == 0)
            out[i] = (float) (b.end - b.begin - (b.except >= 0));
        else if (place < counts)
            out[i] = moe_agg_float(place == 1 ? count_a_day(&b) : count_in_window(a, &b));
        else
        {
            if (found < 0)
                found = moe_agg_latest(b.relation, b.times, partner, time, b.except, latest);
            out[i] = moe_agg_float(mean_of(table, &table->values[list->value[place - counts]], latest, found));
        }
    }
}

/* Some values of a row, or the first n. */
static void
know(const moe_aggregates *a, const moe_agg_part *part, int32_t row, const int *places, int n, float *out)
{
    const moe_agg_key *key = &a->keys[part->other];
    int64_t time = moe_agg_row_time(&a->tables[key->child].times, row);
    int32_t partner = key->bound.parent_of[row];
    const moe_agg_table *table = &a->tables[key->parent];
    const moe_agg_list *list = moe_agg_part_values(a, part);

    if (partner < 0 || (key->parent_time && key->parent_time[partner] > time))
        for (int i = 0; i < n; i++)
            out[i] = NAN;
    else if (part->beyond >= 0)
        look_beyond(a, part, partner, time, row, places, n, out);
    else
        for (int i = 0; i < n; i++)
            out[i] = moe_agg_float(moe_agg_event_value(table, &table->values[list->value[places[i]]], partner));
}

void
moe_agg_partner(const moe_aggregates *a, const moe_agg_part *part, int32_t row, const int *places, int n, float *out)
{
    float *kept;

    if (!part->kept)
    {
        know(a, part, row, places, n, out);
        return;
    }
    kept = part->kept + (int64_t) row * part->places;
    if (!part->is_kept[row])
        know(a, part, row, NULL, part->places, kept);
    part->is_kept[row] = 1;
    for (int i = 0; i < n; i++)
        out[i] = kept[places[i]];
}

moe_code
moe_agg_keep_partners(const moe_aggregates *a, moe_agg_part *part, int64_t *left)
{
    int64_t rows = a->tables[a->keys[part->other].child].n_rows;
    int64_t size;

    part->places = (int) moe_agg_places(a, part);
    size = rows * (part->places * (int64_t) sizeof(float) + 1);
    if (part->kept || size == 0 || size > *left)
        return MOE_OK;
    if (!(part->is_kept = moe_alloc(a->job, rows, 1)))
        return moe_job_code(a->job);
    if ((part->kept = moe_try_alloc_spare(a->job, (size_t) (rows * part->places) * sizeof(float))))
        *left -= size;
    return MOE_OK;
}
