/*
 * model_predictor.c: a stored model opened over today's tables.
 *
 * Opening reads the stored parameters, binds the stored schema to the catalog,
 * reads all its tables as the caller and builds graph, inputs and models. How
 * long that serves is model_cache.c's to say.
 *
 * Time: rows stand in canonical order with the row time first, and columns are
 * encoded by stored statistics, so rows later than a horizon cannot change a
 * prediction in any bit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/model_catalog.h"
#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "kernels/blas.h"

void
moe_predictor_check_stored(const moe_predictor *predictor, moe_code code)
{
    const char *name = get_rel_name(predictor->info->foreign_table);

    if (code == MOE_CORRUPT)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the stored parameters of model \"%s\" are damaged", name),
                 errdetail("Reading them failed: %s.", pstrdup(moe_job_error(predictor->job))),
                 errhint("REFRESH MODEL %s trains it again.", quote_identifier(name))));
    moe_check(predictor->job, code);
}

static void
check_record(const moe_predictor *predictor, const moe_stored *stored)
{
    const moe_model_info *info = predictor->info;

    if (stored->model.task != info->task || stored->model.n_classes != info->n_classes ||
        stored->members != info->ensembles)
        moe_predictor_check_stored(
            predictor,
            moe_fail(predictor->job, MOE_CORRUPT, "the stored configuration does not match the row of moe_ml.model"));
}

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

/* Members of the graph expert, as far as they do not depend on rows. */
static void
load_members(moe_predictor *predictor, moe_stored *stored)
{
    struct moe_predictor_parts *parts = predictor->parts;

    parts->features = stored->features;
    parts->encoder = stored->encoder;
    parts->config = stored->model;
    parts->n_members = stored->members;
    parts->member = palloc0(sizeof(moe_member) * Max(parts->n_members, 1));
    for (int i = 0; i < parts->n_members; i++)
        moe_predictor_check_stored(predictor, moe_store_next(predictor->job, stored, &parts->member[i]));
}

/* The mixture, whose inputs and members are there. */
static void
load_mixture(moe_predictor *predictor, moe_stored *stored)
{
    struct moe_predictor_parts *parts = predictor->parts;
    bool graph = false;

    moe_predictor_check_stored(predictor, moe_store_mixture(predictor->job, stored));
    predictor->mixture = parts->mixture = stored->mixture;
    for (int e = 0; e < moe_mixture_experts(stored->mixture); e++)
        graph |= moe_mixture_kind(stored->mixture, e) == MOE_EXPERT_GRAPH;
    if (graph != (parts->n_members > 0) || moe_mixture_experts(stored->mixture) != predictor->info->experts)
        moe_predictor_check_stored(predictor, moe_fail(predictor->job, MOE_CORRUPT,
                                                       "the stored experts do not match the row of moe_ml.model"));
    moe_mixture_connect(parts->mixture, moe_inputs_compute, parts->inputs, moe_predictor_ask_graph, parts);
}

void
moe_predictor_load(moe_predictor *predictor, Oid relid)
{
    struct moe_predictor_parts *parts = palloc0(sizeof(*parts));
    Snapshot snapshot = moe_catalog_snapshot();
    moe_model_record *record = moe_model_load_record(relid, snapshot);
    moe_stored stored = {0};
    uint8 *bytes;
    int64 length;

    parts->user = GetUserId();
    predictor->info = &record->info;
    predictor->parts = parts;
    parts->version = moe_catalog_version(&record->info.id, snapshot);
    bytes = moe_catalog_read_parameters(&record->info.id, snapshot, &length);
    UnregisterSnapshot(snapshot);
    predictor->job = moe_job_in_context(CurrentMemoryContext);
    moe_predictor_check_stored(predictor, moe_store_open(predictor->job, bytes, length, &stored));
    check_record(predictor, &stored);
    parts->schema_length = stored.schema.length;
    parts->schema_bytes = palloc(Max(stored.schema.length, 1));
    memcpy(parts->schema_bytes, stored.schema.data, stored.schema.length);
    parts->inputs = predictor->inputs = stored.inputs;
    parts->kept = stored.kept;
    load_members(predictor, &stored);
    load_mixture(predictor, &stored);
    pfree(bytes);
    moe_check(predictor->job, moe_blas_open(predictor->job));
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

bool
moe_predictor_is_of(const moe_predictor *predictor, const pg_uuid_t *id, uint64 version)
{
    return memcmp(&predictor->info->id, id, sizeof(*id)) == 0 && predictor->parts->version == version;
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

/* A job may use of the memory limit what others leave. */
static void
leave_limit(moe_job *job, size_t used)
{
    size_t limit = (size_t) moe_setting_memory_limit_mb * 1024 * 1024;

    moe_job_set_memory_limit(job, used < limit ? limit - used : 1);
}

static void
share_limit(moe_job *job, const moe_job *other)
{
    leave_limit(job, moe_job_memory_used(other));
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
    share_limit(predictor->job, data->job);
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
        moe_predictor_check_stored(predictor, moe_features_bind(parts->features, data->tables, data->n_tables));
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
    share_limit(job, predictor->job);
    predictor->data = moe_data_read(predictor->schema, job);
    build_graph(predictor);
    finish_reading(predictor, start);
    MemoryContextSwitchTo(old);
}

/* What a predictor takes of the memory limit. */
static size_t
memory_used(const moe_predictor *predictor)
{
    return moe_job_memory_used(predictor->job) + moe_job_memory_used(predictor->data->job);
}

moe_job *
moe_predictor_job_beside(const moe_predictor *predictor)
{
    moe_job *job = moe_job_of_threads(CurrentMemoryContext, 1);

    leave_limit(job, memory_used(predictor));
    return job;
}

moe_predictor *
moe_predictor_excerpt(const moe_predictor *of, moe_job *job, const moe_row_list *lists, int64 time)
{
    moe_predictor *predictor = palloc0_object(moe_predictor);
    int64 newest = moe_graph_newest(of->parts->graph, time);

    predictor->context = CurrentMemoryContext;
    moe_predictor_load(predictor, of->info->foreign_table);
    if (!moe_predictor_is_of(predictor, &of->info->id, of->parts->version))
        ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                        errmsg("model \"%s\" was trained again meanwhile", get_rel_name(of->info->foreign_table)),
                        errhint("Run the statement again.")));
    leave_limit(job, memory_used(of) + moe_job_memory_used(predictor->job));
    predictor->schema = of->schema;
    predictor->data = moe_data_excerpt(of->data, job, lists);
    build_graph(predictor);
    leave_limit(predictor->job, memory_used(of) + moe_job_memory_used(job));
    moe_check(job, moe_graph_tell_newest(predictor->parts->graph, time, newest));
    bind_rows(predictor);
    return predictor;
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

    share_limit(job, predictor->job);
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

        share_limit(job, predictor->job);
        predictor->data = moe_data_read_entities(predictor->schema, job);
        all.n_key = 0;
    }
    finish_part(predictor, &all, newest, start);
    predictor->early = true;
    MemoryContextSwitchTo(old);
    pfree(reach);
}

void
moe_predictor_rest(moe_predictor *predictor)
{
    moe_job_rest(predictor->job);
    if (predictor->data != NULL)
        moe_job_rest(predictor->data->job);
}

void
moe_predictor_renew(moe_predictor *predictor)
{
    struct moe_predictor_parts *parts = predictor->parts;

    predictor->kept = true;
    if (predictor->rows_read != NULL)
        memset(predictor->rows_read, 0, sizeof(int64) * parts->n_tables);
    predictor->looked_up = 0;
    parts->too_many = false;
    predictor->read_seconds = predictor->build_seconds = 0;
    parts->has_population = parts->has_population && parts->settled_population;
    parts->has_past = parts->has_past && parts->settled_past;
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
