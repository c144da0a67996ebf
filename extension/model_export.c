/*
 * model_export.c: one model as bytes, and a model made of such bytes.
 *
 * Layout: magic (8 bytes), version (i32), length of the content (i64), checksum
 * of the content (i64), then the content: the name of the database's encoding,
 * the record and history (model_record.c), and the stored parameters
 * (model_store.c) as they stand in the catalog.
 *
 * Bytes come from anybody, so an import takes nothing from them on trust. SQL
 * that others will run when they ask the model (who counts, past labels) is
 * not taken at all: it is compiled from the definition, as CREATE MODEL
 * does, with the importer's privileges. The parameters are bound to the tables
 * here by name, and the model is opened once before the statement ends: what
 * cannot predict is not imported.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "extension/model_command.h"
#include "extension/model_inputs.h"
#include "extension/model_record.h"
#include "extension/model_store.h"
#include "extension/model_train_internal.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "kernels/random.h"

MOE_FUNCTION(moe_export_model);
MOE_FUNCTION(moe_import_model);

#define EXPORT_VERSION 1
#define HEADER_BYTES   28
#define EXPORT_KEY     UINT64CONST(0x6d6f655f65787001)

static const char magic[8] = {'m', 'o', 'e', '_', 'e', 'x', '\r', '\n'};

static RangeVar *
name_from(text *name)
{
    return makeRangeVarFromNameList(textToQualifiedNameList(name));
}

static void
put_content(moe_buffer *out, Oid relid)
{
    Snapshot snapshot = moe_catalog_snapshot();
    moe_model_record *record = moe_model_load_record(relid, snapshot);
    List *epochs, *experts;
    uint8 *parameters;
    int64 length;

    moe_catalog_read_history(&record->info.id, snapshot, &epochs, &experts);
    parameters = moe_catalog_read_parameters(&record->info.id, snapshot, &length);
    UnregisterSnapshot(snapshot);
    if (parameters == NULL)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the stored parameters of model \"%s\" are damaged", get_rel_name(relid)),
                        errdetail("Parts of them are missing."),
                        errhint("REFRESH MODEL %s trains it again.", quote_identifier(get_rel_name(relid)))));
    moe_put_string(out, GetDatabaseEncodingName());
    moe_record_write(out, record, epochs, experts);
    moe_put_i64(out, length);
    moe_put_bytes(out, parameters, length);
    pfree(parameters);
}

Datum
moe_export_model(PG_FUNCTION_ARGS)
{
    Oid relid = moe_model_owned(name_from(PG_GETARG_TEXT_PP(0)), AccessShareLock, false);
    moe_job *job = moe_job_in_context(CurrentMemoryContext);
    moe_buffer content, head;
    bytea *result;

    moe_buffer_init(&content, job);
    put_content(&content, relid);
    moe_buffer_init(&head, job);
    moe_put_bytes(&head, magic, sizeof(magic));
    moe_put_i32(&head, EXPORT_VERSION);
    moe_put_i64(&head, content.length);
    moe_put_i64(&head, (int64) moe_hash_bytes(content.data, content.length, EXPORT_KEY));
    moe_check(job, moe_job_code(job));
    if (content.length > (int64) MaxAllocSize - VARHDRSZ - HEADER_BYTES)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("model \"%s\" is too large to be exported as one value", get_rel_name(relid)),
                 errhint("pg_dump takes models of any size: dump the schema moe_ml with the model's foreign table.")));
    result = palloc(VARHDRSZ + head.length + content.length);
    SET_VARSIZE(result, VARHDRSZ + head.length + content.length);
    memcpy(VARDATA(result), head.data, head.length);
    memcpy(VARDATA(result) + head.length, content.data, content.length);
    PG_RETURN_BYTEA_P(result);
}

/* Bytes that are given are no stored model: nothing of the database is damaged, and training is no cure. */
static void
explain_import(void *arg)
{
    if (geterrcode() == ERRCODE_DATA_CORRUPTED)
    {
        errcode(ERRCODE_INVALID_BINARY_REPRESENTATION);
        errhint("Export the model again with moe_ml.export_model(), and copy all of the bytes.");
    }
    errcontext("import of model \"%s\"", ((const RangeVar *) arg)->relname);
}

static moe_code
open_header(moe_job *job, const char *bytes, int64 length, moe_reader *in)
{
    char start[sizeof(magic)];
    int32 version;

    if (length < (int64) sizeof(magic) || memcmp(bytes, magic, sizeof(magic)) != 0)
        return moe_fail(job, MOE_CORRUPT, "the bytes are not an exported model");
    if (length < HEADER_BYTES)
        return moe_fail(job, MOE_CORRUPT, "the exported model is not complete");
    moe_reader_init(in, job, bytes, length);
    moe_get_bytes(in, start, sizeof(start));
    version = moe_get_i32(in);
    if (version != EXPORT_VERSION)
        return moe_fail(job, MOE_CORRUPT, "the model was exported in format %d; this version reads format %d",
                        (int) version, EXPORT_VERSION);
    if (moe_get_i64(in) != length - HEADER_BYTES)
        return moe_fail(job, MOE_CORRUPT, "the exported model is not complete");
    if ((uint64) moe_get_i64(in) != moe_hash_bytes(bytes + HEADER_BYTES, length - HEADER_BYTES, EXPORT_KEY))
        return moe_fail(job, MOE_CORRUPT, "the checksum of the exported model does not match");
    return MOE_OK;
}

static void
check_encoding(moe_reader *in)
{
    char *encoding = moe_get_string(in);

    if (moe_reader_code(in) != MOE_OK || strcmp(encoding, GetDatabaseEncodingName()) == 0)
        return;
    if (pg_char_to_encoding(encoding) < 0)
        moe_check(in->job, moe_fail(in->job, MOE_CORRUPT, "the exported model names no encoding"));
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("the model was exported from a database of encoding %s; this one has %s", encoding,
                           GetDatabaseEncodingName()),
                    errhint("Import it into a database of encoding %s.", encoding)));
}

/* Read the bytes as a training; what refers to the other database is still in it. */
static void
read_training(moe_training *training, moe_job *job, const char *bytes, int64 length)
{
    moe_reader in;
    int64 n;

    moe_check(job, open_header(job, bytes, length, &in));
    check_encoding(&in);
    moe_check(job, moe_record_read(&in, &training->record, &training->epochs, &training->experts));
    n = moe_get_count(&in, 1);
    moe_check(job, moe_reader_code(&in));
    if (n != in.length - in.position)
        moe_check(job, moe_fail(job, MOE_CORRUPT, "the exported model has bytes that do not belong to it"));
    moe_buffer_init(&training->parameters, job);
    moe_put_bytes(&training->parameters, in.data + in.position, n);
    moe_check(job, moe_job_code(job));
}

/* The tables that the parameters are of, as they are here; all that does not fit is named. */
static void
bind_tables(moe_training *training, moe_job *job, const char *name)
{
    moe_stored stored = {0};
    moe_reader listing;
    char *misfits;

    moe_check(job, moe_store_open(job, training->parameters.data, training->parameters.length, &stored));
    listing = stored.schema;
    misfits = moe_schema_misfits(&listing, name);
    if (misfits != NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the tables of this database do not fit model \"%s\"", name), errdetail("%s", misfits),
                        errhint("Make them as they are where the model was exported, with the same names, or train a "
                                "model of the tables here with CREATE MODEL.")));
    training->schema = moe_schema_read(&stored.schema, name);
    moe_check(job, moe_reader_code(&stored.schema));
}

/* Compile the labels of the definition. The split is the model's own, whatever rows are newest here. */
static moe_label_query *
compile_labels(const moe_statement *statement, const moe_schema *schema, moe_label_options *labels,
               const moe_model_info *info)
{
    moe_label_query *query = moe_label_query_compile(statement, schema, labels);

    if (query->validation_from == info->validation_from && query->test_from == info->test_from)
        return query;
    if (labels->split_column || TIMESTAMP_NOT_FINITE(info->validation_from) || TIMESTAMP_NOT_FINITE(info->test_from))
        return query;
    labels->has_validation_from = labels->has_test_from = true;
    labels->validation_from = info->validation_from;
    labels->test_from = info->test_from;
    return moe_label_query_compile(statement, schema, labels);
}

/* Compile the definition over the tables here: its SQL, and what follows from it, replace what was read. */
static void
compile_definition(moe_training *training)
{
    moe_model_record *record = &training->record;
    moe_model_info *info = &record->info;
    moe_statement *statement = moe_statement_parse(info->definition, 0, (int) strlen(info->definition));
    moe_model_options *options;
    moe_label_query *query;

    if (statement->kind != MOE_CREATE_MODEL ||
        RangeVarGetRelid(statement->entity, AccessShareLock, true) != training->schema->tables[0].relid)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("the definition is not of a model of table \"%s\"", training->schema->tables[0].name)));
    options = moe_model_options_parse(statement->options);
    moe_model_options_times(options, training->schema->time_type);
    query = compile_labels(statement, training->schema, &options->labels, info);
    if (query->task != info->task && !query->task_from_values)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the labels here make a %s task, those of the model a %s task",
                               moe_model_task_name(query->task), moe_model_task_name(info->task)),
                        errhint("Train a model of the tables here with CREATE MODEL.")));
    info->training_query = query->sql;
    info->population = query->population;
    info->history_query = query->history;
    info->label_type = query->label_type;
    info->is_static = query->is_static;
    info->validation_from = query->validation_from;
    info->test_from = query->test_from;
    record->entity = moe_schema_qualified(&training->schema->tables[0]);
    record->metric = moe_train_metric(info->task);
    record->show_experts = options->show_experts;
    record->created_at = GetCurrentTimestamp();
}

static moe_training *
prepare(const RangeVar *name, const char *bytes, int64 length)
{
    moe_training *training = palloc0(sizeof(moe_training));
    moe_job *job = moe_job_in_context(CurrentMemoryContext);
    moe_read_only reading;
    int level;

    training->context = CurrentMemoryContext;
    read_training(training, job, bytes, length);
    PushActiveSnapshot(GetTransactionSnapshot());
    moe_read_only_begin(&reading);
    bind_tables(training, job, name->relname);
    level = moe_sql_begin_model(training->record.info.search_path);
    compile_definition(training);
    moe_sql_end(level);
    moe_read_only_end(&reading);
    PopActiveSnapshot();
    return training;
}

/* Open the model as a prediction does, which reads and checks all that is stored. */
static void
try_model(Oid relid)
{
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml import", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(context);
    moe_read_only reading;

    PushActiveSnapshot(GetTransactionSnapshot());
    moe_read_only_begin(&reading);
    moe_predictor_open(relid);
    moe_read_only_end(&reading);
    PopActiveSnapshot();
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
}

Datum
moe_import_model(PG_FUNCTION_ARGS)
{
    RangeVar *name = name_from(PG_GETARG_TEXT_PP(0));
    ErrorContextCallback context = {error_context_stack, explain_import, name};
    moe_training *training;
    bytea *data;
    Oid schema;

    PreventCommandIfReadOnly("moe_ml.import_model()");
    PreventCommandIfParallelMode("moe_ml.import_model()");
    PreventCommandDuringRecovery("moe_ml.import_model()");
    schema = moe_model_claim_name(name);
    if (OidIsValid(get_relname_relid(name->relname, schema)))
        ereport(ERROR, (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists", name->relname),
                        errhint("Import it under another name, or drop what is there first.")));
    moe_model_require_server();
    data = PG_GETARG_BYTEA_PP(1);
    error_context_stack = &context;
    training = prepare(name, VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
    try_model(moe_model_install(training, InvalidOid, schema, name, "moe_ml.import_model"));
    error_context_stack = context.previous;
    PG_RETURN_VOID();
}
