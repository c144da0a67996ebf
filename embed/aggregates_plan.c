/*
 * aggregates_plan.c: which columns there are, derived from what was fitted.
 *
 * First every part that the keys allow, family by family; then how many
 * columns each may have, where not all fit: families in order, and within one
 * a column for each part in turn, so that no table starves. Within a part,
 * what is about its events comes first, then one operation for all values
 * before the next.
 */
#include "embed/aggregates_plan.h"

#include <string.h>

const int moe_agg_window_spans[MOE_AGG_WINDOWS] = {1, 3, 12};

typedef struct step
{
    moe_agg_op op;
    int window;
} step;

typedef struct menu /* what is made of a part's events, and of each value */
{
    int n_events;
    step events[6];
    int n_values;
    step values[6];
} menu;

#define FAST                                                                                                           \
    {                                                                                                                  \
        MOE_AGG_FAST, 0                                                                                                \
    }
#define SLOW                                                                                                           \
    {                                                                                                                  \
        MOE_AGG_SLOW, 0                                                                                                \
    }
#define MEAN                                                                                                           \
    {                                                                                                                  \
        MOE_AGG_MEAN, 0                                                                                                \
    }
#define LAST                                                                                                           \
    {                                                                                                                  \
        MOE_AGG_LAST, 0                                                                                                \
    }
#define MEAN_3                                                                                                         \
    {                                                                                                                  \
        MOE_AGG_MEAN_WINDOW, 1                                                                                         \
    }
#define MEAN_12                                                                                                        \
    {                                                                                                                  \
        MOE_AGG_MEAN_WINDOW, 2                                                                                         \
    }
#define SUM_1                                                                                                          \
    {                                                                                                                  \
        MOE_AGG_SUM_WINDOW, 0                                                                                          \
    }
#define SUM_3                                                                                                          \
    {                                                                                                                  \
        MOE_AGG_SUM_WINDOW, 1                                                                                          \
    }
#define SUM_12                                                                                                         \
    {                                                                                                                  \
        MOE_AGG_SUM_WINDOW, 2                                                                                          \
    }
#define COUNT                                                                                                          \
    {                                                                                                                  \
        MOE_AGG_COUNT, 0                                                                                               \
    }
#define COUNT_1                                                                                                        \
    {                                                                                                                  \
        MOE_AGG_COUNT_WINDOW, 0                                                                                        \
    }
#define COUNT_3                                                                                                        \
    {                                                                                                                  \
        MOE_AGG_COUNT_WINDOW, 1                                                                                        \
    }
#define COUNT_12                                                                                                       \
    {                                                                                                                  \
        MOE_AGG_COUNT_WINDOW, 2                                                                                        \
    }
#define TO_LAST                                                                                                        \
    {                                                                                                                  \
        MOE_AGG_SINCE_LAST, 0                                                                                          \
    }
#define TO_FIRST                                                                                                       \
    {                                                                                                                  \
        MOE_AGG_SINCE_FIRST, 0                                                                                         \
    }

static const menu own_menu = {0, {}, 1, {{MOE_AGG_OWN, 0}}};
static const menu season_menu = {3, {{MOE_AGG_SINE, 0}, {MOE_AGG_COSINE, 0}, {MOE_AGG_LAG, 0}}, 0, {}};
static const menu children_menu = {
    6, {COUNT, COUNT_12, TO_LAST, COUNT_3, COUNT_1, TO_FIRST}, 5, {FAST, MEAN_12, MEAN, SLOW, LAST}};
static const menu grandchildren_menu = {
    4, {COUNT, COUNT_12, COUNT_3, COUNT_1}, 6, {MEAN_12, MEAN, SUM_12, MEAN_3, SUM_3, SUM_1}};
static const menu siblings_menu = {0, {}, 5, {FAST, MEAN_12, MEAN, SLOW, LAST}};
static const menu hop_children_menu = {3, {COUNT_12, COUNT, TO_LAST}, 4, {FAST, MEAN_12, MEAN, SLOW}};
static const menu hop_siblings_menu = {0, {}, 4, {FAST, MEAN_12, MEAN, SLOW}};
static const menu partners_menu = {0, {}, 3, {MEAN, FAST, MEAN_12}};
static const menu timeless_menu = {1, {COUNT}, 1, {MEAN}};
static const menu timeless_values_menu = {0, {}, 1, {MEAN}};

static const menu *
menu_of(const moe_aggregates *a, const moe_agg_part *part)
{
    const moe_agg_stream *stream = part->stream < 0 ? NULL : &a->streams[part->stream];
    bool hop = part->family == MOE_FAMILY_HOPS;

    if (part->kind == MOE_AGG_PART_OWN)
        return &own_menu;
    if (part->kind == MOE_AGG_PART_SEASON)
        return &season_menu;
    if (part->kind == MOE_AGG_PART_SIBLINGS)
        return !stream->timed ? &timeless_values_menu : hop ? &hop_siblings_menu : &siblings_menu;
    if (part->kind == MOE_AGG_PART_PARTNERS)
        return !stream->timed ? &timeless_values_menu : &partners_menu;
    if (!stream->timed)
        return &timeless_menu;
    return hop ? &hop_children_menu : stream->below >= 0 ? &grandchildren_menu : &children_menu;
}

int
moe_agg_part_table(const moe_aggregates *a, const moe_agg_part *part)
{
    if (part->kind == MOE_AGG_PART_PARTNERS)
        return part->beyond >= 0 ? a->keys[part->beyond].child : a->keys[part->other].parent;
    return part->stream >= 0 ? a->streams[part->stream].source : a->paths[part->path].owner;
}

const moe_agg_list *
moe_agg_part_values(const moe_aggregates *a, const moe_agg_part *part)
{
    const moe_agg_table *table = &a->tables[moe_agg_part_table(a, part)];

    if (part->kind == MOE_AGG_PART_SIBLINGS)
        return &table->lists[MOE_AGG_OF_SIBLINGS];
    if (part->kind == MOE_AGG_PART_PARTNERS)
        return &table->lists[part->beyond >= 0 ? MOE_AGG_OF_SIBLINGS : MOE_AGG_OF_PARTNERS];
    if (part->kind == MOE_AGG_PART_EVENTS)
        return &table->lists[MOE_AGG_OF_STREAM + 1 + a->streams[part->stream].bit];
    return &table->lists[MOE_AGG_OF_OWN];
}

const moe_agg_value *
moe_agg_value_of(const moe_aggregates *a, const moe_agg_column *column)
{
    const moe_agg_part *part = &a->parts[column->part];
    int at = part->kind == MOE_AGG_PART_SIBLINGS ? column->value / 2 : column->value - moe_agg_partner_counts(a, part);

    if (at < 0)
        return NULL;
    return &a->tables[moe_agg_part_table(a, part)].values[moe_agg_part_values(a, part)->value[at]];
}

int64_t
moe_agg_places(const moe_aggregates *a, const moe_agg_part *part)
{
    if (part->kind == MOE_AGG_PART_PARTNERS && part->beyond == part->other)
        return moe_agg_partner_counts(a, part); /* their values are what siblings are about */
    if (part->kind == MOE_AGG_PART_PARTNERS)
        return moe_agg_partner_counts(a, part) + moe_agg_part_values(a, part)->n;
    return (int64_t) moe_agg_part_values(a, part)->n * (part->kind == MOE_AGG_PART_SIBLINGS ? 2 : 1);
}

static bool
belongs(const moe_agg_field *field, const moe_agg_value *value, int list)
{
    if (list == MOE_AGG_OF_OWN)
        return value->kind != MOE_AGG_DAYS;
    if (list == MOE_AGG_OF_SIBLINGS)
        return value->kind == MOE_AGG_NUMBER && field->hidden_bit < 0;
    if (list == MOE_AGG_OF_PARTNERS)
        return value->kind != MOE_AGG_DAYS && value->kind != MOE_AGG_DATE && field->hidden_bit < 0;
    /* When a value is known, being NULL says little; and before, NULL and unknown must look alike. */
    return value->kind != MOE_AGG_DATE && !(value->kind == MOE_AGG_MISSING && field->hidden_bit >= 0) &&
           list == MOE_AGG_OF_STREAM + 1 + field->hidden_bit;
}

static moe_code
list_values(moe_job *job, moe_agg_table *table)
{
    int capacity = 0;

    for (int f = 0; f < table->n_fields; f++)
        capacity += MOE_AGG_CODE + (int) table->fields[f].codes.n;
    if (!(table->values = moe_alloc(job, capacity, sizeof(*table->values))))
        return moe_job_code(job);
    for (int f = 0; f < table->n_fields; f++)
    {
        for (int kind = 0; kind < MOE_AGG_CODE; kind++)
            if (table->fields[f].kinds >> kind & 1)
                table->values[table->n_values++] = (moe_agg_value){f, (moe_agg_kind) kind, 0};
        for (int code = 0; code < table->fields[f].codes.n; code++)
            table->values[table->n_values++] = (moe_agg_value){f, MOE_AGG_CODE, code};
    }
    for (int l = 0; l < MOE_AGG_LISTS; l++)
    {
        moe_agg_list *list = &table->lists[l];

        if (!(list->value = moe_alloc(job, table->n_values, sizeof(*list->value))))
            return moe_job_code(job);
        for (int v = 0; v < table->n_values; v++)
            if (belongs(&table->fields[table->values[v].field], &table->values[v], l))
                list->value[list->n++] = v;
    }
    return MOE_OK;
}

/* Room for one more; arrays grow by doubling. */
static bool
reserve(moe_job *job, void **array, int n, size_t size)
{
    void *grown;

    if (n > 0 && (n < 8 || (n & (n - 1)) != 0))
        return true;
    if (!(grown = moe_realloc(job, *array, n < 8 ? 8 : 2 * (int64_t) n, size)))
        return false;
    *array = grown;
    return true;
}

static int
add_path(moe_aggregates *a, moe_agg_path_kind kind, int key, int other)
{
    int owner = kind == MOE_AGG_SELF ? a->entity : a->keys[kind == MOE_AGG_KEY ? key : other].parent;

    for (int p = a->n_paths - 1; p >= 0; p--)
        if (a->paths[p].kind == kind && a->paths[p].key == key && a->paths[p].other == other)
            return p;
    if (!reserve(a->job, (void **) &a->paths, a->n_paths, sizeof(*a->paths)))
        return -1;
    a->paths[a->n_paths] = (moe_agg_path){.kind = kind, .key = key, .other = other, .owner = owner};
    if (kind == MOE_AGG_LATEST)
        a->paths[a->n_paths].children = (moe_agg_stream){
            .key = key, .below = -1, .beyond = other, .source = a->keys[key].child, .bit = -1, .timed = true};
    return a->n_paths++;
}

static bool
is_timed(const moe_aggregates *a, int key, int below, int bit)
{
    return bit >= 0 || a->tables[a->keys[key].child].timed || (below >= 0 && a->tables[a->keys[below].child].timed);
}

static int
add_stream(moe_aggregates *a, int key, int below, int bit)
{
    int source = a->keys[below >= 0 ? below : key].child;

    for (int s = 0; s < a->n_streams; s++)
        if (a->streams[s].key == key && a->streams[s].below == below && a->streams[s].bit == bit)
            return s;
    if (!reserve(a->job, (void **) &a->streams, a->n_streams, sizeof(*a->streams)))
        return -1;
    a->streams[a->n_streams] = (moe_agg_stream){
        .key = key, .below = below, .beyond = -1, .source = source, .bit = bit, .timed = is_timed(a, key, below, bit)};
    return a->n_streams++;
}

static void
add_part(moe_aggregates *a, moe_agg_part part)
{
    const menu *m;

    if (part.path < 0)
        return;
    m = menu_of(a, &part);
    part.wanted = m->n_events + m->n_values * moe_agg_places(a, &part);
    if (part.wanted == 0 || a->n_parts >= MOE_AGG_PARTS_MAX ||
        !reserve(a->job, (void **) &a->parts, a->n_parts, sizeof(*a->parts)))
        return;
    a->parts[a->n_parts++] = part;
}

/* Columns over a path's owner's children (or grandchildren): of values known with the row, then of each later group. */
static void
add_events(moe_aggregates *a, moe_aggregate_family family, int path, int key, int below)
{
    const moe_agg_table *source = &a->tables[a->keys[below >= 0 ? below : key].child];

    for (int bit = -1; source->filled && bit < MOE_HIDDEN_MAX; bit++)
    {
        int stream;

        if (bit >= 0 && source->lists[MOE_AGG_OF_STREAM + 1 + bit].n == 0)
            continue;
        if ((stream = add_stream(a, key, below, bit)) >= 0)
            add_part(a, (moe_agg_part){MOE_AGG_PART_EVENTS, family, path, stream, -1, -1, 0, 0, 0});
    }
}

static void
add_siblings(moe_aggregates *a, moe_aggregate_family family, int path, int key)
{
    int child = a->keys[key].child;

    for (int other = 0; a->tables[child].filled && other < a->n_keys; other++)
    {
        int stream;

        if (other != key && a->keys[other].child == child && (stream = add_stream(a, key, -1, -1)) >= 0)
            add_part(a, (moe_agg_part){MOE_AGG_PART_SIBLINGS, family, path, stream, other, -1, 0, 0, 0});
    }
}

static void
add_own(moe_aggregates *a, int self)
{
    add_part(a, (moe_agg_part){MOE_AGG_PART_OWN, MOE_FAMILY_OWN, self, -1, -1, -1, 0, 0, 0});
    for (int k = 0; k < a->n_keys; k++)
        if (a->keys[k].child == a->entity && a->tables[a->keys[k].parent].filled)
            add_part(a, (moe_agg_part){MOE_AGG_PART_OWN, MOE_FAMILY_OWN, add_path(a, MOE_AGG_KEY, k, -1), -1, -1, -1, 0,
                                       0, 0});
}

static void
add_children(moe_aggregates *a, int self)
{
    for (int k = 0; k < a->n_keys; k++)
        if (a->keys[k].parent == a->entity)
            add_events(a, MOE_FAMILY_CHILDREN, self, k, -1);
    for (int k = 0; k < a->n_keys; k++)
        for (int below = 0; a->keys[k].parent == a->entity && below < a->n_keys; below++)
            if (a->keys[below].parent == a->keys[k].child)
                add_events(a, MOE_FAMILY_CHILDREN, self, k, below);
}

/* Children and siblings of the row at a path's end. */
static void
add_hop(moe_aggregates *a, moe_agg_path_kind kind, int key, int other)
{
    int path = add_path(a, kind, key, other);

    for (int k = 0; path >= 0 && k < a->n_keys; k++)
        if (a->keys[k].parent == a->paths[path].owner)
        {
            add_events(a, MOE_FAMILY_HOPS, path, k, -1);
            add_siblings(a, MOE_FAMILY_HOPS, path, k);
        }
}

static void
add_hops(moe_aggregates *a)
{
    for (int k = 0; k < a->n_keys; k++)
        if (a->keys[k].child == a->entity)
            add_hop(a, MOE_AGG_KEY, k, -1);
    for (int k = 0; k < a->n_keys && a->n_parts < MOE_AGG_PARTS_MAX && moe_job_check(a->job) == MOE_OK; k++)
    {
        const moe_agg_table *child = &a->tables[a->keys[k].child];

        for (int other = 0; a->keys[k].parent == a->entity && child->filled && child->timed && other < a->n_keys;
             other++)
            if (other != k && a->keys[other].child == a->keys[k].child && a->n_parts < MOE_AGG_PARTS_MAX)
                add_hop(a, MOE_AGG_LATEST, k, other);
    }
}

/* What children over a key knew of the other rows they point at. */
static void
add_partners(moe_aggregates *a, int self, int key)
{
    const moe_agg_table *child = &a->tables[a->keys[key].child];

    for (int other = 0; child->filled && other < a->n_keys && a->n_parts < MOE_AGG_PARTS_MAX; other++)
    {
        int stream;

        if (other == key || a->keys[other].child != a->keys[key].child || (stream = add_stream(a, key, -1, -1)) < 0)
            continue;
        add_part(a, (moe_agg_part){MOE_AGG_PART_PARTNERS, MOE_FAMILY_PARTNERS, self, stream, other, -1, 0, 0, 0});
        for (int beyond = 0; beyond < a->n_keys; beyond++)
        {
            const moe_agg_table *source = &a->tables[a->keys[beyond].child];

            if (a->keys[beyond].parent == a->keys[other].parent && source->filled && (child->timed || !source->timed))
                add_part(a, (moe_agg_part){MOE_AGG_PART_PARTNERS, MOE_FAMILY_PARTNERS, self, stream, other, beyond, 0,
                                           0, 0});
        }
    }
}

/* How many columns each part gets. */
static void
share_columns(moe_aggregates *a)
{
    for (int begin = 0, end; begin < a->n_parts; begin = end)
    {
        bool more = true;

        for (end = begin; end < a->n_parts && a->parts[end].family == a->parts[begin].family;)
            end++;
        while (more && a->n_columns < a->max_columns)
        {
            more = false;
            for (int p = begin; p < end && a->n_columns < a->max_columns; p++)
                if (a->parts[p].n < a->parts[p].wanted)
                {
                    a->parts[p].n++;
                    a->n_columns++;
                    more = true;
                }
        }
    }
}

/* The part's column number i. */
static moe_agg_column
describe(const moe_aggregates *a, int part, int i)
{
    const menu *m = menu_of(a, &a->parts[part]);
    int64_t places = moe_agg_places(a, &a->parts[part]);
    const step *s = i < m->n_events ? &m->events[i] : &m->values[(i - m->n_events) / places];
    int value = i < m->n_events ? -1 : (int) ((i - m->n_events) % places);

    return (moe_agg_column){.part = part, .op = s->op, .window = s->window, .value = value};
}

static moe_code
place_columns(moe_aggregates *a)
{
    int at = 0;

    share_columns(a);
    if (!(a->columns = moe_alloc(a->job, a->n_columns, sizeof(*a->columns))))
        return moe_job_code(a->job);
    for (int p = 0; p < a->n_parts; p++)
    {
        a->parts[p].first = at;
        for (int i = 0; i < a->parts[p].n; i++, at++)
        {
            const moe_agg_value *value;

            a->columns[at] = describe(a, p, i);
            value = moe_agg_value_of(a, &a->columns[at]);
            if (value && value->kind == MOE_AGG_CODE)
                a->tables[moe_agg_part_table(a, &a->parts[p])].fields[value->field].coded = true;
        }
    }
    return MOE_OK;
}

moe_code
moe_agg_layout(moe_aggregates *a)
{
    int self;

    for (int t = 0; t < a->n_tables; t++)
        if (list_values(a->job, &a->tables[t]) != MOE_OK)
            return moe_job_code(a->job);
    if ((self = add_path(a, MOE_AGG_SELF, -1, -1)) < 0)
        return moe_job_code(a->job);
    add_own(a, self);
    add_part(a, (moe_agg_part){MOE_AGG_PART_SEASON, MOE_FAMILY_SEASON, self, -1, -1, -1, 0, 0, 0});
    add_children(a, self);
    for (int k = 0; k < a->n_keys; k++)
        if (a->keys[k].parent == a->entity)
            add_siblings(a, MOE_FAMILY_SIBLINGS, self, k);
    add_hops(a);
    for (int k = 0; k < a->n_keys; k++)
        if (a->keys[k].parent == a->entity)
            add_partners(a, self, k);
    if (moe_job_check(a->job) != MOE_OK || place_columns(a) != MOE_OK)
        return moe_job_code(a->job);
    return moe_agg_name_columns(a);
}
