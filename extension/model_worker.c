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
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"
#include "extension/worker.h"

typedef struct train_request
{
    Oid previous;
    char name[NAMEDATALEN];
    char text[FLEXIBLE_ARRAY_MEMBER];
} train_request;

static void
put_record(moe_buffer *out, const moe_model_record *record)
{
    const moe_model_info *info = &record->info;

    moe_put_string(out, info->definition);
    moe_put_string(out, info->training_query);
    moe_put_u8(out, info->population != NULL);
    moe_put_string(out, info->population);
    moe_put_u8(out, info->history_query != NULL);
    moe_put_string(out, info->history_query);
    moe_put_string(out, info->search_path);
    moe_put_i32(out, info->task);
    moe_put_i32(out, info->n_classes);
    for (int i = 0; info->task == MOE_MULTICLASS && i < info->n_classes; i++)
        moe_put_string(out, info->classes[i]);
    moe_put_i32(out, (int32) info->label_type);
    moe_put_i64(out, info->window);
    moe_put_i64(out, info->validation_from);
    moe_put_i64(out, info->test_from);
    moe_put_u8(out, info->is_static);
    moe_put_i32(out, info->ensembles);
    moe_put_i32(out, info->experts);
    moe_put_i64(out, record->trained_at);
    moe_put_string(out, record->entity);
    moe_put_string(out, record->options);
    moe_put_u8(out, record->show_experts);
    for (int i = 0; i < 3; i++)
        moe_put_i64(out, record->rows[i]);
    moe_put_string(out, record->metric);
    moe_put_f64(out, record->validation_metric);
    moe_put_f64(out, record->train_seconds);
    moe_put_string(out, record->stages);
    moe_put_string(out, record->device);
    moe_put_i64(out, record->peak_memory);
    moe_put_i64(out, record->parameters);
}

static char *
get_text(moe_reader *in)
{
    return pstrdup(moe_get_string(in));
}

static void
get_record(moe_reader *in, moe_model_record *record)
{
    moe_model_info *info = &record->info;
    bool has_population, has_history;

    info->definition = get_text(in);
    info->training_query = get_text(in);
    has_population = moe_get_u8(in) != 0;
    info->population = get_text(in);
    if (!has_population)
        info->population = NULL;
    has_history = moe_get_u8(in) != 0;
    info->history_query = get_text(in);
    if (!has_history)
        info->history_query = NULL;
    info->search_path = get_text(in);
    info->task = (moe_task_type) moe_get_i32(in);
    info->n_classes = moe_get_i32(in);
    if (info->task == MOE_MULTICLASS)
        info->classes = palloc(sizeof(char *) * Max(info->n_classes, 1));
    for (int i = 0; info->task == MOE_MULTICLASS && i < info->n_classes; i++)
        info->classes[i] = get_text(in);
    info->label_type = (Oid) moe_get_i32(in);
    info->window = moe_get_i64(in);
    info->validation_from = moe_get_i64(in);
    info->test_from = moe_get_i64(in);
    info->is_static = moe_get_u8(in) != 0;
    info->ensembles = moe_get_i32(in);
    info->experts = moe_get_i32(in);
    record->trained_at = moe_get_i64(in);
    record->entity = get_text(in);
    record->options = get_text(in);
    record->show_experts = moe_get_u8(in) != 0;
    for (int i = 0; i < 3; i++)
        record->rows[i] = moe_get_i64(in);
    record->metric = get_text(in);
    record->validation_metric = moe_get_f64(in);
    record->train_seconds = moe_get_f64(in);
    record->stages = get_text(in);
    record->device = get_text(in);
    record->peak_memory = moe_get_i64(in);
    record->parameters = moe_get_i64(in);
}

static void
put_history(moe_buffer *out, const moe_training *training)
{
    ListCell *lc;

    moe_put_i64(out, list_length(training->epochs));
    foreach (lc, training->epochs)
    {
        const moe_model_epoch *epoch = lfirst(lc);

        moe_put_i32(out, epoch->ensemble);
        moe_put_i32(out, epoch->epoch);
        moe_put_f64(out, epoch->train_loss);
        moe_put_f64(out, epoch->metric);
        moe_put_u8(out, epoch->best);
        moe_put_f64(out, epoch->seconds);
    }
    moe_put_i64(out, list_length(training->experts));
    foreach (lc, training->experts)
    {
        const moe_model_expert *expert = lfirst(lc);

        moe_put_string(out, expert->name);
        moe_put_f64(out, expert->load);
        moe_put_f64(out, expert->metric);
        moe_put_i64(out, expert->parameters);
        moe_put_f64(out, expert->seconds);
    }
}

static void
get_history(moe_reader *in, moe_training *training)
{
    int64 n = moe_get_count(in, 1);

    for (int64 i = 0; i < n; i++)
    {
        moe_model_epoch *epoch = palloc0(sizeof(moe_model_epoch));

        epoch->ensemble = moe_get_i32(in);
        epoch->epoch = moe_get_i32(in);
        epoch->train_loss = moe_get_f64(in);
        epoch->metric = moe_get_f64(in);
        epoch->best = moe_get_u8(in) != 0;
        epoch->seconds = moe_get_f64(in);
        training->epochs = lappend(training->epochs, epoch);
    }
    n = moe_get_count(in, 1);
    for (int64 i = 0; i < n; i++)
    {
        moe_model_expert *expert = palloc0(sizeof(moe_model_expert));

        expert->name = get_text(in);
        expert->load = moe_get_f64(in);
        expert->metric = moe_get_f64(in);
        expert->parameters = moe_get_i64(in);
        expert->seconds = moe_get_f64(in);
        training->experts = lappend(training->experts, expert);
    }
}

void
moe_worker_train(const char *bytes, Size length, moe_worker_answer *answer)
{
    const train_request *request = (const train_request *) bytes;
    moe_statement *statement = moe_statement_parse(request->text, 0, (int) strlen(request->text));
    moe_training *training = moe_model_train(statement, request->name, request->previous);
    moe_job *job = moe_job_in_context(training->context);
    moe_buffer head;
    int64 head_length;

    moe_buffer_init(&head, job);
    put_record(&head, &training->record);
    put_history(&head, training);
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
    get_record(&in, &training->record);
    get_history(&in, training);
    moe_check(job, moe_reader_code(&in));
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

/* Resolve all names of the statement; false if something it reads is out of another process's sight. */
static bool
check_statement(const moe_statement *statement, moe_schema **schema)
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
    if (check_statement(statement, &schema))
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
