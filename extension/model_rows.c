/*
 * model_rows.c: a model over rows: all of today's tables, those around one key, or an excerpt of what was read.
 *
 * The stored schema is bound to the catalog, rows are read as the caller, and
 * graph, inputs and members are built over them. How long that serves is
 * model_cache.c's to say.
 *
 * Time: rows stand in canonical order with the row time first, and columns are
 * encoded by stored statistics, so rows later than a horizon cannot change a
 * prediction in any bit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"

/* The stored features must have the columns that the reader delivers. */
static void
check_features(const moe_predictor *predictor)
{
    const moe_features *features = predictor->parts->features;
    const moe_data *data = predictor->data;
    bool same = moe_features_tables(features) == data->n_tables;

    for (int t = 0; same && t < data->n_tables; t++)
        same = moe_features_columns(features, t) == data->tables[t].n_columns;
    if (!same)
        moe_predictor_check_stored(
            predictor, moe_fail(predictor->job, MOE_CORRUPT, "the stored columns do not match the stored schema"));
}

/* Which of what the model's queries give may serve later statements. */
static void
judge_queries(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;
    const moe_model_info *info = predictor->info;
    Oid types[] = {predictor->schema->time_type, INT4OID, INT4OID};

    parts->settled_population =
        info->population == NULL || moe_settled_query(info->population, 1, types, info->search_path);
    parts->settled_past =
        info->history_query == NULL || moe_settled_query(info->history_query, 3, types, info->search_path);
}

void
moe_predictor_forget(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;

    for (int i = 0; i < parts->n_members; i++)
    {
        moe_model_destroy(parts->member[i].model);
        moe_encoder_destroy(parts->member[i].encoder);
        parts->member[i].model = NULL;
        parts->member[i].encoder = NULL;
    }
    parts->graph = NULL;
    parts->names = NULL;
    parts->population = NULL;
    parts->told = (moe_past_labels){0};
    parts->has_population = parts->has_past = false;
    predictor->schema = NULL;
    predictor->data = NULL;
    predictor->only = NULL;
    predictor->early = false;
    if (parts->rows != NULL)
        MemoryContextDelete(parts->rows); /* and the job of the data, the graph with it */
    parts->rows = NULL;
}

/* A job may use of the memory limit what the predictor leaves. */
static void
share_limit(const moe_predictor *predictor, moe_job *job)
{
    moe_job_set_memory_elsewhere(job, moe_predictor_memory_used(predictor));
}

/* Bind the stored schema to the catalog, for as long as there are rows. */
static void
read_schema(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;
    moe_job *job = moe_job_of_threads(parts->rows, 1);
    moe_reader reader;

    moe_reader_init(&reader, job, parts->schema_bytes, parts->schema_length);
    predictor->schema = moe_schema_read(&reader, get_rel_name(predictor->info->foreign_table));
    if (moe_reader_code(&reader) != MOE_OK)
        moe_predictor_check_stored(predictor,
                                   moe_fail(predictor->job, moe_reader_code(&reader), "%s", moe_job_error(job)));
}

/* The graph over what was read. */
static void
build_graph(moe_predictor *predictor)
{
    const moe_data *data = predictor->data;

    moe_check(data->job, moe_graph_create(data->job, data->graph_tables, data->n_tables, data->graph_keys,
                                          data->n_edges, &predictor->parts->graph));
    moe_job_set_memory_elsewhere(predictor->job,
                                 moe_predictor_memory_used(predictor) - moe_job_memory_used(predictor->job));
}

/* Add to what this statement has read. */
static void
count_rows(moe_predictor *predictor)
{
    const moe_data *data = predictor->data;

    if (predictor->rows_read == NULL)
        predictor->rows_read = MemoryContextAllocZero(predictor->context, sizeof(int64) * data->n_tables);
    predictor->parts->n_tables = data->n_tables;
    for (int t = 0; t < data->n_tables; t++)
        predictor->rows_read[t] += data->tables[t].n_rows;
    if (predictor->only != NULL)
        predictor->looked_up += data->rows_read;
    predictor->kept = false;
}

/* Inputs and members over the rows. */
static void
bind_rows(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;
    const moe_data *data = predictor->data;

    moe_inputs_bind(parts->inputs, data, parts->graph);
    if (!moe_inputs_can_pick(parts->inputs, parts->config.seed_inputs))
        moe_predictor_check_stored(
            predictor, moe_fail(predictor->job, MOE_CORRUPT, "the stored network does not fit the stored inputs"));
    if (parts->n_members > 0)
    {
        check_features(predictor);
        moe_predictor_check_stored(predictor,
                                   moe_features_bind_as_asked(parts->features, data->tables, data->n_tables));
    }
    for (int i = 0; i < parts->n_members; i++)
        moe_predictor_check_stored(
            predictor, moe_member_build(predictor->job, parts->graph, parts->features, &parts->encoder, &parts->config,
                                        moe_predictor_seed_inputs, parts, i + 1, &parts->member[i]));
}

/* Let go of the rows there are; those to come live in the context that becomes current. */
static MemoryContext
begin_reading(moe_predictor *predictor)
{
    moe_predictor_forget(predictor);
    predictor->parts->rows = AllocSetContextCreate(predictor->context, "moe_ml rows", ALLOCSET_DEFAULT_SIZES);
    return MemoryContextSwitchTo(predictor->parts->rows);
}

/* Put the model over what was read since `start`. */
static void
finish_reading(moe_predictor *predictor, double start)
{
    double read = moe_seconds();

    predictor->read_seconds += read - start;
    bind_rows(predictor);
    judge_queries(predictor);
    count_rows(predictor);
    predictor->build_seconds += moe_seconds() - read;
}

void
moe_predictor_read(moe_predictor *predictor)
{
    double start = moe_seconds();
    MemoryContext old = begin_reading(predictor);
    moe_job *job;

    read_schema(predictor);
    job = moe_job_in_context(predictor->parts->rows);
    share_limit(predictor, job);
    predictor->data = moe_data_read(predictor->schema, job);
    build_graph(predictor);
    finish_reading(predictor, start);
    MemoryContextSwitchTo(old);
}

moe_job *
moe_predictor_job_beside(const moe_predictor *predictor)
{
    moe_job *job = moe_job_of_threads(CurrentMemoryContext, 1);

    share_limit(predictor, job);
    return job;
}

/* The same model once more, without rows; it lives as long as the other. */
static moe_predictor *
load_twin(const moe_predictor *of)
{
    MemoryContext context = AllocSetContextCreate(of->context, "moe_ml predictor of excerpts", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    moe_predictor *twin = palloc0_object(moe_predictor);

    twin->context = context;
    moe_predictor_load(twin, of->info->foreign_table);
    if (!moe_predictor_is_of(twin, &of->info->id, of->parts->version))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("model \"%s\" was trained again meanwhile", get_rel_name(of->info->foreign_table)),
                        errhint("Run the statement again.")));
    MemoryContextSwitchTo(old);
    return twin;
}

moe_predictor *
moe_predictor_excerpt(const moe_predictor *of, moe_job *job, const moe_row_list *lists, int64 time)
{
    moe_predictor *twin = of->parts->twin != NULL ? of->parts->twin : load_twin(of);
    int64 newest = moe_graph_newest(of->parts->graph, time);

    of->parts->twin = NULL;
    moe_job_set_memory_elsewhere(job, moe_predictor_memory_used(of) + moe_job_memory_used(twin->job));
    twin->schema = of->schema;
    twin->data = moe_data_excerpt(of->data, job, lists);
    build_graph(twin);
    moe_job_set_memory_elsewhere(twin->job, moe_predictor_memory_used(of) + moe_job_memory_used(job));
    moe_check(job, moe_graph_tell_newest(twin->parts->graph, time, newest));
    bind_rows(twin);
    return twin;
}

void
moe_predictor_excerpt_end(const moe_predictor *of, moe_predictor *excerpt)
{
    moe_predictor_forget(excerpt);
    moe_predictor_rest(excerpt);
    if (of->parts->twin == NULL)
        of->parts->twin = excerpt;
    else
        MemoryContextDelete(excerpt->context);
}

/* Now, on the axis of row times. */
static int64
present(const moe_schema *schema)
{
    int64 now = GetCurrentTransactionStartTimestamp();

    if (schema->time_type != TIMESTAMPTZOID)
        now = DatumGetTimestamp(DirectFunctionCall1(timestamptz_timestamp, TimestampTzGetDatum(now)));
    return now;
}

/* A copy of the key that lives as long as the rows. */
static Datum *
copy_key(const moe_schema *schema, const Datum *key)
{
    Datum *copy = palloc(sizeof(Datum) * schema->n_key);

    for (int i = 0; i < schema->n_key; i++)
    {
        int16 length;
        bool by_value;

        get_typlenbyval(schema->tables[0].columns[schema->key[i]].type, &length, &by_value);
        copy[i] = datumCopy(key[i], by_value, length);
    }
    return copy;
}

/* The newest row time that counts for what is asked, kept as the default time where that is wanted. */
static int64
find_newest(moe_predictor *predictor, const moe_asked *asked)
{
    int64 now = present(predictor->schema);
    int64 newest = moe_schema_newest(predictor->schema, asked->has_time ? asked->time : now);

    predictor->parts->default_time = asked->has_time ? asked->time : newest == MOE_TIME_ALWAYS ? now : newest;
    return newest;
}

/* Look up the rows around one; NULL if they are too many. */
static moe_data *
look_up(moe_predictor *predictor, const moe_asked *asked, const moe_reach *reach, int64 most_rows, int64 newest)
{
    int64 time = predictor->parts->default_time;
    moe_job *job = moe_job_of_threads(predictor->parts->rows, 1);
    moe_around around = {.key = asked->key, .reach = reach, .most_rows = most_rows};

    share_limit(predictor, job);
    around.moment =
        moe_inputs_look_back_from(predictor->parts->inputs, time, newest == MOE_TIME_ALWAYS ? time : newest);
    return moe_data_read_around(predictor->schema, job, &around);
}

/* Put the model over a part of the rows. */
static void
finish_part(moe_predictor *predictor, const moe_asked *asked, int64 newest, double start)
{
    struct moe_predictor_parts *parts = predictor->parts;

    predictor->only = asked->n_key > 0 ? copy_key(predictor->schema, asked->key) : NULL;
    build_graph(predictor);
    moe_check(predictor->data->job, moe_graph_tell_newest(parts->graph, parts->default_time, newest));
    finish_reading(predictor, start);
}

bool
moe_predictor_read_around(moe_predictor *predictor, const moe_asked *asked)
{
    struct moe_predictor_parts *parts = predictor->parts;
    double start = moe_seconds();
    moe_reach *reach = palloc(sizeof(moe_reach));
    MemoryContext old = begin_reading(predictor);
    int hops = parts->n_members > 0 ? parts->config.hops : 0;
    int64 most = 0;
    int64 newest = MOE_TIME_ALWAYS;

    read_schema(predictor);
    if (asked->n_key == predictor->schema->n_key && !parts->too_many &&
        moe_reach_of(predictor->schema, hops, parts->inputs, reach))
        most = moe_reach_most_rows(predictor->schema, reach, get_rel_name(predictor->info->foreign_table));
    if (most > 0)
    {
        newest = find_newest(predictor, asked);
        predictor->data = look_up(predictor, asked, reach, most, newest);
        parts->too_many = predictor->data == NULL;
    }
    if (predictor->data != NULL)
        finish_part(predictor, asked, newest, start);
    MemoryContextSwitchTo(old);
    pfree(reach);
    return predictor->data != NULL;
}

void
moe_predictor_read_entities(moe_predictor *predictor, const moe_asked *asked)
{
    double start = moe_seconds();
    moe_reach *reach = palloc0(sizeof(moe_reach));
    MemoryContext old = begin_reading(predictor);
    moe_asked all = *asked;
    int64 newest;

    read_schema(predictor);
    newest = find_newest(predictor, asked);
    if (asked->n_key == predictor->schema->n_key && moe_reach_is_possible(predictor->schema))
        predictor->data = look_up(predictor, asked, reach, PG_INT32_MAX, newest);
    if (predictor->data == NULL)
    {
        moe_job *job = moe_job_in_context(predictor->parts->rows);

        share_limit(predictor, job);
        predictor->data = moe_data_read_entities(predictor->schema, job);
        all.n_key = 0;
    }
    finish_part(predictor, &all, newest, start);
    predictor->early = true;
    MemoryContextSwitchTo(old);
    pfree(reach);
}

int64
moe_predictor_default_time(moe_predictor *predictor)
{
    int64 now = present(predictor->schema);
    int64 newest = MOE_TIME_ALWAYS;

    if (predictor->only != NULL || predictor->early)
        return predictor->parts->default_time;
    for (int t = 0; t < predictor->data->n_tables; t++)
    {
        const moe_graph_table *table = &predictor->data->graph_tables[t];
        int64 n = moe_graph_visible_rows(table, now);

        if (table->time != NULL && n > 0)
            newest = Max(newest, table->time[n - 1]);
    }
    return newest == MOE_TIME_ALWAYS ? now : newest;
}
