/*
 * model_predictor.c: what a stored model learned, read from its parameters.
 *
 * What it is put over is model_rows.c's, and how long it serves model_cache.c's to say.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "extension/model_catalog.h"
#include "extension/model_predictor_internal.h"
#include "extension/moe_ml.h"
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

bool
moe_predictor_is_of(const moe_predictor *predictor, const pg_uuid_t *id, uint64 version)
{
    return memcmp(&predictor->info->id, id, sizeof(*id)) == 0 && predictor->parts->version == version;
}

size_t
moe_predictor_memory_used(const moe_predictor *predictor)
{
    const moe_predictor *twin = predictor->parts->twin;
    size_t used = moe_job_memory_used(predictor->job);

    if (predictor->data != NULL)
        used += moe_job_memory_used(predictor->data->job);
    return twin == NULL ? used : used + moe_job_memory_used(twin->job);
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
