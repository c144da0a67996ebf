/*
 * model_catalog.c: read, write and delete the rows that models are stored as.
 *
 * The tables moe_ml.model, model_parameter, model_epoch and model_expert are
 * ordinary WAL-logged tables (sql/30_model.sql) on which nobody has
 * privileges. What may be done to them follows from the caller's rights on the
 * model's foreign table, which the callers check; so the access is direct,
 * not through SQL as another user. All rows of a model are found through
 * primary keys that begin with its uuid.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "varatt.h"
#endif

#include "extension/model_catalog.h"
#include "kernels/random.h"

#define PART_BYTES  (256 * 1024)
#define MAX_PARTS   (1 << 20)
#define MAX_EXPERTS MOE_EXPERT_KINDS

typedef enum catalog_table
{
    TABLE_MODEL,
    TABLE_PARAMETER,
    TABLE_EPOCH,
    TABLE_EXPERT,
    N_TABLES
} catalog_table;

static const char *const table_names[N_TABLES] = {"model", "model_parameter", "model_epoch", "model_expert"};

/* Columns of moe_ml.model, as sql/30_model.sql has them. */
enum
{
    COL_ID,
    COL_FORMAT_VERSION,
    COL_CREATED_AT,
    COL_TRAINED_AT,
    COL_DEFINITION,
    COL_SEARCH_PATH,
    COL_ENTITY,
    COL_TRAINING_QUERY,
    COL_POPULATION,
    COL_HISTORY_QUERY,
    COL_TASK,
    COL_N_CLASSES,
    COL_CLASSES,
    COL_LABEL_TYPE,
    COL_LABEL_WINDOW,
    COL_VALIDATION_FROM,
    COL_TEST_FROM,
    COL_IS_STATIC,
    COL_OPTIONS,
    COL_ENSEMBLES,
    COL_EXPERTS,
    COL_TRAIN_ROWS,
    COL_VALIDATION_ROWS,
    COL_TEST_ROWS,
    COL_METRIC,
    COL_VALIDATION_METRIC,
    COL_TRAIN_SECONDS,
    COL_STAGES,
    COL_PEAK_MEMORY,
    COL_PARAMETERS,
    COL_DEVICE,
    N_MODEL_COLUMNS
};

static const char *const task_names[] = {"binary", "regression", "multiclass"};

const char *
moe_model_task_name(moe_task_type task)
{
    return task_names[task];
}

static Oid
table_oid(catalog_table table, bool missing_ok)
{
    Oid schema = get_namespace_oid("moe_ml", true);
    Oid relid = OidIsValid(schema) ? get_relname_relid(table_names[table], schema) : InvalidOid;

    if (!OidIsValid(relid) && !missing_ok)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table moe_ml.%s does not exist", table_names[table]),
                        errhint("Install the extension in this database: CREATE EXTENSION moe_ml.")));
    return relid;
}

static Oid
primary_key(Relation rel)
{
#if PG_VERSION_NUM >= 180000
    return RelationGetPrimaryKeyIndex(rel, false);
#else
    return RelationGetPrimaryKeyIndex(rel);
#endif
}

static void
key_of_model(ScanKey key, const pg_uuid_t *id)
{
    ScanKeyInit(key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

static void
delete_rows(catalog_table table, const pg_uuid_t *id)
{
    Relation rel = table_open(table_oid(table, false), RowExclusiveLock);
    SysScanDesc scan;
    ScanKeyData key;
    HeapTuple tuple;

    key_of_model(&key, id);
    scan = systable_beginscan(rel, primary_key(rel), true, NULL, 1, &key);
    while (HeapTupleIsValid(tuple = systable_getnext(scan)))
        CatalogTupleDelete(rel, &tuple->t_self);
    systable_endscan(scan);
    table_close(rel, RowExclusiveLock);
}

void
moe_catalog_delete(const pg_uuid_t *id)
{
    for (int table = 0; table < N_TABLES; table++)
        delete_rows((catalog_table) table, id);
    CommandCounterIncrement();
}

static void
insert_row(Relation rel, Datum *values, bool *nulls)
{
    HeapTuple tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

    CatalogTupleInsert(rel, tuple);
    heap_freetuple(tuple);
}

static Datum
text_array(char **items, int n)
{
    Datum *datums = palloc(sizeof(Datum) * Max(n, 1));

    for (int i = 0; i < n; i++)
        datums[i] = CStringGetTextDatum(items[i]);
#if PG_VERSION_NUM >= 160000
    return PointerGetDatum(construct_array_builtin(datums, n, TEXTOID));
#else
    return PointerGetDatum(construct_array(datums, n, TEXTOID, -1, false, TYPALIGN_INT));
#endif
}

static Datum
json_datum(const char *json)
{
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

static void
insert_model(const moe_model_record *record)
{
    const moe_model_info *info = &record->info;
    Relation rel = table_open(table_oid(TABLE_MODEL, false), RowExclusiveLock);
    Datum values[N_MODEL_COLUMNS];
    bool nulls[N_MODEL_COLUMNS] = {false};

    values[COL_ID] = UUIDPGetDatum(&info->id);
    values[COL_FORMAT_VERSION] = Int32GetDatum(MOE_MODEL_FORMAT);
    values[COL_CREATED_AT] = TimestampTzGetDatum(record->created_at);
    values[COL_TRAINED_AT] = TimestampTzGetDatum(record->trained_at);
    values[COL_DEFINITION] = CStringGetTextDatum(info->definition);
    values[COL_SEARCH_PATH] = CStringGetTextDatum(info->search_path);
    values[COL_ENTITY] = CStringGetTextDatum(record->entity);
    values[COL_TRAINING_QUERY] = CStringGetTextDatum(info->training_query);
    nulls[COL_POPULATION] = info->population == NULL;
    values[COL_POPULATION] = info->population ? CStringGetTextDatum(info->population) : (Datum) 0;
    nulls[COL_HISTORY_QUERY] = info->history_query == NULL;
    values[COL_HISTORY_QUERY] = info->history_query ? CStringGetTextDatum(info->history_query) : (Datum) 0;
    values[COL_TASK] = CStringGetTextDatum(task_names[info->task]);
    values[COL_N_CLASSES] = Int32GetDatum(info->n_classes);
    nulls[COL_CLASSES] = info->task != MOE_MULTICLASS;
    values[COL_CLASSES] = info->task == MOE_MULTICLASS ? text_array(info->classes, info->n_classes) : (Datum) 0;
    values[COL_LABEL_TYPE] = CStringGetTextDatum(format_type_extended(info->label_type, -1, FORMAT_TYPE_FORCE_QUALIFY));
    values[COL_LABEL_WINDOW] = Int64GetDatum(info->window);
    values[COL_VALIDATION_FROM] = TimestampGetDatum(info->validation_from);
    values[COL_TEST_FROM] = TimestampGetDatum(info->test_from);
    values[COL_IS_STATIC] = BoolGetDatum(info->is_static);
    values[COL_OPTIONS] = json_datum(record->options);
    values[COL_ENSEMBLES] = Int32GetDatum(info->ensembles);
    values[COL_EXPERTS] = Int32GetDatum(info->experts);
    values[COL_TRAIN_ROWS] = Int64GetDatum(record->rows[0]);
    values[COL_VALIDATION_ROWS] = Int64GetDatum(record->rows[1]);
    values[COL_TEST_ROWS] = Int64GetDatum(record->rows[2]);
    values[COL_METRIC] = CStringGetTextDatum(record->metric);
    nulls[COL_VALIDATION_METRIC] = isnan(record->validation_metric);
    values[COL_VALIDATION_METRIC] = Float8GetDatum(record->validation_metric);
    values[COL_TRAIN_SECONDS] = Float8GetDatum(record->train_seconds);
    values[COL_STAGES] = json_datum(record->stages);
    values[COL_PEAK_MEMORY] = Int64GetDatum(record->peak_memory);
    values[COL_PARAMETERS] = Int64GetDatum(record->parameters);
    values[COL_DEVICE] = CStringGetTextDatum(record->device);
    insert_row(rel, values, nulls);
    table_close(rel, RowExclusiveLock);
}

static void
insert_parameters(const pg_uuid_t *id, const moe_buffer *parameters)
{
    Relation rel = table_open(table_oid(TABLE_PARAMETER, false), RowExclusiveLock);
    bytea *data = palloc(VARHDRSZ + PART_BYTES);
    bool nulls[3] = {false};
    Datum values[3];
    int part = 0;

    values[0] = UUIDPGetDatum(id);
    values[2] = PointerGetDatum(data);
    for (int64 at = 0; at < parameters->length; at += PART_BYTES)
    {
        int64 n = Min(parameters->length - at, PART_BYTES);

        if (part >= MAX_PARTS)
            ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the model's parameters are too large"),
                            errhint("Lower the options channels or ensembles.")));
        CHECK_FOR_INTERRUPTS();
        memcpy(VARDATA(data), parameters->data + at, n);
        SET_VARSIZE(data, VARHDRSZ + n);
        values[1] = Int32GetDatum(part++);
        insert_row(rel, values, nulls);
    }
    table_close(rel, RowExclusiveLock);
}

static void
insert_history(const pg_uuid_t *id, List *epochs, List *experts)
{
    Relation rel = table_open(table_oid(TABLE_EPOCH, false), RowExclusiveLock);
    ListCell *lc;

    foreach (lc, epochs)
    {
        const moe_model_epoch *epoch = lfirst(lc);
        Datum values[7] = {UUIDPGetDatum(id),
                           Int32GetDatum(epoch->ensemble),
                           Int32GetDatum(epoch->epoch),
                           Float8GetDatum(epoch->train_loss),
                           Float8GetDatum(epoch->metric),
                           BoolGetDatum(epoch->best),
                           Float8GetDatum(epoch->seconds)};
        bool nulls[7] = {false, false, false, false, isnan(epoch->metric), false, false};

        insert_row(rel, values, nulls);
    }
    table_close(rel, RowExclusiveLock);

    rel = table_open(table_oid(TABLE_EXPERT, false), RowExclusiveLock);
    foreach (lc, experts)
    {
        const moe_model_expert *expert = lfirst(lc);
        Datum values[7] = {UUIDPGetDatum(id),
                           Int32GetDatum(foreach_current_index(lc) + 1),
                           CStringGetTextDatum(expert->name),
                           Float8GetDatum(expert->load),
                           Float8GetDatum(expert->metric),
                           Int64GetDatum(expert->parameters),
                           Float8GetDatum(expert->seconds)};
        bool nulls[7] = {false, false, false, false, isnan(expert->metric), false, false};

        insert_row(rel, values, nulls);
    }
    table_close(rel, RowExclusiveLock);
}

void
moe_catalog_store(const moe_model_record *record, const moe_buffer *parameters, List *epochs, List *experts)
{
    moe_catalog_delete(&record->info.id);
    insert_model(record);
    insert_parameters(&record->info.id, parameters);
    insert_history(&record->info.id, epochs, experts);
    CommandCounterIncrement();
}

/* A row's options, as they are told to people, with another value of `show`. */
static Datum
options_with_show(Relation rel, HeapTuple tuple, const char *show)
{
    char *path[] = {"show"};
    bool null;
    Datum options = heap_getattr(tuple, COL_OPTIONS + 1, RelationGetDescr(rel), &null);

    return DirectFunctionCall4(jsonb_set, options, text_array(path, 1), json_datum(psprintf("\"%s\"", show)),
                               BoolGetDatum(true));
}

void
moe_catalog_set_definition(const pg_uuid_t *id, const char *definition, const char *show)
{
    Relation rel = table_open(table_oid(TABLE_MODEL, false), RowExclusiveLock);
    Datum values[N_MODEL_COLUMNS] = {[COL_DEFINITION] = CStringGetTextDatum(definition)};
    bool nulls[N_MODEL_COLUMNS] = {false};
    bool replace[N_MODEL_COLUMNS] = {[COL_DEFINITION] = true, [COL_OPTIONS] = show != NULL};
    SysScanDesc scan;
    ScanKeyData key;
    HeapTuple tuple;

    key_of_model(&key, id);
    scan = systable_beginscan(rel, primary_key(rel), true, NULL, 1, &key);
    if (HeapTupleIsValid(tuple = systable_getnext(scan)))
    {
        if (show != NULL)
            values[COL_OPTIONS] = options_with_show(rel, tuple, show);
        CatalogTupleUpdate(rel, &tuple->t_self,
                           heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replace));
    }
    systable_endscan(scan);
    table_close(rel, RowExclusiveLock);
    CommandCounterIncrement();
}

Snapshot
moe_catalog_snapshot(void)
{
    /* GetLatestSnapshot would do as well, but not inside a parallel query's leader. */
    return RegisterSnapshot(GetCatalogSnapshot(table_oid(TABLE_MODEL, false)));
}

static char *
text_or_null(const Datum *values, const bool *nulls, int column)
{
    return nulls[column] ? NULL : TextDatumGetCString(values[column]);
}

static Oid
type_by_name(const char *name)
{
    Oid type = InvalidOid;
    int32 typmod;

#if PG_VERSION_NUM >= 160000
    ErrorSaveContext ignored = {T_ErrorSaveContext};

    if (!parseTypeString(name, &type, &typmod, (Node *) &ignored))
        return InvalidOid;
#else
    parseTypeString(name, &type, &typmod, true);
#endif
    return type;
}

static void
read_classes(moe_model_info *info, Datum array)
{
    Datum *items;
    bool *nulls;
    int n;

    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &n);
    info->classes = palloc(sizeof(char *) * Max(n, 1));
    for (int i = 0; i < n; i++)
        info->classes[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(items[i]);
    if (n != info->n_classes)
        info->n_classes = -1;
}

static bool
read_task(const char *name, moe_task_type *task)
{
    for (int i = 0; i < (int) lengthof(task_names); i++)
    {
        if (strcmp(name, task_names[i]) == 0)
        {
            *task = (moe_task_type) i;
            return true;
        }
    }
    return false;
}

static char *
json_text(Datum json)
{
    return DatumGetCString(DirectFunctionCall1(jsonb_out, json));
}

/* What people are told of a training. */
static void
read_report(moe_model_record *record, const Datum *values, const bool *nulls)
{
    record->options = json_text(values[COL_OPTIONS]);
    record->rows[0] = DatumGetInt64(values[COL_TRAIN_ROWS]);
    record->rows[1] = DatumGetInt64(values[COL_VALIDATION_ROWS]);
    record->rows[2] = DatumGetInt64(values[COL_TEST_ROWS]);
    record->metric = TextDatumGetCString(values[COL_METRIC]);
    record->validation_metric = nulls[COL_VALIDATION_METRIC] ? NAN : DatumGetFloat8(values[COL_VALIDATION_METRIC]);
    record->train_seconds = DatumGetFloat8(values[COL_TRAIN_SECONDS]);
    record->stages = json_text(values[COL_STAGES]);
    record->peak_memory = DatumGetInt64(values[COL_PEAK_MEMORY]);
    record->parameters = DatumGetInt64(values[COL_PARAMETERS]);
    record->device = TextDatumGetCString(values[COL_DEVICE]);
}

static moe_model_record *
record_from(Datum *values, bool *nulls, const char *name)
{
    moe_model_record *record = palloc0(sizeof(moe_model_record));
    moe_model_info *info = &record->info;

    info->id = *DatumGetUUIDP(values[COL_ID]);
    info->definition = TextDatumGetCString(values[COL_DEFINITION]);
    info->training_query = TextDatumGetCString(values[COL_TRAINING_QUERY]);
    info->population = text_or_null(values, nulls, COL_POPULATION);
    info->history_query = text_or_null(values, nulls, COL_HISTORY_QUERY);
    info->n_classes = DatumGetInt32(values[COL_N_CLASSES]);
    if (!nulls[COL_CLASSES])
        read_classes(info, values[COL_CLASSES]);
    info->label_type = type_by_name(TextDatumGetCString(values[COL_LABEL_TYPE]));
    info->window = DatumGetInt64(values[COL_LABEL_WINDOW]);
    info->validation_from = DatumGetTimestamp(values[COL_VALIDATION_FROM]);
    info->test_from = DatumGetTimestamp(values[COL_TEST_FROM]);
    info->is_static = DatumGetBool(values[COL_IS_STATIC]);
    info->ensembles = DatumGetInt32(values[COL_ENSEMBLES]);
    info->experts = DatumGetInt32(values[COL_EXPERTS]);
    record->created_at = DatumGetTimestampTz(values[COL_CREATED_AT]);
    record->trained_at = DatumGetTimestampTz(values[COL_TRAINED_AT]);
    info->search_path = TextDatumGetCString(values[COL_SEARCH_PATH]);
    record->entity = TextDatumGetCString(values[COL_ENTITY]);
    read_report(record, values, nulls);
    if (!read_task(TextDatumGetCString(values[COL_TASK]), &info->task) || info->n_classes < 1 ||
        (info->task == MOE_MULTICLASS) != (info->classes != NULL) || info->ensembles < 0 || info->experts < 1 ||
        info->experts > MAX_EXPERTS)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the stored row of model \"%s\" is damaged", name),
                        errdetail("The table moe_ml.model has values that no training gives."),
                        errhint("DROP MODEL %s, and create it again.", quote_identifier(name))));
    return record;
}

moe_model_record *
moe_catalog_read(const pg_uuid_t *id, const char *name, Snapshot snapshot)
{
    Relation rel = table_open(table_oid(TABLE_MODEL, false), AccessShareLock);
    moe_model_record *record = NULL;
    SysScanDesc scan;
    ScanKeyData key;
    HeapTuple tuple;

    key_of_model(&key, id);
    scan = systable_beginscan(rel, primary_key(rel), true, snapshot, 1, &key);
    if (HeapTupleIsValid(tuple = systable_getnext(scan)))
    {
        Datum *values = palloc(sizeof(Datum) * RelationGetNumberOfAttributes(rel));
        bool *nulls = palloc(sizeof(bool) * RelationGetNumberOfAttributes(rel));

        heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
        record = record_from(values, nulls, name);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
    return record;
}

/* The rows of a model in one of its tables, in the primary key's order. */
typedef struct model_rows
{
    Relation rel;
    Relation index;
    SysScanDesc scan;
    ScanKeyData key;
} model_rows;

static void
begin_rows(model_rows *rows, catalog_table table, const pg_uuid_t *id, Snapshot snapshot)
{
    rows->rel = table_open(table_oid(table, false), AccessShareLock);
    rows->index = index_open(primary_key(rows->rel), AccessShareLock);
    key_of_model(&rows->key, id);
    rows->scan = systable_beginscan_ordered(rows->rel, rows->index, snapshot, 1, &rows->key);
}

static HeapTuple
next_row(model_rows *rows)
{
    return systable_getnext_ordered(rows->scan, ForwardScanDirection);
}

static void
end_rows(model_rows *rows)
{
    systable_endscan_ordered(rows->scan);
    index_close(rows->index, AccessShareLock);
    table_close(rows->rel, AccessShareLock);
}

/* Append one part, which must be the next and whole: every part but the last has PART_BYTES. */
static bool
append_part(uint8 **bytes, int64 *length, Datum datum)
{
    bytea *data = DatumGetByteaPP(datum);
    int64 n = VARSIZE_ANY_EXHDR(data);

    if (n < 1 || n > PART_BYTES || *length % PART_BYTES != 0)
        return false;
    if (*bytes == NULL)
        *bytes = palloc(PART_BYTES);
    else
        *bytes = repalloc_huge(*bytes, *length + PART_BYTES);
    memcpy(*bytes + *length, VARDATA_ANY(data), n);
    *length += n;
    if ((Pointer) data != DatumGetPointer(datum))
        pfree(data);
    return true;
}

/* The first parts of a model's parameters; NULL if there are none or one of these is missing. */
static uint8 *
read_parts(const pg_uuid_t *id, Snapshot snapshot, int most, int64 *length)
{
    uint8 *bytes = NULL;
    model_rows rows;
    HeapTuple tuple;

    *length = 0;
    begin_rows(&rows, TABLE_PARAMETER, id, snapshot);
    for (int part = 0; part < most && HeapTupleIsValid(tuple = next_row(&rows)); part++)
    {
        Datum values[3];
        bool nulls[3];

        CHECK_FOR_INTERRUPTS();
        heap_deform_tuple(tuple, RelationGetDescr(rows.rel), values, nulls);
        if (DatumGetInt32(values[1]) != part || part >= MAX_PARTS || !append_part(&bytes, length, values[2]))
        {
            bytes = NULL;
            break;
        }
    }
    end_rows(&rows);
    return bytes;
}

uint8 *
moe_catalog_read_parameters(const pg_uuid_t *id, Snapshot snapshot, int64 *length)
{
    return read_parts(id, snapshot, INT_MAX, length);
}

uint8 *
moe_catalog_read_first_parameters(const pg_uuid_t *id, Snapshot snapshot, int64 *length)
{
    return read_parts(id, snapshot, 1, length);
}

/* The places of a model's rows in a table, and who wrote them, mixed into a number. */
static uint64
mix_rows(uint64 version, catalog_table table, const pg_uuid_t *id, Snapshot snapshot)
{
    model_rows rows;
    HeapTuple tuple;

    begin_rows(&rows, table, id, snapshot);
    while (HeapTupleIsValid(tuple = next_row(&rows)))
    {
        version = moe_key(version, HeapTupleHeaderGetRawXmin(tuple->t_data));
        version = moe_key(version, ItemPointerGetBlockNumber(&tuple->t_self));
        version = moe_key(version, ItemPointerGetOffsetNumber(&tuple->t_self));
    }
    end_rows(&rows);
    return version;
}

uint64
moe_catalog_version(const pg_uuid_t *id, Snapshot snapshot)
{
    return mix_rows(mix_rows(0, TABLE_MODEL, id, snapshot), TABLE_PARAMETER, id, snapshot);
}

static void *
epoch_from(const Datum *values, const bool *nulls)
{
    moe_model_epoch *epoch = palloc(sizeof(moe_model_epoch));

    epoch->ensemble = DatumGetInt32(values[1]);
    epoch->epoch = DatumGetInt32(values[2]);
    epoch->train_loss = DatumGetFloat8(values[3]);
    epoch->metric = nulls[4] ? NAN : DatumGetFloat8(values[4]);
    epoch->best = DatumGetBool(values[5]);
    epoch->seconds = DatumGetFloat8(values[6]);
    return epoch;
}

static void *
expert_from(const Datum *values, const bool *nulls)
{
    moe_model_expert *expert = palloc(sizeof(moe_model_expert));

    expert->name = TextDatumGetCString(values[2]);
    expert->load = DatumGetFloat8(values[3]);
    expert->metric = nulls[4] ? NAN : DatumGetFloat8(values[4]);
    expert->parameters = DatumGetInt64(values[5]);
    expert->seconds = DatumGetFloat8(values[6]);
    return expert;
}

/* All rows of a model in a table of seven columns, in the primary key's order. */
static List *
read_rows(catalog_table table, const pg_uuid_t *id, Snapshot snapshot, void *(*from)(const Datum *, const bool *) )
{
    List *list = NIL;
    model_rows rows;
    HeapTuple tuple;

    begin_rows(&rows, table, id, snapshot);
    while (HeapTupleIsValid(tuple = next_row(&rows)))
    {
        Datum values[7];
        bool nulls[7];

        heap_deform_tuple(tuple, RelationGetDescr(rows.rel), values, nulls);
        list = lappend(list, from(values, nulls));
    }
    end_rows(&rows);
    return list;
}

void
moe_catalog_read_history(const pg_uuid_t *id, Snapshot snapshot, List **epochs, List **experts)
{
    *epochs = read_rows(TABLE_EPOCH, id, snapshot, epoch_from);
    *experts = read_rows(TABLE_EXPERT, id, snapshot, expert_from);
}

List *
moe_catalog_list(void)
{
    Oid relid = table_oid(TABLE_MODEL, true);
    List *ids = NIL;
    Relation rel;
    SysScanDesc scan;
    HeapTuple tuple;

    if (!OidIsValid(relid))
        return NIL;
    rel = table_open(relid, AccessShareLock);
    scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
    while (HeapTupleIsValid(tuple = systable_getnext(scan)))
    {
        pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
        bool null;

        *id = *DatumGetUUIDP(heap_getattr(tuple, COL_ID + 1, RelationGetDescr(rel), &null));
        ids = lappend(ids, id);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
    return ids;
}
