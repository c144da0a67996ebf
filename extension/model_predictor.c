/*
 * model_predictor.c: a stored model opened over today's tables.
 *
 * Opening reads the stored parameters, binds the stored schema to the catalog,
 * reads all its tables as the caller and builds graph, inputs and models. That
 * is paid once per statement: an open predictor is kept and used again as long
 * as statement, snapshot, user, row_security and text settings are the same.
 *
 * Life: each predictor has a memory context and is pinned by every memory
 * context that it was opened in or is held by (through a reset callback), so
 * that a scan keeps its predictor while a nested statement opens another. One
 * that is neither pinned nor current is freed at the next opening or at the
 * end of the transaction.
 *
 * Time: rows stand in canonical order with the row time first, and columns are
 * encoded by stored statistics, so rows later than a horizon cannot change a
 * prediction in any bit.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "extension/model_catalog.h"
#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "kernels/blas.h"

/* When an open predictor may serve again. Within one statement, snapshots of the same four numbers see the same. */
typedef struct predictor_key
{
    Oid relid;
    Oid user;
    bool row_security;
    TimestampTz statement;
    TransactionId xmin, xmax;
    uint32 xcnt;
    int32 subxcnt; /* on a standby the transactions in progress are counted here */
    CommandId curcid;
    uint64 settings;
} predictor_key;

typedef struct entry
{
    struct entry *next;
    predictor_key key;
    int pins;
    bool stale;
    moe_predictor predictor;
} entry;

static entry *entries = NULL;
static bool callback_registered = false;

/* Free the entries that are stale and not pinned. */
static void
sweep(void)
{
    entry **link = &entries;

    while (*link != NULL)
    {
        entry *e = *link;

        if (!e->stale || e->pins > 0)
        {
            link = &e->next;
            continue;
        }
        *link = e->next;
        MemoryContextDelete(e->predictor.context); /* e lies in it */
    }
}

/*
 * Mark what an opening under a new key makes useless: all of earlier
 * statements, and the same model under an earlier snapshot. Other models of
 * this statement are likely to be asked again. NULL: all.
 */
static void
mark_stale(const predictor_key *current)
{
    for (entry *e = entries; e != NULL; e = e->next)
    {
        if (current == NULL || e->key.statement != current->statement || e->key.relid == current->relid)
            e->stale = true;
    }
}

static void
end_of_transaction(XactEvent event, void *arg)
{
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
        return;
    mark_stale(NULL);
    sweep();
}

/* Command ids do not tell a subtransaction's rows from those of what follows its abort. */
static void
end_of_subtransaction(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
    if (event == SUBXACT_EVENT_ABORT_SUB)
        mark_stale(NULL);
}

static void
unpin(void *arg)
{
    entry *e = arg;

    e->pins--;
    sweep();
}

void
moe_predictor_hold(moe_predictor *predictor, MemoryContext context)
{
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
    entry *e = (entry *) ((char *) predictor - offsetof(entry, predictor));

    callback->func = unpin;
    callback->arg = e;
    MemoryContextRegisterResetCallback(context, callback);
    e->pins++;
}

/*
 * The values of all settings that are text. Policies and views may depend on
 * them (current_setting('app.tenant')), and a function can change them within
 * the statement. search_path is left out: rows are read under a fixed one.
 */
static uint64
hash_settings(void)
{
#if PG_VERSION_NUM >= 160000
    int n;
    struct config_generic **variables = get_guc_variables(&n);
#else
    int n = GetNumConfigOptions();
    struct config_generic **variables = get_guc_variables();
#endif
    uint64 hash = 0;

    for (int i = 0; i < n; i++)
    {
        struct config_string *variable = (struct config_string *) variables[i];
        const char *value;

        if (variable->gen.vartype != PGC_STRING || variable->variable == &namespace_search_path)
            continue;
        value = *variable->variable;
        hash = hash_bytes_extended((const unsigned char *) (value ? value : ""), value ? strlen(value) : 0, hash);
    }
#if PG_VERSION_NUM >= 160000
    pfree(variables);
#endif
    return hash;
}

static void
current_key(Oid relid, predictor_key *key)
{
    Snapshot snapshot = GetActiveSnapshot();

    memset(key, 0, sizeof(*key)); /* padding too: keys are compared as bytes */
    key->relid = relid;
    key->user = GetUserId();
    key->row_security = row_security;
    key->statement = GetCurrentStatementStartTimestamp();
    key->xmin = snapshot->xmin;
    key->xmax = snapshot->xmax;
    key->xcnt = snapshot->xcnt;
    key->subxcnt = snapshot->subxcnt;
    key->curcid = snapshot->curcid;
    key->settings = hash_settings();
}

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
check_features(const moe_predictor *predictor, const moe_features *features)
{
    const moe_data *data = predictor->data;
    bool same = moe_features_tables(features) == data->n_tables;

    for (int t = 0; same && t < data->n_tables; t++)
        same = moe_features_columns(features, t) == data->tables[t].n_columns;
    if (!same)
        moe_predictor_check_stored(
            predictor, moe_fail(predictor->job, MOE_CORRUPT, "the stored columns do not match the stored schema"));
}

/* The inputs over today's rows. */
static void
load_inputs(moe_predictor *predictor, moe_stored *stored)
{
    struct moe_predictor_parts *parts = predictor->parts;

    parts->inputs = predictor->inputs = stored->inputs;
    parts->kept = stored->kept;
    moe_inputs_bind(parts->inputs, predictor->data, parts->graph);
    if (!moe_inputs_can_pick(parts->inputs, stored->model.seed_inputs))
        moe_predictor_check_stored(
            predictor, moe_fail(predictor->job, MOE_CORRUPT, "the stored network does not fit the stored inputs"));
}

/* The members of the graph expert over today's rows. */
static void
load_members(moe_predictor *predictor, moe_stored *stored)
{
    struct moe_predictor_parts *parts = predictor->parts;
    const moe_data *data = predictor->data;

    parts->n_members = stored->members;
    parts->member = palloc0(sizeof(moe_member) * Max(parts->n_members, 1));
    if (parts->n_members > 0)
    {
        check_features(predictor, stored->features);
        parts->features = stored->features;
        moe_predictor_check_stored(predictor, moe_features_bind(stored->features, data->tables, data->n_tables));
    }
    for (int i = 0; i < parts->n_members; i++)
    {
        moe_predictor_check_stored(predictor, moe_store_next(predictor->job, stored, &parts->member[i]));
        moe_predictor_check_stored(
            predictor, moe_member_build(predictor->job, parts->graph, parts->features, &stored->encoder, &stored->model,
                                        moe_predictor_seed_inputs, parts, i + 1, &parts->member[i]));
    }
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

static void
load(moe_predictor *predictor, Oid relid)
{
    struct moe_predictor_parts *parts = palloc0(sizeof(*parts));
    Snapshot snapshot = moe_catalog_snapshot();
    moe_model_record *record = moe_model_load_record(relid, snapshot);
    double start = moe_seconds();
    moe_stored stored = {0};
    moe_job *job;
    uint8 *bytes;
    int64 length;

    parts->user = GetUserId();
    predictor->info = &record->info;
    predictor->parts = parts;
    bytes = moe_catalog_read_parameters(&record->info.id, snapshot, &length);
    UnregisterSnapshot(snapshot);
    job = predictor->job = moe_job_in_context(CurrentMemoryContext);
    moe_predictor_check_stored(predictor, moe_store_open(job, bytes, length, &stored));
    check_record(predictor, &stored);
    predictor->schema = moe_schema_read(&stored.schema, get_rel_name(relid));
    moe_predictor_check_stored(predictor, moe_reader_code(&stored.schema));
    predictor->data = moe_data_read(predictor->schema, job);
    predictor->read_seconds = moe_seconds() - start;

    start = moe_seconds();
    moe_check(job, moe_blas_open(job));
    moe_check(job, moe_graph_create(job, predictor->data->graph_tables, predictor->data->n_tables,
                                    predictor->data->graph_keys, predictor->data->n_edges, &parts->graph));
    load_inputs(predictor, &stored);
    load_members(predictor, &stored);
    load_mixture(predictor, &stored);
    pfree(bytes);
    predictor->build_seconds = moe_seconds() - start;
}

/* Models being opened, innermost first: a view that a model reads may ask that model. */
typedef struct opening
{
    struct opening *outer;
    Oid relid;
} opening;

static opening *openings = NULL;

static void
end_opening(const opening *self)
{
    openings = self->outer;
}

static void
begin_opening(opening *self, Oid relid)
{
    for (const opening *o = openings; o != NULL; o = o->outer)
    {
        if (o->relid == relid)
            ereport(ERROR, (errcode(ERRCODE_INVALID_RECURSION),
                            errmsg("model \"%s\" reads its own predictions", get_rel_name(relid)),
                            errhint("Leave out the view over the model among its tables: list them in USING (...).")));
    }
    self->outer = openings;
    self->relid = relid;
    openings = self;
}

/* Open anew, in a context of its own that an error takes along with the current one. */
static entry *
open_entry(const predictor_key *key)
{
    MemoryContext caller = CurrentMemoryContext;
    MemoryContext context = AllocSetContextCreate(caller, "moe_ml predictor", ALLOCSET_DEFAULT_SIZES);
    opening self;
    entry *e;

    MemoryContextSwitchTo(context);
    e = palloc0(sizeof(entry));
    e->key = *key;
    e->predictor.context = context;
    begin_opening(&self, key->relid);
    PG_TRY();
    {
        load(&e->predictor, key->relid);
    }
    PG_FINALLY();
    {
        end_opening(&self);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    MemoryContextSetParent(context, TopMemoryContext);
    e->next = entries;
    entries = e;
    return e;
}

moe_predictor *
moe_predictor_open(Oid relid)
{
    predictor_key key;
    entry *e;

    if (!callback_registered)
    {
        RegisterXactCallback(end_of_transaction, NULL);
        RegisterSubXactCallback(end_of_subtransaction, NULL);
        callback_registered = true;
    }
    current_key(relid, &key);
    for (e = entries; e != NULL; e = e->next)
    {
        if (!e->stale && memcmp(&e->key, &key, sizeof(key)) == 0)
            break;
    }
    if (e == NULL)
    {
        mark_stale(&key);
        sweep();
        e = open_entry(&key);
    }
    moe_predictor_hold(&e->predictor, CurrentMemoryContext);
    return &e->predictor;
}

int64
moe_predictor_default_time(moe_predictor *predictor)
{
    int64 now = GetCurrentTransactionStartTimestamp();
    int64 newest = MOE_TIME_ALWAYS;

    if (predictor->schema->time_type != TIMESTAMPTZOID)
        now = DatumGetTimestamp(DirectFunctionCall1(timestamptz_timestamp, TimestampTzGetDatum(now)));
    for (int t = 0; t < predictor->data->n_tables; t++)
    {
        const moe_graph_table *table = &predictor->data->graph_tables[t];
        int64 n = moe_graph_visible_rows(table, now);

        if (table->time != NULL && n > 0)
            newest = Max(newest, table->time[n - 1]);
    }
    return newest == MOE_TIME_ALWAYS ? now : newest;
}
