/*
 * fdw_options.c: the foreign-data wrapper's entry points: handler, validator, and the shape of a model's table.
 *
 * The only option is a foreign table's `model`, the uuid under which the
 * model's parameters are stored. A uuid belongs to one foreign table: whoever
 * makes another one over it would come by parameters that are not theirs.
 * There are no callbacks for INSERT, UPDATE and DELETE; PostgreSQL refuses them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"

#include "extension/fdw.h"
#include "extension/moe_ml.h"

MOE_FUNCTION(moe_fdw_handler);
MOE_FUNCTION(moe_fdw_validator);

Datum
moe_fdw_handler(PG_FUNCTION_ARGS)
{
    FdwRoutine *routine = makeNode(FdwRoutine);

    routine->GetForeignRelSize = moe_fdw_rel_size;
    routine->GetForeignPaths = moe_fdw_paths;
    routine->GetForeignPlan = moe_fdw_plan;
    routine->BeginForeignScan = moe_fdw_begin;
    routine->IterateForeignScan = moe_fdw_iterate;
    routine->ReScanForeignScan = moe_fdw_rescan;
    routine->EndForeignScan = moe_fdw_end;
    routine->ExplainForeignScan = moe_fdw_explain;
    routine->IsForeignScanParallelSafe = moe_fdw_is_parallel_safe;
    PG_RETURN_POINTER(routine);
}

/* The option `model` among a table's options, or NULL. */
static const char *
model_option(List *options)
{
    ListCell *cell;

    foreach (cell, options)
    {
        DefElem *option = lfirst_node(DefElem, cell);

        if (strcmp(option->defname, "model") == 0)
            return defGetString(option);
    }
    return NULL;
}

static pg_uuid_t *
parse_uuid(const char *value)
{
    return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(value)));
}

/* Raise if a foreign table carries this model already. */
static void
check_unused(const char *value)
{
    pg_uuid_t *id = parse_uuid(value);
    Relation catalog = table_open(ForeignTableRelationId, AccessShareLock);
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
    HeapTuple tuple;

    while (HeapTupleIsValid(tuple = systable_getnext(scan)))
    {
        Form_pg_foreign_table row = (Form_pg_foreign_table) GETSTRUCT(tuple);
        /* What another session drops meanwhile may be gone: the row is all there is to go by. */
        ForeignServer *server = GetForeignServerExtended(row->ftserver, FSV_MISSING_OK);
        ForeignDataWrapper *wrapper =
            server == NULL ? NULL : GetForeignDataWrapperExtended(server->fdwid, FDW_MISSING_OK);
        const char *other;
        Datum options;
        bool null;

        if (wrapper == NULL || strcmp(wrapper->fdwname, MOE_SERVER_NAME) != 0)
            continue;
        options = heap_getattr(tuple, Anum_pg_foreign_table_ftoptions, RelationGetDescr(catalog), &null);
        other = null ? NULL : model_option(untransformRelOptions(options));
        if (other != NULL && memcmp(parse_uuid(other), id, sizeof(*id)) == 0)
            ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
                            errmsg("foreign table \"%s\" already is model %s", get_rel_name(row->ftrelid), value),
                            errhint("Make a model with CREATE MODEL, and let others use it with GRANT SELECT.")));
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
}

Datum
moe_fdw_validator(PG_FUNCTION_ARGS)
{
    List *options = untransformRelOptions(PG_GETARG_DATUM(0));
    Oid catalog = PG_GETARG_OID(1);
    ListCell *cell;

    foreach (cell, options)
    {
        DefElem *option = lfirst_node(DefElem, cell);

        if (catalog != ForeignTableRelationId || strcmp(option->defname, "model") != 0)
            ereport(ERROR,
                    (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", option->defname),
                     errhint("Models are made by CREATE MODEL; the only option is a foreign table's \"model\".")));
        check_unused(defGetString(option));
    }
    PG_RETURN_VOID();
}

/* Raise for a foreign table that is not what CREATE MODEL made. */
static void
wrong_shape(Oid relid)
{
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("the columns of model \"%s\" were changed by hand", get_rel_name(relid)),
                    errhint("Make the model again with CREATE OR REPLACE MODEL.")));
}

/* Types of the output columns of a task. */
static int
output_types(moe_task_type task, Oid types[3])
{
    int n = 0;

    types[n++] = task == MOE_BINARY ? BOOLOID : task == MOE_REGRESSION ? FLOAT8OID : TEXTOID;
    types[n++] = FLOAT8OID;
    if (task == MOE_REGRESSION)
        types[n++] = FLOAT8OID;
    return n;
}

moe_shape *
moe_shape_of(Oid relid, const moe_model_info *info)
{
    Relation relation = table_open(relid, NoLock);
    TupleDesc descriptor = RelationGetDescr(relation);
    moe_shape *shape = palloc0(sizeof(moe_shape));
    Oid outputs[3];
    int live = 0; /* columns before the experts' and before dropped ones */
    bool fits;

    /* ALTER MODEL adds and drops the column of the experts, so that dropped ones may stand behind the others. */
    while (live < descriptor->natts && !TupleDescAttr(descriptor, live)->attisdropped)
        live++;
    for (int i = live; i < descriptor->natts; i++)
        if (!TupleDescAttr(descriptor, i)->attisdropped)
            shape->experts = shape->experts != 0 ? descriptor->natts + 1 : i + 1;
    if (shape->experts == 0 && live > 0 && TupleDescAttr(descriptor, live - 1)->atttypid == JSONBOID)
        shape->experts = live--;
    shape->n_outputs = output_types(info->task, outputs);
    shape->n_key = live - 1 - shape->n_outputs;
    shape->as_of = shape->n_key + 1;
    shape->output = shape->n_key + 2;
    fits = shape->n_key >= 1 && shape->experts <= descriptor->natts &&
           (shape->experts == 0 || TupleDescAttr(descriptor, shape->experts - 1)->atttypid == JSONBOID);
    if (fits)
        shape->type = palloc(sizeof(Oid) * (shape->n_key + 1));
    for (int i = 0; fits && i < live; i++)
    {
        Oid type = getBaseType(TupleDescAttr(descriptor, i)->atttypid);

        if (i <= shape->n_key)
            shape->type[i] = type;
        else
            fits = type == outputs[i - shape->n_key - 1];
    }
    table_close(relation, NoLock);
    if (!fits || (shape->type[shape->n_key] != TIMESTAMPOID && shape->type[shape->n_key] != TIMESTAMPTZOID))
        wrong_shape(relid);
    return shape;
}

void
moe_shape_check(const moe_shape *shape, const moe_predictor *predictor)
{
    const moe_schema *schema = predictor->schema;
    bool fits = shape->n_key == schema->n_key && shape->type[shape->n_key] == schema->time_type;

    for (int i = 0; fits && i < schema->n_key; i++)
        fits = shape->type[i] == schema->tables[0].columns[schema->key[i]].type;
    if (!fits)
        wrong_shape(predictor->info->foreign_table);
}
