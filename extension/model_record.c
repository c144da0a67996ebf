/*
 * model_record.c: the record and the history of a training as bytes.
 *
 * Counts are checked against the bytes that remain, texts against the
 * database's encoding, numbers against what a training can give.
 */
#include "postgres.h"

#include <math.h>

#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"

#include "extension/model_record.h"
#include "extension/model_store.h"

#define MOST_CLASSES 4096

static void
put_optional(moe_buffer *out, const char *text)
{
    moe_put_u8(out, text != NULL);
    moe_put_string(out, text);
}

static void
put_history(moe_buffer *out, List *epochs, List *experts)
{
    ListCell *lc;

    moe_put_i64(out, list_length(epochs));
    foreach (lc, epochs)
    {
        const moe_model_epoch *epoch = lfirst(lc);

        moe_put_i32(out, epoch->ensemble);
        moe_put_i32(out, epoch->epoch);
        moe_put_f64(out, epoch->train_loss);
        moe_put_f64(out, epoch->metric);
        moe_put_u8(out, epoch->best);
        moe_put_f64(out, epoch->seconds);
    }
    moe_put_i64(out, list_length(experts));
    foreach (lc, experts)
    {
        const moe_model_expert *expert = lfirst(lc);

        moe_put_string(out, expert->name);
        moe_put_f64(out, expert->load);
        moe_put_f64(out, expert->metric);
        moe_put_i64(out, expert->parameters);
        moe_put_f64(out, expert->seconds);
    }
}

void
moe_record_write(moe_buffer *out, const moe_model_record *record, List *epochs, List *experts)
{
    const moe_model_info *info = &record->info;

    moe_put_string(out, info->definition);
    moe_put_string(out, info->training_query);
    put_optional(out, info->population);
    put_optional(out, info->history_query);
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
    put_history(out, epochs, experts);
}

static void
require(const moe_reader *in, bool sane, const char *what)
{
    if (!sane)
        moe_fail(in->job, MOE_CORRUPT, "%s is not what a training gives", what);
}

static char *
get_text(moe_reader *in)
{
    char *text = pstrdup(moe_get_string(in));

    require(in, pg_verifymbstr(text, (int) strlen(text), true), "the encoding of a text");
    return text;
}

static char *
get_optional(moe_reader *in)
{
    bool given = moe_get_u8(in) != 0;
    char *text = get_text(in);

    return given ? text : NULL;
}

/* A duration, or another number that is finite and not negative. */
static double
get_amount(moe_reader *in)
{
    double value = moe_get_f64(in);

    require(in, isfinite(value) && value >= 0, "an amount");
    return value;
}

static int64
get_number(moe_reader *in)
{
    int64 value = moe_get_i64(in);

    require(in, value >= 0, "a number");
    return value;
}

/* A metric or a loss; NaN says that there is none. */
static double
get_metric(moe_reader *in)
{
    double value = moe_get_f64(in);

    require(in, !isinf(value), "a metric");
    return value;
}

static int64
get_time(moe_reader *in)
{
    int64 value = moe_get_i64(in);

    require(in, value == DT_NOEND || IS_VALID_TIMESTAMP(value), "a time");
    return value;
}

static void
get_classes(moe_reader *in, moe_model_info *info)
{
    info->task = (moe_task_type) moe_get_i32(in);
    info->n_classes = moe_get_i32(in);
    require(in,
            info->task >= MOE_BINARY && info->task <= MOE_MULTICLASS && info->n_classes >= 1 &&
                info->n_classes <= MOST_CLASSES && (info->task == MOE_MULTICLASS || info->n_classes == 1),
            "the task");
    if (moe_job_code(in->job) != MOE_OK || info->task != MOE_MULTICLASS)
        return;
    info->classes = palloc(sizeof(char *) * info->n_classes);
    for (int i = 0; i < info->n_classes; i++)
        info->classes[i] = get_text(in);
}

static void
get_record(moe_reader *in, moe_model_record *record)
{
    moe_model_info *info = &record->info;

    info->definition = get_text(in);
    info->training_query = get_text(in);
    info->population = get_optional(in);
    info->history_query = get_optional(in);
    info->search_path = get_text(in);
    get_classes(in, info);
    info->label_type = (Oid) moe_get_i32(in);
    info->window = get_number(in);
    info->validation_from = get_time(in);
    info->test_from = get_time(in);
    info->is_static = moe_get_u8(in) != 0;
    info->ensembles = moe_get_i32(in);
    info->experts = moe_get_i32(in);
    require(in,
            info->ensembles >= 0 && info->ensembles <= MOE_MAX_MEMBERS && info->experts >= 1 &&
                info->experts <= MOE_EXPERT_KINDS,
            "the number of experts");
    record->trained_at = get_time(in);
    record->entity = get_text(in);
    record->options = get_text(in);
    record->show_experts = moe_get_u8(in) != 0;
    for (int i = 0; i < 3; i++)
        record->rows[i] = get_number(in);
    record->metric = get_text(in);
    record->validation_metric = get_metric(in);
    record->train_seconds = get_amount(in);
    record->stages = get_text(in);
    record->device = get_text(in);
    record->peak_memory = get_number(in);
    record->parameters = get_number(in);
}

static moe_model_epoch *
get_epoch(moe_reader *in)
{
    moe_model_epoch *epoch = palloc0(sizeof(moe_model_epoch));

    epoch->ensemble = moe_get_i32(in);
    epoch->epoch = moe_get_i32(in);
    require(in, epoch->ensemble >= 1 && epoch->ensemble <= MOE_MAX_MEMBERS && epoch->epoch >= 1, "an epoch");
    epoch->train_loss = get_metric(in);
    epoch->metric = get_metric(in);
    epoch->best = moe_get_u8(in) != 0;
    epoch->seconds = get_amount(in);
    return epoch;
}

static moe_model_expert *
get_expert(moe_reader *in)
{
    moe_model_expert *expert = palloc0(sizeof(moe_model_expert));

    expert->name = get_text(in);
    expert->load = get_metric(in);
    expert->metric = get_metric(in);
    expert->parameters = get_number(in);
    expert->seconds = get_amount(in);
    return expert;
}

moe_code
moe_record_read(moe_reader *in, moe_model_record *record, List **epochs, List **experts)
{
    int64 n;

    get_record(in, record);
    n = moe_job_code(in->job) == MOE_OK ? moe_get_count(in, 1) : 0;
    for (int64 i = 0; i < n && moe_job_code(in->job) == MOE_OK; i++)
        *epochs = lappend(*epochs, get_epoch(in));
    n = moe_job_code(in->job) == MOE_OK ? moe_get_count(in, 1) : 0;
    require(in, n <= MOE_EXPERT_KINDS, "the number of experts");
    for (int64 i = 0; i < n && moe_job_code(in->job) == MOE_OK; i++)
        *experts = lappend(*experts, get_expert(in));
    return moe_job_code(in->job);
}
