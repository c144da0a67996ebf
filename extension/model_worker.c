/*
 * model_worker.c: a training in a process of its own, and its result on the way back.
 *
 * Where a device may be used, the whole training (reading included) is done by
 * a parallel worker (worker.h), which sees what this session sees. What it
 * learned comes back as bytes; this session stores it, so that a model is made
 * in the caller's transaction either way. Names are resolved and labels
 * compiled here once beforehand, so that mistakes are told with their place in
 * the statement.
 */
#include "extension/model_worker.h"

#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"

#include "extension/device.h"
#include "extension/model_record.h"
#include "extension/moe_ml.h"
#include "extension/progress.h"
#include "extension/schema_sql.h"
#include "extension/worker.h"

typedef struct train_request
{
    Oid previous;
    char name[NAMEDATALEN];
    char text[FLEXIBLE_ARRAY_MEMBER];
} train_request;

void
moe_worker_train(const char *bytes, Size length, moe_worker_answer *answer)
{
    const train_request *request = (const train_request *) bytes;
    moe_statement *statement = moe_statement_parse(request->text, 0, (int) strlen(request->text));
    moe_training *training;
    moe_job *job;
    moe_buffer head;
    int64 head_length;

    moe_progress_begin(request->name);
    training = moe_model_train(statement, request->name, request->previous);
    moe_progress_end();
    job = moe_job_in_context(training->context);
    moe_buffer_init(&head, job);
    moe_record_write(&head, &training->record, training->epochs, training->experts);
    moe_check(job, moe_job_code(job));
    head_length = head.length;
    moe_worker_put(answer, &head_length, sizeof(head_length));
    moe_worker_put(answer, head.data, head.length);
    moe_worker_put(answer, training->parameters.data, training->parameters.length);
    MemoryContextDelete(training->context);
}

/* The training that a worker's answer tells of. */
static moe_training *
receive_training(const char *bytes, Size length, const moe_schema *schema, MemoryContext context)
{
    moe_training *training = palloc0(sizeof(moe_training));
    moe_job *job = moe_job_in_context(context);
    moe_reader in;
    int64 head = 0;

    if (length >= sizeof(head))
        memcpy(&head, bytes, sizeof(head));
    if (length < sizeof(head) || head < 0 || head > length - sizeof(head))
        ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the process that trained the model ended early"),
                        errhint("Repeat the statement, with moe_ml.device = 'cpu' if it happens again.")));
    moe_reader_init(&in, job, bytes + sizeof(head), head);
    moe_check(job, moe_record_read(&in, &training->record, &training->epochs, &training->experts));
    moe_buffer_init(&training->parameters, job);
    moe_put_bytes(&training->parameters, bytes + sizeof(head) + head, (int64) (length - sizeof(head) - head));
    moe_check(job, moe_job_code(job));
    training->schema = schema;
    training->context = context;
    return training;
}

/* Whether a query reads a temporary table, which no other process sees. */
static bool
reads_temporary(const char *sql)
{
    bool temporary = false;
    SPIPlanPtr plan;
    ListCell *lc;

    SPI_connect();
    plan = SPI_prepare(sql, 0, NULL);
    if (plan == NULL)
        elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    foreach (lc, SPI_plan_get_plan_sources(plan))
    {
        ListCell *relation;

        foreach (relation, ((CachedPlanSource *) lfirst(lc))->relationOids)
            temporary |= get_rel_persistence(lfirst_oid(relation)) == RELPERSISTENCE_TEMP;
    }
    SPI_finish();
    return temporary;
}

bool
moe_model_check(const moe_statement *statement, moe_schema **schema)
{
    moe_model_options *options = moe_model_options_parse(statement->options);
    int level = moe_sql_begin_model(NULL);
    bool visible = true;
    moe_read_only reading;

    PushActiveSnapshot(GetTransactionSnapshot());
    moe_read_only_begin(&reading);
    *schema = moe_model_discover(statement, options, true);
    moe_model_options_times(options, (*schema)->time_type);
    for (int t = 0; t < (*schema)->n_tables; t++)
        visible &= get_rel_persistence((*schema)->tables[t].relid) != RELPERSISTENCE_TEMP;
    visible = visible && !reads_temporary(moe_label_query_compile(statement, *schema, &options->labels)->sql);
    PopActiveSnapshot();
    moe_read_only_end(&reading);
    moe_sql_end(level);
    return visible;
}

/* Ask a worker; NULL, and why, if there is none. */
static char *
ask_worker(const moe_statement *statement, const char *name, Oid previous, Size *length, const char **reason)
{
    Size size = offsetof(train_request, text) + strlen(statement->text) + 1;
    train_request *request = palloc0(size);
    char *answer;

    request->previous = previous;
    strlcpy(request->name, name, NAMEDATALEN);
    strcpy(request->text, statement->text);
    PushActiveSnapshot(GetTransactionSnapshot());
    moe_progress_phase(MOE_PHASE_ELSEWHERE, NULL);
    answer = moe_worker_run(MOE_WORKER_TRAIN, (const char *) request, size, length, reason);
    PopActiveSnapshot();
    return answer;
}

moe_training *
moe_model_train_on_device(const moe_statement *statement, const char *name, Oid previous)
{
    const char *reason = "The model reads temporary tables, which only this session can see.";
    MemoryContext context, old;
    moe_training *training;
    moe_schema *schema;
    char *answer = NULL;
    Size length = 0;

    if (!moe_device_wanted())
        return moe_model_train(statement, name, previous);
    context = AllocSetContextCreate(CurrentMemoryContext, "moe_ml training", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(context);
    if (moe_model_check(statement, &schema))
        answer = ask_worker(statement, name, previous, &length, &reason);
    if (answer == NULL)
    {
        MemoryContextSwitchTo(old);
        MemoryContextDelete(context);
        moe_device_missing(reason);
        return moe_model_train(statement, name, previous);
    }
    training = receive_training(answer, length, schema, context);
    pfree(answer);
    moe_device_found(training->record.device);
    MemoryContextSwitchTo(old);
    return training;
}
