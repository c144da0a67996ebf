/*
 * model_train.c: the way from a CREATE MODEL statement to parameters.
 *
 * Options, schema, labels as SQL; then all tables and the labels are read
 * under one snapshot; column statistics are fitted on the rows that were
 * visible at the last training seed time; then each member of the ensemble is
 * trained, one short step at a time, and written to the store. A given seed
 * gives the same bytes, whatever the threads and the physical order of rows.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/namespace.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "extension/device.h"
#include "extension/model_options.h"
#include "extension/model_train_internal.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "kernels/blas.h"
#include "kernels/random.h"

typedef moe_train_run run;

static const char *const metric_names[] = {"auroc", "mae", "accuracy"};

const char *
moe_train_metric(moe_task_type task)
{
    return metric_names[task];
}

void
moe_train_phase(moe_phase phase, const char *expert)
{
    InvalidateCatalogSnapshotConditionally();
    moe_progress_phase(phase, expert);
}

/* Raise for a table that does not exist, with the nearest name. */
static void
unknown_table(const RangeVar *name)
{
    const char *nearest = NULL;
    const char **names;
    StringInfoData sql;

    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_class c"
                                 " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')");
    if (name->schemaname)
        appendStringInfo(&sql,
                         " AND c.relnamespace::pg_catalog.regnamespace::pg_catalog.text"
                         " OPERATOR(pg_catalog.=) %s",
                         quote_literal_cstr(quote_identifier(name->schemaname)));
    else
        appendStringInfoString(&sql, " AND pg_catalog.pg_table_is_visible(c.oid)"
                                     " AND c.relnamespace OPERATOR(pg_catalog.<>) 'pg_catalog'::regnamespace");
    SPI_connect();
    if (SPI_execute(sql.data, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not list tables");
    names = palloc(sizeof(char *) * Max(SPI_processed, 1));
    for (uint64 i = 0; i < SPI_processed; i++)
        names[i] = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
    nearest = moe_nearest_name(name->relname, names, (int) SPI_processed);
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table \"%s\" does not exist", name->relname),
                    nearest ? errhint("Did you mean \"%s\"?", nearest)
                            : errhint("Name a table that is on the search_path, or write schema.table."),
                    moe_statement_position(name->location)));
}

static Oid
resolve_table(const RangeVar *name)
{
    Oid relid = RangeVarGetRelid(name, AccessShareLock, true);

    if (!OidIsValid(relid))
        unknown_table(name);
    return relid;
}

moe_schema *
moe_model_discover(const moe_statement *statement, const moe_model_options *options, bool quiet)
{
    moe_schema_request request = {0};
    ListCell *lc;

    request.entity = resolve_table(statement->entity);
    request.entity_key = statement->entity_key;
    foreach (lc, statement->using_tables)
        request.using_tables = lappend_oid(request.using_tables, resolve_table(lfirst(lc)));
    request.time_columns = options->time_column_names;
    request.ignored_columns = options->ignored_column_names;
    request.target = moe_label_query_static_target(statement, request.entity);
    request.quiet = quiet;
    return moe_schema_discover(&request);
}

/* The schemas that names were looked up in, as a value for search_path. */
static char *
current_path(void)
{
    StringInfoData path;
    ListCell *lc;

    initStringInfo(&path);
    foreach (lc, fetch_search_path(false))
    {
        char *schema = get_namespace_name(lfirst_oid(lc));

        if (schema != NULL)
            appendStringInfo(&path, "%s%s", path.len ? ", " : "", quote_identifier(schema));
    }
    return path.data;
}

/* Rows of each table that are visible at a time: a prefix in canonical order. */
static int64 *
visible_rows(const moe_data *data, int64 time)
{
    int64 *rows = palloc(sizeof(int64) * data->n_tables);

    for (int t = 0; t < data->n_tables; t++)
        rows[t] = moe_graph_visible_rows(&data->graph_tables[t], time);
    return rows;
}

/* The tables as they were known at a time: values of late columns that were not yet are NULL. */
static moe_table *
known_tables(const moe_data *data, int64 time)
{
    moe_table *tables = palloc(sizeof(moe_table) * data->n_tables);

    for (int t = 0; t < data->n_tables; t++)
    {
        int64 n = data->tables[t].n_rows;
        moe_column *columns = palloc(sizeof(moe_column) * Max(data->tables[t].n_columns, 1));

        tables[t] = data->tables[t];
        tables[t].columns = columns;
        for (int c = 0; c < tables[t].n_columns; c++)
        {
            const int64 *known_at;
            uint8 *null;

            columns[c] = data->tables[t].columns[c];
            if (columns[c].hidden_bit < 0)
                continue;
            known_at = data->graph_tables[t].known_at[columns[c].hidden_bit];
            null = MemoryContextAllocHuge(CurrentMemoryContext, Max(n, 1));
            for (int64 row = 0; row < n; row++)
                null[row] = known_at[row] > time || (columns[c].null != NULL && columns[c].null[row]);
            columns[c].null = null;
        }
    }
    return tables;
}

static void
report_data(const run *r)
{
    const moe_data *data = r->data;

    moe_notice("read " INT64_FORMAT " rows of %d tables in %.1f s", data->rows_read, data->n_tables, r->read_seconds);
    for (int e = 0; e < data->n_edges; e++)
    {
        const moe_schema_edge *edge = &data->schema->edges[e];

        if (data->reports[e].dangling > 0)
            moe_notice(INT64_FORMAT " rows of table \"%s\" refer to no row of table \"%s\" by foreign key \"%s\"",
                       data->reports[e].dangling, data->schema->tables[edge->child].name,
                       data->schema->tables[edge->parent].name, edge->name);
    }
    for (int t = 0; t < data->n_tables; t++)
    {
        if (data->not_finite[t] > 0)
            moe_notice(INT64_FORMAT " infinite or NaN values of table \"%s\" count as null", data->not_finite[t],
                       data->schema->tables[t].name);
    }
}

static void
read_all(run *r, const moe_statement *statement, const moe_schema *schema)
{
    moe_training *result = r->result;
    moe_label_query *query = moe_label_query_compile(statement, schema, &r->options->labels);
    double start = moe_seconds();

    moe_progress_phase(MOE_PHASE_READING, NULL);
    r->data = moe_data_read(schema, r->job);
    r->read_seconds = moe_seconds() - start - r->data->link_seconds;
    report_data(r);

    start = moe_seconds();
    moe_progress_phase(MOE_PHASE_LABELS, NULL);
    r->labels = moe_labels_read(query, r->data);
    r->label_seconds = moe_seconds() - start;
    moe_notice("labels (%s): " INT64_FORMAT " training, " INT64_FORMAT " validation, " INT64_FORMAT " test in %.1f s",
               moe_model_task_name(r->labels->task), r->labels->rows[0], r->labels->rows[1], r->labels->rows[2],
               r->label_seconds);

    result->record.info.training_query = query->sql;
    result->record.info.population = query->population;
    result->record.info.history_query = query->history;
    result->record.info.is_static = query->is_static;
    result->record.info.validation_from = query->validation_from;
    result->record.info.test_from = query->test_from;
}

/* Inputs of the graph expert's encoders. */
static void
fit_features(run *r)
{
    double start = moe_seconds();

    moe_check(r->job, moe_features_fit(r->job, r->known, r->data->n_tables, r->known_rows, &r->features));
    moe_check(r->job, moe_features_bind(r->features, r->data->tables, r->data->n_tables));
    r->feature_seconds = moe_seconds() - start;
}

static void
build_graph(run *r)
{
    int64 last = r->labels->last_train_time;
    double start = moe_seconds();
    int64 edges = 0;

    moe_progress_phase(MOE_PHASE_GRAPH, NULL);
    moe_check(r->job, moe_blas_open(r->job));
    moe_check(r->job, moe_graph_create(r->job, r->data->graph_tables, r->data->n_tables, r->data->graph_keys,
                                       r->data->n_edges, &r->graph));
    r->graph_seconds = r->data->link_seconds + moe_seconds() - start;
    r->known = known_tables(r->data, last);
    r->known_rows = visible_rows(r->data, last);
    if (r->options->experts & 1u << MOE_EXPERT_GRAPH)
        fit_features(r);
    for (int e = 0; e < r->data->n_edges; e++)
        edges += r->data->reports[e].rows - r->data->reports[e].nulls - r->data->reports[e].dangling;
    moe_notice("graph: %d foreign keys, " INT64_FORMAT " edges in %.1f s", r->data->n_edges, edges, r->graph_seconds);
}

/* The options' configuration, completed by what the labels say. */
static void
configure(run *r)
{
    moe_model_config *config = &r->options->model;

    config->task = r->labels->task;
    config->n_classes = r->labels->n_classes;
    config->staleness = moe_graph_staleness(r->graph, r->labels->train.time, r->labels->train.n);
    if (config->task != MOE_REGRESSION)
        return;
    config->shift = r->labels->shift;
    config->scale = r->labels->scale;
    config->low = r->labels->low;
    config->high = r->labels->high;
}

static bool
same_features(const moe_features *a, const moe_features *b)
{
    if (moe_features_tables(a) != moe_features_tables(b))
        return false;
    for (int t = 0; t < moe_features_tables(a); t++)
    {
        if (moe_features_columns(a, t) != moe_features_columns(b, t))
            return false;
        for (int c = 0; c < moe_features_columns(a, t); c++)
        {
            if (strcmp(moe_features_describe(a, t, c), moe_features_describe(b, t, c)) != 0)
                return false;
        }
    }
    return true;
}

static bool
same_task(const run *r, const moe_model_info *previous)
{
    if (previous->task != r->labels->task || previous->n_classes != r->labels->n_classes)
        return false;
    for (int i = 0; previous->task == MOE_MULTICLASS && i < previous->n_classes; i++)
    {
        if (strcmp(previous->classes[i], r->labels->classes[i]) != 0)
            return false;
    }
    return true;
}

static bool
same_shape(const run *r, const moe_stored *stored)
{
    const moe_model_config *a = &r->options->model;
    const moe_model_config *b = &stored->model;

    return stored->signature == moe_store_signature(r->data->schema) && a->channels == b->channels &&
           a->hops == b->hops && r->options->encoder.blocks == stored->encoder.blocks &&
           stored->members == r->options->ensembles && r->features != NULL &&
           same_features(r->features, stored->features);
}

/*
 * Open the previous parameters to start from. They keep their meaning only
 * together with the column statistics they were trained with, so those are
 * kept too, as long as fitting anew would give columns of the same shape.
 */
static bool
warm_start(run *r, Oid relid, moe_stored *stored)
{
    Snapshot snapshot = moe_catalog_snapshot();
    moe_model_record *previous = moe_model_load_record(relid, snapshot);
    int64 length;
    uint8 *bytes = moe_catalog_read_parameters(&previous->info.id, snapshot, &length);
    /* A job of its own: damaged parameters must not fail this training. */
    moe_job *job = moe_job_in_context(CurrentMemoryContext);

    UnregisterSnapshot(snapshot);
    if (moe_store_open(job, bytes, length, stored) != MOE_OK)
    {
        moe_notice("starting afresh: %s", moe_job_error(job));
        return false;
    }
    if (r->features == NULL)
        return false; /* the other experts have nothing to start from */
    if (!same_task(r, &previous->info) || !same_shape(r, stored))
    {
        moe_notice("starting afresh: the tables, their columns or the classes have changed since the last training");
        return false;
    }
    moe_features_destroy(r->features);
    r->features = stored->features;
    moe_check(job, moe_features_bind(r->features, r->data->tables, r->data->n_tables));
    return true;
}

static char *
stages_json(const run *r)
{
    const char *device = r->device_seconds > 0 ? psprintf(", \"device\": %.3f", r->device_seconds) : "";

    return psprintf("{\"read\": %.3f, \"labels\": %.3f, \"graph\": %.3f, \"inputs\": %.3f, \"experts\": %.3f, "
                    "\"features\": %.3f, \"sample\": %.3f, \"encode\": %.3f, \"forward\": %.3f, \"backward\": %.3f, "
                    "\"evaluate\": %.3f%s}",
                    r->read_seconds, r->label_seconds, r->graph_seconds, r->input_seconds, r->expert_seconds,
                    r->feature_seconds, r->sample_seconds, r->encode_seconds, r->forward_seconds, r->backward_seconds,
                    r->evaluate_seconds, device);
}

static void
fill_record(run *r)
{
    moe_model_record *record = &r->result->record;
    moe_model_info *info = &record->info;

    info->task = r->labels->task;
    info->n_classes = r->labels->n_classes;
    info->classes = r->labels->classes;
    info->label_type = r->labels->label_type;
    info->window = r->labels->window;
    info->ensembles = r->features != NULL ? r->options->ensembles : 0;
    info->experts = moe_mixture_experts(r->mixture);
    record->entity = moe_schema_qualified(&r->data->schema->tables[0]);
    record->options = moe_model_options_json(r->options);
    record->show_experts = r->options->show_experts;
    memcpy(record->rows, r->labels->rows, sizeof(record->rows));
    record->metric = metric_names[info->task];
    record->validation_metric = r->report.mixed;
    record->trained_at = GetCurrentTimestamp();
    record->train_seconds = moe_seconds() - r->start;
    record->stages = stages_json(r);
    record->peak_memory = (int64) moe_job_memory_peak(r->job);
}

/* Options, the tables as they are named, and a job. */
static run *
begin_run(moe_training *result, const moe_statement *statement)
{
    run *r = palloc0(sizeof(run));

    r->result = result;
    r->start = moe_seconds();
    r->options = moe_model_options_parse(statement->options);
    result->schema = moe_model_discover(statement, r->options, false);
    moe_model_options_times(r->options, result->schema->time_type);
    r->job = moe_job_in_context(result->context);
    result->record.device = moe_device_attach(r->job);
    if (strcmp(result->record.device, "cpu") != 0)
        moe_notice("training on %s", result->record.device);
    return r;
}

moe_training *
moe_model_read(const moe_statement *statement, Oid previous)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml training", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    moe_training *result = palloc0(sizeof(moe_training));
    int level = moe_sql_begin_model(NULL);
    moe_read_only reading;
    run *r;

    result->context = context;
    PushActiveSnapshot(GetTransactionSnapshot()); /* first: a serializable transaction notes if it is read-only */
    moe_read_only_begin(&reading);
    r = result->run = begin_run(result, statement);
    result->record.info.definition =
        statement->background ? moe_statement_with_options(statement, statement->options) : pstrdup(statement->text);
    result->record.info.search_path = current_path();
    read_all(r, statement, result->schema);
    build_graph(r);
    configure(r);
    r->warm = OidIsValid(previous) && warm_start(r, previous, &r->stored);
    PopActiveSnapshot();
    moe_read_only_end(&reading);
    moe_sql_end(level);
    MemoryContextSwitchTo(old);
    return result;
}

void
moe_model_learn(moe_training *training, const char *name)
{
    MemoryContext old = MemoryContextSwitchTo(training->context);
    moe_model_record *record = &training->record;

    moe_train_experts(training->run);
    fill_record(training->run);
    if (isnan(record->validation_metric))
        moe_notice("trained model \"%s\" in %.1f s", name, record->train_seconds);
    else
        moe_notice("trained model \"%s\" in %.1f s: validation %s %.4f", name, record->train_seconds, record->metric,
                   record->validation_metric);
    MemoryContextSwitchTo(old);
}

moe_training *
moe_model_train(const moe_statement *statement, const char *name, Oid previous)
{
    moe_training *training = moe_model_read(statement, previous);

    moe_model_learn(training, name);
    return training;
}
