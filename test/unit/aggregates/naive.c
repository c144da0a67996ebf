#include "test/unit/aggregates/naive.h"
#include "test/unit/aggregates/series.h"

#include "test/unit/core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 20000
#define NAME    300
#define VALUES  60
#define EVENTS  4096

typedef struct thing /* a value column */
{
    int column;
    char kind;    /* x: number, d: days to, a: date of an own row, n: NULL, c: code */
    int64_t code; /* a fit row that has it */
    char name[80];
} thing;

struct naive
{
    const moe_relational *fit, *db;
    int entity;
    const int64_t *fit_rows;
    int64_t window;
    int n_things[8];
    thing things[8][VALUES];
    bool named;
    int n;
    char (*names)[NAME];
    double values[COLUMNS];
    int32_t row; /* the seed */
    int64_t time, horizon;
};

static bool
missing(const moe_column *c, int64_t row)
{
    return c->null && c->null[row];
}

static bool
same(const moe_column *c, int64_t i, const moe_column *d, int64_t j)
{
    if (c->storage != MOE_STORE_STRING)
        return c->storage == MOE_STORE_TIME ? c->time[i] == d->time[j] : c->number[i] == d->number[j];
    return c->offset[i + 1] - c->offset[i] == d->offset[j + 1] - d->offset[j] &&
           memcmp(c->bytes + c->offset[i], d->bytes + d->offset[j], (size_t) (c->offset[i + 1] - c->offset[i])) == 0;
}

static void
add_thing(naive *nv, int t, int column, char kind, int64_t code)
{
    const moe_table *table = &nv->fit->tables[t];
    const moe_column *c = &table->columns[column];
    thing *x = &nv->things[t][nv->n_things[t]++];
    int at;

    assert_true(nv->n_things[t] <= VALUES);
    *x = (thing){.column = column, .kind = kind, .code = code};
    at = sprintf(x->name, "%s%s.%s",
                 kind == 'n'   ? "NULL in "
                 : kind == 'd' ? "days to "
                 : kind == 'a' ? "days since "
                               : "",
                 table->name, c->name);
    if (kind == 'c' && c->storage == MOE_STORE_STRING)
        sprintf(x->name + at, " = '%.*s'", (int) (c->offset[code + 1] - c->offset[code]), c->bytes + c->offset[code]);
    else if (kind == 'c')
        sprintf(x->name + at, " = %g", c->number[code]);
}

static void
add_codes(naive *nv, int t, int column, int64_t n)
{
    const moe_column *c = &nv->fit->tables[t].columns[column];
    int64_t first[64], count[64];
    int distinct = 0;
    int share = c->storage == MOE_STORE_NUMBER && c->encoding != MOE_ENCODE_CATEGORY ? 20 : 100;

    for (int64_t row = 0; row < n; row++)
    {
        int i = 0;

        if (missing(c, row))
            continue;
        while (i < distinct && !same(c, row, c, first[i]))
            i++;
        if (i == distinct)
        {
            first[distinct] = row;
            count[distinct++] = 0;
        }
        count[i]++;
    }
    if (distinct < 2 || (distinct == 2 && c->storage == MOE_STORE_NUMBER && c->encoding != MOE_ENCODE_CATEGORY))
        return;
    for (int taken = 0; taken < (distinct == 2 ? 1 : 6); taken++)
    {
        int best = 0;

        for (int i = 1; i < distinct; i++)
            best = count[i] > count[best] ? i : best;
        if (count[best] < 2 || count[best] * share < n)
            break;
        add_thing(nv, t, column, 'c', first[best]);
        count[best] = 0;
    }
}

static void
find_things(naive *nv, int t)
{
    const moe_table *table = &nv->fit->tables[t];
    const int64_t *time = nv->fit->times[t].time;
    int64_t n = nv->fit_rows[t];

    for (int f = 0; f < table->n_columns; f++)
    {
        const moe_column *c = &table->columns[f];
        int64_t nulls = 0, first = -1, first_timed = -1;
        bool varies = false, days_vary = false;

        for (int64_t row = 0; row < n; row++)
        {
            nulls += missing(c, row);
            if (missing(c, row))
                continue;
            first = first < 0 ? row : first;
            varies |= !same(c, row, c, first);
            if (c->storage != MOE_STORE_TIME || !time || time[row] == MOE_TIME_ALWAYS)
                continue;
            first_timed = first_timed < 0 ? row : first_timed;
            days_vary |= c->time[row] - time[row] != c->time[first_timed] - time[first_timed];
        }
        if (c->storage == MOE_STORE_TIME && varies)
            add_thing(nv, t, f, 'a', 0);
        if (c->storage == MOE_STORE_TIME && days_vary)
            add_thing(nv, t, f, 'd', 0);
        if (c->storage <= MOE_STORE_BOOL && varies && c->encoding != MOE_ENCODE_CATEGORY)
            add_thing(nv, t, f, 'x', 0);
        if (nulls < n && (nulls > 0 || c->hidden_bit >= 0))
            add_thing(nv, t, f, 'n', 0);
        if (c->storage == MOE_STORE_STRING || (c->storage == MOE_STORE_NUMBER && c->integral))
            add_codes(nv, t, f, n);
    }
}

static int64_t
row_time(const naive *nv, int t, int64_t row)
{
    return nv->db->times[t].time ? nv->db->times[t].time[row] : MOE_TIME_ALWAYS;
}

static int64_t
later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static double
value_of(const naive *nv, int t, const thing *x, int64_t row)
{
    const moe_column *c = &nv->db->tables[t].columns[x->column];

    if (x->kind == 'n')
        return missing(c, row);
    if (missing(c, row))
        return NAN;
    if (x->kind == 'c')
        return same(c, row, &nv->fit->tables[t].columns[x->column], x->code);
    if (x->kind == 'x')
        return c->number[row];
    return row_time(nv, t, row) == MOE_TIME_ALWAYS ? NAN : (double) (c->time[row] - row_time(nv, t, row)) / DAY;
}

static int
bit_of(const naive *nv, int t, const thing *x)
{
    return nv->db->tables[t].columns[x->column].hidden_bit;
}

static void
put(naive *nv, double value, const char *before, const char *subject, const char *after, const char *where)
{
    assert_true(nv->n < COLUMNS);
    if (!nv->named)
        snprintf(nv->names[nv->n], NAME, "%s%s%s%s", before, subject, after, where);
    nv->values[nv->n++] = value;
}

static const char *
span(const naive *nv, int windows, char *out)
{
    double days = (double) nv->window * windows / DAY;

    if (days < 2)
        sprintf(out, " over %.6g hours", days * 24);
    else
        sprintf(out, " over %.6g days", days);
    return out;
}

/* " (by k)" where two keys lead from a table to the same one. */
static const char *
by(const naive *nv, int k, char *out)
{
    int n = 0;

    for (int i = 0; i < nv->db->n_relations; i++)
        n += nv->db->relations[i].child == nv->db->relations[k].child &&
             nv->db->relations[i].parent == nv->db->relations[k].parent;
    out[0] = 0;
    if (n > 1)
        sprintf(out, " (by %s)", nv->db->relations[k].name);
    return out;
}

static int
compare_events(const void *left, const void *right)
{
    const event *a = left, *b = right;

    return a->time != b->time ? (a->time > b->time) - (a->time < b->time) : (a->row > b->row) - (a->row < b->row);
}

/* Visible events of an owner, in order. */
static int
find_events(const naive *nv, int key, int below, int bit, int32_t owner, event *events)
{
    const moe_relation *r = &nv->db->relations[key];
    int source = below < 0 ? r->child : nv->db->relations[below].child;
    int n = 0;

    for (int32_t row = 0; owner >= 0 && row < nv->db->tables[source].n_rows; row++)
    {
        int64_t time = row_time(nv, source, row);
        int32_t child = row;

        if (below >= 0)
        {
            child = nv->db->relations[below].parent_of[row];
            if (child < 0)
                continue;
            time = later(time, row_time(nv, r->child, child));
        }
        if (r->parent_of[child] != owner)
            continue;
        if (bit >= 0)
            time = later(time, nv->db->times[source].known_at[bit][row]);
        if (time <= nv->horizon)
            events[n++] = (event){time, row};
    }
    qsort(events, (size_t) n, sizeof(*events), compare_events);
    assert_true(n < EVENTS);
    return n;
}

/* Of an owner that a path leads to: the first of n events whose values count. */
static int
first_of_latest(int n, int at_least)
{
    return n < 2 * at_least ? 0 : (n / at_least - 1) * at_least;
}

enum
{
    CHILDREN,
    GRANDCHILDREN,
    HOP,
    TIMELESS
};

static void
put_counts(naive *nv, const series *s, int form, const char *subject, const char *where)
{
    char over[40];

    put(nv, series_count(s, 0), "count of ", subject, "", where);
    if (form == TIMELESS)
        return;
    put(nv, series_count(s, 12), "count of ", subject, span(nv, 12, over), where);
    if (form != GRANDCHILDREN)
        put(nv, series_days_since(s, true), "days since the last of ", subject, "", where);
    if (form == HOP)
        return;
    put(nv, series_count(s, 3), "count of ", subject, span(nv, 3, over), where);
    put(nv, series_count(s, 1), "count of ", subject, span(nv, 1, over), where);
    if (form == CHILDREN)
        put(nv, series_days_since(s, false), "days since the first of ", subject, "", where);
}

static void
put_values(naive *nv, const series *s, int form, const char *subject, const char *where)
{
    char over[40];

    put(nv, series_mean_or_sum(s, 0, true), "mean of ", subject, "", where);
    if (form == TIMELESS)
        return;
    put(nv, series_mean_or_sum(s, 12, true), "mean of ", subject, span(nv, 12, over), where);
    if (form == GRANDCHILDREN)
    {
        put(nv, series_mean_or_sum(s, 3, true), "mean of ", subject, span(nv, 3, over), where);
        for (int w = 1; w <= 12; w = w == 1 ? 3 : 4 * w)
            put(nv, series_mean_or_sum(s, w, false), "sum of ", subject, span(nv, w, over), where);
        return;
    }
    put(nv, series_exponential(s, 6), "exponential mean (half-life 6) of ", subject, "", where);
    put(nv, series_exponential(s, 20), "exponential mean (half-life 20) of ", subject, "", where);
    if (form == CHILDREN)
        put(nv, series_last(s), "last of ", subject, "", where);
}

static bool
in_stream(const naive *nv, int t, const thing *x, int bit)
{
    return x->kind != 'a' && bit_of(nv, t, x) == bit && !(x->kind == 'n' && bit >= 0);
}

static void
put_events(naive *nv, int key, int below, int32_t owner, bool hop, const char *where)
{
    const moe_relation *r = &nv->db->relations[key];
    int source = below < 0 ? r->child : nv->db->relations[below].child;
    char by1[40], by2[40], way[120] = "", subject[200];

    if (nv->fit_rows[source] == 0)
        return;
    if (below >= 0)
        sprintf(way, "%s through %s", by(nv, below, by2), nv->db->tables[r->child].name);
    strcat(way, by(nv, key, by1));
    for (int bit = -1; bit < 2; bit++)
    {
        static event events[EVENTS];
        static double x[EVENTS];
        series s = {0, events, x, owner >= 0, nv->horizon, nv->window};
        bool timed = bit >= 0 || nv->db->times[source].time || (below >= 0 && nv->db->times[r->child].time);
        int form = !timed ? TIMELESS : hop ? HOP : below >= 0 ? GRANDCHILDREN : CHILDREN;
        const char *known = NULL;

        for (int i = nv->n_things[source] - 1; i >= 0; i--)
            if (in_stream(nv, source, &nv->things[source][i], bit))
                known = nv->db->tables[source].columns[nv->things[source][i].column].name;
        if (bit >= 0 && !known)
            continue;
        s.n = find_events(nv, key, below, bit, owner, events);
        snprintf(subject, sizeof(subject), "%s%s%s%s%s", nv->db->tables[source].name, bit < 0 ? "" : " with ",
                 bit < 0 ? "" : known, bit < 0 ? "" : " known", way);
        put_counts(nv, &s, form, subject, where);
        for (int i = 0; i < nv->n_things[source]; i++)
        {
            if (!in_stream(nv, source, &nv->things[source][i], bit))
                continue;
            for (int e = 0; e < s.n; e++)
                x[e] = hop && e < first_of_latest(s.n, 1024)
                           ? NAN
                           : value_of(nv, source, &nv->things[source][i], events[e].row);
            snprintf(subject, sizeof(subject), "%s%s", nv->things[source][i].name, way);
            put_values(nv, &s, form, subject, where);
        }
    }
}

/* Rank and difference of a row among the latest 64 that share its other key and were there at its time. */
static void
compare(const naive *nv, int other, int t, const thing *x, int32_t row, double *rank, double *difference)
{
    const moe_relation *r = &nv->db->relations[other];
    double mine = value_of(nv, t, x, row), sum = 0, below = 0;
    int32_t parent = r->parent_of[row];
    int n = 0, seen = 0;

    *rank = *difference = NAN;
    if (parent < 0 || row_time(nv, r->parent, parent) > row_time(nv, t, row) || isnan(mine))
        return;
    for (int64_t i = nv->db->tables[t].n_rows - 1; i >= 0 && seen < 64; i--)
    {
        double theirs = value_of(nv, t, x, i);

        if (i == row || r->parent_of[i] != parent || row_time(nv, t, i) > row_time(nv, t, row))
            continue;
        seen++;
        if (isnan(theirs))
            continue;
        below += theirs < mine ? 1 : theirs == mine ? 0.5 : 0;
        sum += theirs;
        n++;
    }
    if (n == 0)
        return;
    *rank = below / n;
    *difference = mine - sum / n;
}

static void
put_siblings(naive *nv, int key, int32_t owner, bool hop, const char *where)
{
    const moe_relation *r = &nv->db->relations[key];
    int t = r->child;
    static event events[EVENTS];
    static double rank[EVENTS], difference[EVENTS];
    char by1[40], by2[40], subject[250];
    int n = find_events(nv, key, -1, -1, owner, events);

    for (int other = 0; other < nv->db->n_relations; other++)
        for (int i = 0; nv->fit_rows[t] > 0 && i < nv->n_things[t]; i++)
        {
            const thing *x = &nv->things[t][i];
            int form = !nv->db->times[t].time ? TIMELESS : hop ? HOP : CHILDREN;
            const char *parents = nv->db->tables[nv->db->relations[other].parent].name;

            if (other == key || nv->db->relations[other].child != t || x->kind != 'x' || bit_of(nv, t, x) >= 0)
                continue;
            for (int e = 0; e < n; e++)
                if (hop && e < first_of_latest(n, 256))
                    rank[e] = difference[e] = NAN;
                else
                    compare(nv, other, t, x, events[e].row, &rank[e], &difference[e]);
            snprintf(subject, sizeof(subject), "rank of %s%s among the same %s%s", x->name, by(nv, key, by1), parents,
                     by(nv, other, by2));
            put_values(nv, &(series){n, events, rank, owner >= 0, nv->horizon, nv->window}, form, subject, where);
            snprintf(subject, sizeof(subject), "%s%s less the mean of the same %s%s", x->name, by1, parents, by2);
            put_values(nv, &(series){n, events, difference, owner >= 0, nv->horizon, nv->window}, form, subject, where);
        }
}

/* Of a row's latest 64 fellows over `beyond`, those there at its time: 0 how many, 1 how many a day, 2 in 12 windows, 3
 * mean. */
static double
look_beyond(const naive *nv, int t, int other, int beyond, const thing *x, int32_t row, int what)
{
    const moe_relation *r = &nv->db->relations[beyond];
    int32_t partner = nv->db->relations[other].parent_of[row];
    int64_t time = row_time(nv, t, row), first = MOE_TIME_NEVER;
    double all = 0, timed = 0, within = 0, sum = 0, n = 0, seen = 0;

    if (partner < 0 || row_time(nv, r->parent, partner) > time)
        return NAN;
    for (int64_t i = nv->db->tables[r->child].n_rows - 1; i >= 0; i--)
    {
        int64_t theirs = row_time(nv, r->child, i);
        double value = x ? value_of(nv, r->child, x, i) : NAN;

        if (r->parent_of[i] != partner || theirs > time || (beyond == other && i == row))
            continue;
        all++;
        seen++;
        if (seen <= 64 && !isnan(value))
        {
            sum += value;
            n++;
        }
        if (theirs == MOE_TIME_ALWAYS)
            continue;
        timed++;
        within += time - theirs < 12 * nv->window;
        first = theirs < first ? theirs : first;
    }
    if (what == 1)
        return timed > 1 && time > first ? timed * DAY / (double) (time - first) : NAN;
    return what == 0 ? all : what == 2 ? within : n > 0 ? sum / n : NAN;
}

static void
put_partner(naive *nv, const series *s, bool timed, const char *subject)
{
    put(nv, series_mean_or_sum(s, 0, true), "mean of ", subject, "", "");
    if (!timed)
        return;
    put(nv, series_exponential(s, 6), "exponential mean (half-life 6) of ", subject, "", "");
    put(nv, series_mean_or_sum(s, 12, true), "mean of ", subject, span(nv, 12, (char[40]){0}), "");
}

static void
put_partners(naive *nv, int key, int32_t owner)
{
    const moe_relation *rs = nv->db->relations;
    int t = rs[key].child;
    bool timed = nv->db->times[t].time != NULL;
    static event events[EVENTS];
    static double x[EVENTS];
    int n = find_events(nv, key, -1, -1, owner, events);
    series s = {n, events, x, owner >= 0, nv->horizon, nv->window};

    for (int other = 0; other < nv->db->n_relations; other++)
    {
        int p = rs[other].parent;
        char by1[40], by2[40], by3[40], where[150], subject[300];

        if (other == key || rs[other].child != t || nv->fit_rows[t] == 0)
            continue;
        sprintf(where, " of the %s%s of %s%s", nv->db->tables[p].name, by(nv, other, by1), nv->db->tables[t].name,
                by(nv, key, by2));
        for (int i = 0; i < nv->n_things[p]; i++)
        {
            const thing *v = &nv->things[p][i];

            if (v->kind == 'd' || v->kind == 'a' || bit_of(nv, p, v) >= 0)
                continue;
            for (int e = 0; e < n; e++)
            {
                int32_t partner = rs[other].parent_of[events[e].row];

                x[e] = partner >= 0 && row_time(nv, p, partner) <= row_time(nv, t, events[e].row)
                           ? value_of(nv, p, v, partner)
                           : NAN;
            }
            snprintf(subject, sizeof(subject), "%s%s", v->name, where);
            put_partner(nv, &s, timed, subject);
        }
        for (int beyond = 0; beyond < nv->db->n_relations; beyond++)
        {
            static const char *const counts[] = {"the count of ", "the count a day of ", "the count of "};
            int u = rs[beyond].child;
            bool theirs = nv->db->times[u].time != NULL;

            if (rs[beyond].parent != p || nv->fit_rows[u] == 0 || (theirs && !timed))
                continue;
            for (int what = 0; what < (theirs ? 3 : 1); what++)
            {
                for (int e = 0; e < n; e++)
                    x[e] = look_beyond(nv, t, other, beyond, NULL, events[e].row, what);
                snprintf(subject, sizeof(subject), "%s%s%s%s%s%s", counts[what], nv->db->tables[u].name,
                         by(nv, beyond, by3), what == 2 ? " in " : "",
                         what == 2 ? span(nv, 12, (char[40]){0}) + strlen(" over ") : "", where);
                put_partner(nv, &s, timed, subject);
            }
            for (int i = 0; i < nv->n_things[u]; i++)
            {
                const thing *v = &nv->things[u][i];

                if (beyond == other || v->kind != 'x' || bit_of(nv, u, v) >= 0)
                    continue;
                for (int e = 0; e < n; e++)
                    x[e] = look_beyond(nv, t, other, beyond, v, events[e].row, 3);
                snprintf(subject, sizeof(subject), "the mean of %s%s%s", v->name, by3, where);
                put_partner(nv, &s, timed, subject);
            }
        }
    }
}

static void
put_own(naive *nv, int t, int32_t row, const char *where)
{
    bool seen = row >= 0 && row_time(nv, t, row) <= nv->horizon;

    for (int i = 0; i < nv->n_things[t]; i++)
    {
        const thing *x = &nv->things[t][i];
        const moe_column *c = &nv->db->tables[t].columns[x->column];
        double value = NAN;

        if (x->kind == 'd')
            continue;
        if (seen && c->hidden_bit >= 0 && nv->db->times[t].known_at[c->hidden_bit][row] > nv->horizon)
            value = x->kind == 'n' ? 1 : NAN;
        else if (seen && x->kind == 'a')
            value = missing(c, row) ? NAN : (double) (nv->time - c->time[row]) / DAY;
        else if (seen)
            value = value_of(nv, t, x, row);
        put(nv, value, "", x->name, "", where);
    }
}

static void
put_hop(naive *nv, int t, int32_t owner, const char *where)
{
    for (int k = 0; k < nv->db->n_relations; k++)
        if (nv->db->relations[k].parent == t)
        {
            put_events(nv, k, -1, owner, true, where);
            put_siblings(nv, k, owner, true, where);
        }
}

/* The row that a key of the seed's row leads to, if both are there. */
static int32_t
parent_by(const naive *nv, int k)
{
    int32_t parent = nv->db->relations[k].parent_of[nv->row];

    return parent >= 0 && row_time(nv, nv->entity, nv->row) <= nv->horizon &&
                   row_time(nv, nv->db->relations[k].parent, parent) <= nv->horizon
               ? parent
               : -1;
}

/* The row that the latest child's other key leads to; a child counts from when it and that row are there. */
static int32_t
latest_by(const naive *nv, int k, int other)
{
    const moe_relation *r = &nv->db->relations[k], *o = &nv->db->relations[other];
    int64_t best = MOE_TIME_ALWAYS;
    int32_t found = -1;

    for (int32_t row = 0; row < nv->db->tables[r->child].n_rows; row++)
    {
        int64_t time;

        if (r->parent_of[row] != nv->row || o->parent_of[row] < 0)
            continue;
        time = later(row_time(nv, r->child, row), row_time(nv, o->parent, o->parent_of[row]));
        if (time > nv->horizon || time < best)
            continue;
        best = time;
        found = o->parent_of[row];
    }
    return found;
}

static void
put_hops(naive *nv)
{
    const moe_relation *rs = nv->db->relations;
    char where[200], by1[40], by2[40];

    for (int k = 0; k < nv->db->n_relations; k++)
    {
        if (rs[k].child != nv->entity)
            continue;
        sprintf(where, ", of the %s%s of the row", nv->db->tables[rs[k].parent].name, by(nv, k, by1));
        if (nv->fit_rows[rs[k].parent] > 0)
            put_own(nv, rs[k].parent, parent_by(nv, k), where);
        put_hop(nv, rs[k].parent, parent_by(nv, k), where);
    }
    for (int k = 0; k < nv->db->n_relations; k++)
        for (int other = 0; rs[k].parent == nv->entity && other < nv->db->n_relations; other++)
        {
            if (other == k || rs[other].child != rs[k].child || nv->fit_rows[rs[k].child] == 0 ||
                !nv->db->times[rs[k].child].time)
                continue;
            sprintf(where, ", of the %s%s of the latest %s%s", nv->db->tables[rs[other].parent].name,
                    by(nv, other, by1), nv->db->tables[rs[k].child].name, by(nv, k, by2));
            put_hop(nv, rs[other].parent, latest_by(nv, k, other), where);
        }
}

void
naive_compute(naive *nv, int32_t row, int64_t time, int64_t horizon)
{
    const moe_relation *rs = nv->db->relations;
    double turn = 2 * 3.14159265358979323846 * (double) time / DAY / 365.2425;

    nv->row = row;
    nv->time = time;
    nv->horizon = horizon;
    nv->named = nv->n > 0;
    nv->n = 0;
    put(nv, sin(turn), "", "time of year, sine", "", "");
    put(nv, cos(turn), "", "time of year, cosine", "", "");
    put(nv, (double) (time - horizon) / DAY, "", "days since the horizon", "", "");
    put_own(nv, nv->entity, row, "");
    for (int k = 0; k < nv->db->n_relations; k++)
        if (rs[k].parent == nv->entity)
        {
            put_events(nv, k, -1, row, false, "");
            put_siblings(nv, k, row, false, "");
            put_partners(nv, k, row);
            for (int below = 0; below < nv->db->n_relations; below++)
                if (rs[below].parent == rs[k].child)
                    put_events(nv, k, below, row, false, "");
        }
    put_hops(nv);
}

naive *
make_naive(moe_job *job, const moe_relational *fit_db, const moe_relational *db, int entity, const int64_t *fit_rows,
           int64_t window)
{
    naive *nv = moe_alloc(job, 1, sizeof(*nv));

    assert_non_null(nv);
    *nv = (naive){.fit = fit_db, .db = db, .entity = entity, .fit_rows = fit_rows, .window = window};
    nv->names = moe_alloc(job, COLUMNS, NAME);
    assert_non_null(nv->names);
    for (int t = 0; t < db->n_tables; t++)
        find_things(nv, t);
    return nv;
}

int
naive_columns(const naive *nv)
{
    return nv->n;
}

const char *
naive_name(const naive *nv, int column)
{
    return nv->names[column];
}

double
naive_value(const naive *nv, int column)
{
    return nv->values[column];
}
