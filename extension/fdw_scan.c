/*
 * fdw_scan.c: scanning a model: seeds are scored chunk by chunk, as rows are asked for.
 *
 * Chunks begin small, so that LIMIT 10 does not pay for thousands, and grow. A
 * prediction depends on the rest of its chunk by rounding alone. The predictor is
 * opened by the first fetch and held until the statement ends; a rescan only
 * looks up other seeds.
 */
#include "postgres.h"

#include <math.h>

#include "access/parallel.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#include "extension/fdw.h"
#include "extension/model_parallel.h"
#include "extension/moe_ml.h"
#include "extension/number.h"
#include "extension/predict.h"
#include "kernels/random.h"

#define FIRST_CHUNK 64
#define LAST_CHUNK  4096
#define LINE_WIDTH  50 /* of a list in EXPLAIN */

/* The user whose rights count: the caller, or the owner of the view that names the model. */
static Oid
asking_user(ForeignScanState *node)
{
#if PG_VERSION_NUM >= 160000
    Oid user = ((ForeignScan *) node->ss.ps.plan)->checkAsUser;
#else
    Index relation = ((ForeignScan *) node->ss.ps.plan)->scan.scanrelid;
    Oid user = exec_rt_fetch(relation, node->ss.ps.state)->checkAsUser;
#endif

    return OidIsValid(user) ? user : GetUserId();
}

void
moe_fdw_begin(ForeignScanState *node, int eflags)
{
    ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
    moe_scan *scan = palloc0(sizeof(moe_scan));
    Oid relid = RelationGetRelid(node->ss.ss_currentRelation);
    ListCell *cell;

    scan->user = asking_user(node);
    scan->planned_safe = plan->scan.plan.parallel_safe;
    scan->info = moe_model_load(relid);
    scan->shape = moe_shape_of(relid, scan->info);
    scan->columns = list_nth(plan->fdw_private, MOE_PRIVATE_COLUMNS);
    scan->arrays = list_nth(plan->fdw_private, MOE_PRIVATE_ARRAYS);
    scan->types = list_nth(plan->fdw_private, MOE_PRIVATE_TYPES);
    scan->values = ExecInitExprList(plan->fdw_exprs, (PlanState *) node);
    foreach (cell, scan->columns)
    {
        if (lfirst_int(cell) == scan->shape->as_of)
            scan->time_is_given = true;
        else
            scan->key_is_given = true;
    }
    scan->context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml scan", ALLOCSET_DEFAULT_SIZES);
    node->fdw_state = scan;
}

/* Open the predictor, which reads the tables, or turn it to what is asked about now; early: for what stops early. */
static moe_predictor *
open_as(moe_scan *scan, Oid relid, bool early)
{
    moe_predictor *predictor = scan->predictor;
    moe_asked asked;
    bool one_time = moe_scan_asked(scan, &asked);
    Oid caller;
    int security;

    asked.early = early;
    GetUserIdAndSecContext(&caller, &security);
    SetUserIdAndSecContext(scan->user, security | SECURITY_LOCAL_USERID_CHANGE); /* an abort sets it back, too */
    if (scan->planned_safe && IsParallelWorker())
        moe_parallel_require(relid);
    if (predictor != NULL)
        moe_predictor_turn(predictor, one_time ? &asked : NULL);
    else
        predictor = moe_predictor_open_around(relid, one_time ? &asked : NULL);
    SetUserIdAndSecContext(caller, security);
    return predictor;
}

/* Find the seeds of the time that scan->time points at. */
static void
start_time(moe_scan *scan)
{
    Oid caller;
    int security;

    GetUserIdAndSecContext(&caller, &security);
    SetUserIdAndSecContext(scan->user, security | SECURITY_LOCAL_USERID_CHANGE);
    scan->n_rows = 0;
    if (!scan->key_is_given || scan->candidates == NULL || scan->n_candidates > 0)
        scan->n_rows = moe_predictor_population(scan->predictor, scan->times[scan->time], scan->candidates,
                                                scan->n_candidates, &scan->rows);
    SetUserIdAndSecContext(caller, security);
    scan->next = scan->first = scan->last = 0;
}

/* Open the predictor if this is the first fetch, and find the seeds of this rescan. */
static void
start(ForeignScanState *node, moe_scan *scan)
{
    MemoryContext old;

    MemoryContextReset(scan->context);
    old = MemoryContextSwitchTo(scan->context);
    moe_scan_evaluate(scan, node->ss.ps.ps_ExprContext);
    scan->prediction = NULL;
    scan->time = scan->n_times = 0;
    scan->started = true;
    if (moe_scan_is_empty(scan))
    {
        MemoryContextSwitchTo(old);
        return;
    }
    if (scan->predictor != NULL)
        open_as(scan, RelationGetRelid(node->ss.ss_currentRelation), true);
    else
    {
        moe_predictor *predictor = open_as(scan, RelationGetRelid(node->ss.ss_currentRelation), true);

        moe_predictor_hold(predictor, node->ss.ps.state->es_query_cxt);
        moe_shape_check(scan->shape, predictor);
        scan->predictor = predictor;
        /* The model may have been trained again since the scan began, with other experts and classes. */
        scan->info = predictor->info;
        scan->load =
            MemoryContextAllocZero(node->ss.ps.state->es_query_cxt, sizeof(double) * Max(scan->info->experts, 1));
    }
    moe_scan_resolve(scan);
    scan->chunk = FIRST_CHUNK;
    if (scan->n_times > 0)
        start_time(scan);
    MemoryContextSwitchTo(old);
}

/* All entities that were read, as one number. */
static uint64
entities_read(const moe_data *data)
{
    uint64 all = (uint64) data->tables[0].n_rows;

    for (int64 row = 0; row < data->tables[0].n_rows; row++)
        all = moe_key(all, data->graph_tables[0].identity[row]);
    return all;
}

/*
 * Read all that the seeds need. A row that was looked up by its key may have another number then; others have theirs,
 * unless a view or a policy gives other rows each time.
 */
static void
read_rest(moe_scan *scan, int32 *rows)
{
    moe_predictor *predictor = scan->predictor;
    moe_asked asked;
    bool one = moe_scan_asked(scan, &asked) && asked.n_key > 0;
    uint64 before = one ? 0 : entities_read(predictor->data);
    bool same;

    open_as(scan, predictor->info->foreign_table, false);
    if (one)
    {
        bool nulls[INDEX_MAX_KEYS] = {false};

        rows[0] = moe_data_find(predictor->data, asked.key, nulls);
        same = rows[0] >= 0;
    }
    else
        same = entities_read(predictor->data) == before;
    if (!same)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("table \"%s\" has other rows when it is read again", predictor->schema->tables[0].name),
                        errhint("A model with a budget reads its entities twice: their view or policies must not call "
                                "functions such as random().")));
}

/*
 * Score n seeds. While the predictor has read for what stops early alone, that is tried first; where some do not, the
 * rest is read, and all are scored as usual, which gives those that stop the same predictions.
 */
static void
score_seeds(moe_scan *scan, int64 n, int32 *rows, const int64 *times)
{
    bool stop = scan->predictor->early;

    if (stop)
    {
        bool *stops = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * n);

        moe_predictor_score_early(scan->predictor, n, rows, times, NULL, scan->prediction, scan->gates, stops);
        for (int64 i = 0; i < n; i++)
            stop = stop && stops[i];
        pfree(stops);
        if (!stop)
            read_rest(scan, rows);
    }
    if (!stop)
    {
        bool ranges = scan->info->task == MOE_REGRESSION;
        moe_mixture_answer answer = {.prediction = scan->prediction,
                                     .gates = scan->gates,
                                     .lower = ranges ? scan->lower : NULL,
                                     .upper = ranges ? scan->upper : NULL};

        moe_predictor_score(scan->predictor, n, rows, times, NULL, NULL, &answer);
    }
}

/* Score the next chunk of the current time's seeds. */
static void
score_chunk(moe_scan *scan)
{
    int width = scan->info->task == MOE_MULTICLASS ? scan->info->n_classes : 1;
    int experts = scan->info->experts;
    int64 n = Min(scan->chunk, scan->n_rows - scan->last);
    int64 *times = palloc_array(int64, n);
    double begin = moe_seconds();

    for (int64 i = 0; i < n; i++)
        times[i] = scan->times[scan->time];
    if (scan->prediction != NULL)
    {
        pfree(scan->prediction);
        pfree(scan->gates);
        pfree(scan->lower);
        pfree(scan->upper);
    }
    scan->prediction = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * n * width);
    scan->gates = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * n * Max(experts, 1));
    scan->lower = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * n);
    scan->upper = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(float) * n);
    score_seeds(scan, n, scan->rows + scan->last, times);
    for (int64 i = 0; i < n; i++)
        for (int e = 0; e < experts; e++)
            scan->load[e] += scan->gates[i * experts + e];
    pfree(times);
    scan->first = scan->last;
    scan->last += n;
    scan->scored += n;
    scan->chunk = Min(scan->chunk * 4, LAST_CHUNK);
    scan->score_seconds += moe_seconds() - begin;
}

/* {"linear": 0.5, "graph": 0.5}: the weights of the experts that made a prediction. */
static Datum
expert_weights(const moe_scan *scan, const float *gates)
{
    StringInfoData json;

    initStringInfo(&json);
    for (int e = 0; e < scan->info->experts; e++)
        if (gates[e] > 0)
            appendStringInfo(&json, "%s\"%s\": %.4f", json.len ? ", " : "{",
                             moe_expert_name(moe_mixture_kind(scan->predictor->mixture, e)), gates[e]);
    appendStringInfoString(&json, json.len ? "}" : "{}");
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* A bound of the range around a prediction, or NULL. */
static void
fill_bound(float bound, Datum *value, bool *null)
{
    *null = isnan(bound);
    *value = moe_number_datum(bound);
}

/* Fill a slot's output columns from the scores of the next seed. */
static void
fill_outputs(const moe_scan *scan, Datum *values, bool *nulls)
{
    int64 at = scan->next - scan->first;
    int width = scan->info->task == MOE_MULTICLASS ? scan->info->n_classes : 1;
    const float *scores = scan->prediction + at * width;
    int output = scan->shape->output - 1;
    int best;

    switch (scan->info->task)
    {
        case MOE_BINARY:
            values[output] = BoolGetDatum(scores[0] >= 0.5f);
            values[output + 1] = moe_number_datum(scores[0]);
            break;
        case MOE_REGRESSION:
            values[output] = moe_number_datum(scores[0]);
            fill_bound(scan->lower[at], &values[output + 1], &nulls[output + 1]);
            fill_bound(scan->upper[at], &values[output + 2], &nulls[output + 2]);
            break;
        case MOE_MULTICLASS:
            best = moe_best_class(scores, scan->info->n_classes);
            values[output] = CStringGetTextDatum(scan->info->classes[best]);
            values[output + 1] = moe_number_datum(scores[best]);
            break;
    }
    if (scan->shape->experts)
        values[scan->shape->experts - 1] = expert_weights(scan, scan->gates + at * scan->info->experts);
}

/* Make the next seed the current one; false at the end. */
static bool
advance(moe_scan *scan)
{
    MemoryContext old = MemoryContextSwitchTo(scan->context);

    while (scan->time < scan->n_times && scan->next >= scan->n_rows)
        if (++scan->time < scan->n_times)
            start_time(scan);
    if (scan->time < scan->n_times && scan->next >= scan->last)
    {
        CHECK_FOR_INTERRUPTS();
        score_chunk(scan);
    }
    MemoryContextSwitchTo(old);
    return scan->time < scan->n_times;
}

TupleTableSlot *
moe_fdw_iterate(ForeignScanState *node)
{
    moe_scan *scan = node->fdw_state;
    TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

    if (!scan->started)
        start(node, scan);
    ExecClearTuple(slot);
    if (!advance(scan))
        return slot;
    for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
        slot->tts_isnull[i] = TupleDescAttr(slot->tts_tupleDescriptor, i)->attisdropped;
    moe_data_key(scan->predictor->data, scan->rows[scan->next], slot->tts_values, slot->tts_isnull);
    slot->tts_values[scan->shape->as_of - 1] = TimestampGetDatum(scan->times[scan->time]);
    fill_outputs(scan, slot->tts_values, slot->tts_isnull);
    scan->next++;
    return ExecStoreVirtualTuple(slot);
}

void
moe_fdw_rescan(ForeignScanState *node)
{
    ((moe_scan *) node->fdw_state)->started = false;
}

void
moe_fdw_end(ForeignScanState *node)
{
    moe_scan *scan = node->fdw_state;

    if (scan != NULL)
        MemoryContextDelete(scan->context);
}

/* How many keys the plan gives, if it says so itself; else -1. */
static int64
constant_keys(const moe_scan *scan, const ForeignScan *plan)
{
    int64 n = 1;

    for (int i = 0; i < list_length(scan->columns); i++)
    {
        Const *constant = list_nth(plan->fdw_exprs, i);
        ArrayType *array;

        if (list_nth_int(scan->columns, i) == scan->shape->as_of)
            continue;
        if (!IsA(constant, Const))
            return -1;
        if (constant->constisnull)
            return 0;
        if (!list_nth_int(scan->arrays, i))
            continue;
        array = DatumGetArrayTypeP(constant->constvalue);
        n *= ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
    }
    return n;
}

/* The time that the plan gives, for people. */
static char *
time_text(const moe_scan *scan, const ForeignScan *plan)
{
    for (int i = 0; i < list_length(scan->columns); i++)
    {
        Const *constant = list_nth(plan->fdw_exprs, i);
        Oid output;
        bool varlena;

        if (list_nth_int(scan->columns, i) != scan->shape->as_of)
            continue;
        if (!IsA(constant, Const) || constant->constisnull)
            return "given by the query";
        getTypeOutputInfo(constant->consttype, &output, &varlena);
        return OidOutputFunctionCall(output, constant->constvalue);
    }
    return "newest row time";
}

/* A list in the making, on lines that fit a terminal where EXPLAIN prints text. */
typedef struct list_text
{
    StringInfoData text;
    int line; /* where the last one begins */
} list_text;

static void
append_item(list_text *list, const char *item, const ExplainState *es)
{
    if (list->text.len > 0)
        appendStringInfoString(&list->text, ", ");
    if (list->text.len > 0 && es->format == EXPLAIN_FORMAT_TEXT &&
        list->text.len - list->line + strlen(item) > LINE_WIDTH)
    {
        list->text.data[list->text.len - 1] = '\n';
        list->line = list->text.len;
        appendStringInfoSpaces(&list->text, es->indent * 2 + 2);
    }
    appendStringInfoString(&list->text, item);
}

/* "results: 312, races: 40" */
static char *
tables_read(const moe_predictor *predictor, const ExplainState *es)
{
    const moe_data *data = predictor->data;
    list_text list = {.line = 0};

    initStringInfo(&list.text);
    for (int t = 0; t < data->n_tables; t++)
        if (predictor->rows_read[t] > 0)
            append_item(&list, psprintf("%s: " INT64_FORMAT, data->tables[t].name, predictor->rows_read[t]), es);
    return list.text.data;
}

/* "linear: 70%, graph: 30%" */
static char *
experts_asked(const moe_scan *scan, const ExplainState *es)
{
    list_text list = {.line = 0};

    initStringInfo(&list.text);
    for (int e = 0; e < scan->info->experts && scan->scored > 0; e++)
        append_item(&list,
                    psprintf("%s: %.0f%%", moe_expert_name(moe_mixture_kind(scan->predictor->mixture, e)),
                             100.0 * scan->load[e] / scan->scored),
                    es);
    return list.text.data;
}

/* What this statement has read for the scan. */
static void
explain_reading(const moe_predictor *predictor, ExplainState *es)
{
    int64 all = 0;

    for (int t = 0; predictor->rows_read != NULL && t < predictor->data->n_tables; t++)
        all += predictor->rows_read[t];
    ExplainPropertyText("Reading",
                        all == 0 && predictor->kept ? "nothing, unchanged since an earlier statement"
                        : predictor->early          ? "entity rows and their past labels alone"
                        : predictor->only != NULL   ? "rows around the key, by indexes"
                                                    : "whole tables",
                        es);
    ExplainPropertyInteger("Rows Read", NULL, all, es);
    if (all > 0)
        ExplainPropertyText("Tables Read", tables_read(predictor, es), es);
}

/* Where the time went and who answered, once the scan has run in this process. */
static void
explain_run(const moe_scan *scan, ExplainState *es)
{
    char *experts;

    ExplainPropertyInteger("Seeds Scored", NULL, scan->scored, es);
    if (scan->predictor == NULL)
        return;
    explain_reading(scan->predictor, es);
    experts = experts_asked(scan, es);
    if (experts[0] != '\0')
        ExplainPropertyText("Experts", experts, es);
    ExplainPropertyText("Device", "cpu", es);
    if (es->timing)
    {
        ExplainPropertyFloat("Read Time", "ms", 1000.0 * scan->predictor->read_seconds, 3, es);
        ExplainPropertyFloat("Build Time", "ms", 1000.0 * scan->predictor->build_seconds, 3, es);
        ExplainPropertyFloat("Score Time", "ms", 1000.0 * scan->score_seconds, 3, es);
    }
}

void
moe_fdw_explain(ForeignScanState *node, ExplainState *es)
{
    const moe_scan *scan = node->fdw_state;
    const ForeignScan *plan = (ForeignScan *) node->ss.ps.plan;
    char *entity = OidIsValid(scan->info->entity) ? get_rel_name(scan->info->entity) : NULL;
    int64 keys = scan->key_is_given ? constant_keys(scan, plan) : 0;

    if (entity != NULL)
        ExplainPropertyText("Entity", entity, es);
    if (!scan->key_is_given)
        ExplainPropertyText("Seeds", "all visible", es);
    else if (keys < 0)
        ExplainPropertyText("Seeds", "by key, given by the query", es);
    else
        ExplainPropertyInteger("Seeds", NULL, keys, es);
    ExplainPropertyText("As Of", time_text(scan, plan), es);
    if (es->analyze && (scan->predictor != NULL || node->ss.ps.worker_instrument == NULL))
        explain_run(scan, es);
}
