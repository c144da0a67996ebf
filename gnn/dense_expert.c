/*
 * dense_expert.c: one table of kinds, and what is common to them: checks and the head of the stored form.
 *
 * A kind sees rows whose width, labels and weights were checked here.
 */
#include "gnn/dense_expert.h"

#include <float.h>
#include <math.h>

#define FORMAT       1
#define MOST_WIDTH   (1 << 20)
#define MOST_CLASSES (1 << 20)

struct moe_dense_expert
{
    moe_job *job;
    moe_dense_kind kind;
    moe_dense_task task;
    int width;
    void *state;
};

static const moe_dense_class *const classes[MOE_DENSE_KINDS] = {
    [MOE_DENSE_LINEAR] = &moe_dense_linear,       [MOE_DENSE_TABULAR] = &moe_dense_tabular,
    [MOE_DENSE_RETRIEVAL] = &moe_dense_retrieval, [MOE_DENSE_ARM] = &moe_dense_arm,
    [MOE_DENSE_TREES] = &moe_dense_trees,
};

static bool
task_valid(const moe_dense_task *task)
{
    switch (task->task)
    {
        case MOE_BINARY:
            return task->n_classes == 1;
        case MOE_REGRESSION:
            return task->n_classes == 1 && task->low >= -FLT_MAX && task->low <= task->high && task->high <= FLT_MAX;
        case MOE_MULTICLASS:
            return task->n_classes >= 2 && task->n_classes <= MOST_CLASSES;
        default:
            return false;
    }
}

static bool
label_valid(const moe_dense_task *task, float label)
{
    if (task->task == MOE_REGRESSION)
        return isfinite(label);
    int most = task->task == MOE_BINARY ? 1 : task->n_classes - 1;
    return label >= 0 && label <= (float) most && label == floorf(label);
}

/* Labels that fit the task, and weights that do not sum to 0. */
static moe_code
check_labelled(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows)
{
    double total = 0;
    if (rows->label == NULL)
        return moe_fail(job, MOE_INVALID, "rows to learn from have no labels");
    for (int64_t i = 0; i < rows->n; i++)
    {
        float weight = rows->weight == NULL ? 1 : rows->weight[i];
        if (!label_valid(task, rows->label[i]))
            return moe_fail(job, MOE_INVALID, "the label of row %lld is %g", (long long) i, rows->label[i]);
        if (!(weight >= 0 && isfinite(weight)))
            return moe_fail(job, MOE_INVALID, "the weight of row %lld is %g", (long long) i, weight);
        total += weight;
    }
    if (!(total > 0))
        return moe_fail(job, MOE_INVALID, "there are no rows to learn from");
    return MOE_OK;
}

static moe_code
check_width(moe_job *job, const moe_dense_rows *rows, int width)
{
    if (rows->n >= 0 && rows->width == width && width >= 0 && width <= MOST_WIDTH)
        return MOE_OK;
    return moe_fail(job, MOE_INVALID, "%lld rows of %d inputs for an expert over %d", (long long) rows->n, rows->width,
                    width);
}

static moe_dense_expert *
create(moe_job *job, moe_dense_kind kind, const moe_dense_task *task, int width)
{
    moe_dense_expert *expert = moe_alloc(job, 1, sizeof *expert);
    if (expert != NULL)
        *expert = (moe_dense_expert){.job = job, .kind = kind, .task = *task, .width = width};
    return expert;
}

moe_code
moe_dense_expert_fit(moe_job *job, moe_dense_kind kind, const moe_dense_task *task, const moe_dense_rows *train,
                     const moe_dense_rows *valid, uint64_t seed, moe_dense_expert **out)
{
    const moe_dense_rows none = {.width = train->width};
    *out = NULL;
    if ((int) kind < 0 || kind >= MOE_DENSE_KINDS || !task_valid(task))
        return moe_fail(job, MOE_INVALID, "no expert of kind %d for %d classes", (int) kind, task->n_classes);
    if (valid == NULL || valid->n == 0)
        valid = &none;
    moe_code code = check_width(job, train, train->width);
    if (code == MOE_OK)
        code = check_width(job, valid, train->width);
    if (code == MOE_OK)
        code = check_labelled(job, task, train);
    if (code == MOE_OK && valid->n > 0)
        code = check_labelled(job, task, valid);
    moe_dense_expert *expert = code == MOE_OK ? create(job, kind, task, train->width) : NULL;
    if (expert == NULL)
        return moe_job_code(job);
    code = classes[kind]->fit(job, task, train, valid, seed, &expert->state);
    if (code == MOE_OK)
        *out = expert;
    else
        moe_dense_expert_destroy(expert);
    return code;
}

moe_code
moe_dense_expert_predict(moe_dense_expert *expert, const moe_dense_rows *rows, float *prediction)
{
    moe_code code = check_width(expert->job, rows, expert->width);
    if (code != MOE_OK)
        return code;
    return classes[expert->kind]->predict(expert->job, expert->state, &expert->task, rows, prediction);
}

moe_code
moe_dense_expert_predict_self(moe_dense_expert *expert, const moe_dense_rows *train, float *prediction)
{
    const moe_dense_class *class = classes[expert->kind];
    if (class->predict_self == NULL)
        return moe_dense_expert_predict(expert, train, prediction);
    moe_code code = check_width(expert->job, train, expert->width);
    if (code != MOE_OK)
        return code;
    return class->predict_self(expert->job, expert->state, &expert->task, train, prediction);
}

void
moe_dense_expert_destroy(moe_dense_expert *expert)
{
    if (expert == NULL)
        return;
    if (expert->state != NULL)
        classes[expert->kind]->destroy(expert->job, expert->state);
    moe_free(expert->job, expert);
}

moe_dense_kind
moe_dense_expert_kind(const moe_dense_expert *expert)
{
    return expert->kind;
}

int
moe_dense_expert_width(const moe_dense_expert *expert)
{
    return expert->width;
}

const moe_dense_task *
moe_dense_expert_task(const moe_dense_expert *expert)
{
    return &expert->task;
}

const char *
moe_dense_kind_name(moe_dense_kind kind)
{
    return (int) kind >= 0 && kind < MOE_DENSE_KINDS ? classes[kind]->name : "";
}

int64_t
moe_dense_expert_parameters(const moe_dense_expert *expert)
{
    return classes[expert->kind]->parameters(expert->state);
}

void
moe_dense_expert_write(const moe_dense_expert *expert, moe_buffer *buffer)
{
    moe_put_u8(buffer, FORMAT);
    moe_put_u8(buffer, (uint8_t) expert->kind);
    moe_put_u8(buffer, (uint8_t) expert->task.task);
    moe_put_i32(buffer, expert->task.n_classes);
    moe_put_f64(buffer, expert->task.low);
    moe_put_f64(buffer, expert->task.high);
    moe_put_i32(buffer, expert->width);
    classes[expert->kind]->write(expert->state, buffer);
}

moe_code
moe_dense_expert_read(moe_job *job, moe_reader *reader, moe_dense_expert **out)
{
    moe_dense_task task;
    *out = NULL;
    uint8_t format = moe_get_u8(reader), kind = moe_get_u8(reader);
    task.task = (moe_task_type) moe_get_u8(reader);
    task.n_classes = moe_get_i32(reader);
    task.low = moe_get_f64(reader);
    task.high = moe_get_f64(reader);
    int32_t width = moe_get_i32(reader);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (format != FORMAT || kind >= MOE_DENSE_KINDS || !task_valid(&task) || width < 0 || width > MOST_WIDTH)
        return moe_fail(job, MOE_CORRUPT, "a stored expert does not read back");
    moe_dense_expert *expert = create(job, (moe_dense_kind) kind, &task, width);
    if (expert == NULL)
        return moe_job_code(job);
    moe_code code = classes[kind]->read(job, reader, &expert->task, width, &expert->state);
    if (code == MOE_OK)
        *out = expert;
    else
        moe_dense_expert_destroy(expert);
    return code;
}
