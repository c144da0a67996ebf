/*
 * mixture_store.c: a mixture as bytes and back.
 *
 * Layout: format (u8), task, the bending, kinds and roles, then each dense
 * expert and its version for stale seeds, the router if there is one, the
 * calibration, that of stale seeds, what stops early. What is read must fit
 * together.
 */
#include "gnn/mixture_private.h"

#include <float.h>
#include <math.h>

#define FORMAT 4

void
moe_mixture_write(const moe_mixture *m, moe_buffer *buffer)
{
    unsigned kinds = 0;
    for (int e = 0; e < m->n; e++)
        kinds |= 1u << m->experts[e].kind;
    moe_put_u8(buffer, FORMAT);
    moe_put_i32(buffer, m->task.task);
    moe_put_i32(buffer, m->task.n_classes);
    moe_put_f64(buffer, m->task.low);
    moe_put_f64(buffer, m->task.high);
    moe_put_f64(buffer, m->shift);
    moe_put_f64(buffer, m->scale);
    moe_put_i32(buffer, (int32_t) kinds);
    moe_put_i64(buffer, m->width);
    moe_put_bytes(buffer, m->role, m->width);
    for (int e = 0; e < m->n; e++)
    {
        const moe_mixture_expert *expert = &m->experts[e];
        if (expert->kind == MOE_EXPERT_GRAPH)
            continue;
        moe_dense_expert_write(expert->dense, buffer);
        moe_put_u8(buffer, expert->stale != NULL);
        if (expert->stale != NULL)
            moe_dense_expert_write(expert->stale, buffer);
    }
    moe_put_u8(buffer, m->router != NULL);
    if (m->router != NULL)
        moe_router_write(m->router, buffer);
    moe_calibration_write(&m->calibration, buffer);
    moe_calibration_write(&m->stale_calibration, buffer);
    moe_calibration_write(&m->early, buffer);
    moe_cascade_write(&m->curve, buffer);
    moe_put_f64(buffer, m->threshold);
    moe_put_u8(buffer, m->reading != NULL);
    if (m->reading != NULL)
        moe_dense_expert_write(m->reading, buffer);
}

/* What tells how much there is to read, if that is stored. */
static moe_code
read_reading(moe_reader *reader, moe_mixture *m)
{
    if (moe_get_u8(reader) == 0)
        return moe_reader_code(reader);
    moe_code code = moe_dense_expert_read(m->job, reader, &m->reading);
    if (code == MOE_OK &&
        (moe_mixture_find(m, MOE_EXPERT_GLANCE) < 0 || moe_dense_expert_kind(m->reading) != MOE_DENSE_TREES ||
         moe_dense_expert_width(m->reading) != moe_mixture_seen(m, MOE_EXPERT_GLANCE) ||
         moe_dense_expert_task(m->reading)->task != MOE_REGRESSION ||
         moe_dense_expert_task(m->reading)->n_classes != 1))
        code = moe_fail(m->job, MOE_CORRUPT, "what is stored of rows to read does not fit its mixture");
    return code;
}

/* What is needed to stop rows early. */
static moe_code
read_early(moe_reader *reader, moe_mixture *m)
{
    moe_code code = moe_calibration_read(reader, &m->early);
    if (code == MOE_OK)
        code = moe_cascade_read(reader, &m->curve);
    m->threshold = moe_get_f64(reader);
    if (code == MOE_OK)
        code = moe_reader_code(reader);
    if (code != MOE_OK)
        return code;
    bool able = moe_mixture_find(m, MOE_EXPERT_GLANCE) >= 0 && m->n > 1 && m->task.task != MOE_REGRESSION;
    bool on_curve = m->threshold == -1;
    for (int p = 0; p < m->curve.points; p++)
        on_curve = on_curve || m->threshold == m->curve.point[p].threshold;
    if (m->early.task != m->task.task || (m->curve.points > 0 && !able) || !on_curve)
        return moe_fail(m->job, MOE_CORRUPT, "what is stored of stopping early does not fit its mixture");
    return read_reading(reader, m);
}

/* Read one version of an expert, which must fit. */
static moe_code
read_version(moe_reader *reader, const moe_mixture *m, const moe_mixture_expert *expert, moe_dense_expert **out)
{
    int width = moe_mixture_seen(m, expert->kind);
    moe_code code = moe_dense_expert_read(m->job, reader, out);
    if (code != MOE_OK)
        return code;
    const moe_dense_task *task = moe_dense_expert_task(*out);
    if (moe_dense_expert_kind(*out) == moe_mixture_dense_kinds[expert->kind] && moe_dense_expert_width(*out) == width &&
        task->task == m->task.task && task->n_classes == m->task.n_classes)
        return MOE_OK;
    return moe_fail(m->job, MOE_CORRUPT, "a stored expert does not fit its mixture");
}

/* Read the experts, the router and the calibration of a mixture whose shape is known. */
static moe_code
read_parts(moe_reader *reader, moe_mixture *m)
{
    moe_code code = MOE_OK;
    for (int e = 0; e < m->n && code == MOE_OK; e++)
    {
        moe_mixture_expert *expert = &m->experts[e];
        if (expert->kind == MOE_EXPERT_GRAPH)
            continue;
        code = read_version(reader, m, expert, &expert->dense);
        if (code == MOE_OK && moe_get_u8(reader) != 0)
            code = read_version(reader, m, expert, &expert->stale);
    }
    if (code == MOE_OK && moe_get_u8(reader) != 0)
        code = moe_router_read(m->job, reader, &m->router);
    if (code == MOE_OK && m->router != NULL &&
        (moe_router_experts(m->router) != m->n || moe_router_width(m->router) != m->n_cheap))
        code = moe_fail(m->job, MOE_CORRUPT, "the stored router does not fit its mixture");
    if (code == MOE_OK)
        code = moe_calibration_read(reader, &m->calibration);
    if (code == MOE_OK)
        code = moe_calibration_read(reader, &m->stale_calibration);
    if (code == MOE_OK && (m->calibration.task != m->task.task || m->stale_calibration.task != m->task.task))
        code = moe_fail(m->job, MOE_CORRUPT, "the stored calibration is of another task");
    return code == MOE_OK ? read_early(reader, m) : code;
}

moe_code
moe_mixture_read(moe_job *job, moe_reader *reader, moe_mixture **out)
{
    *out = NULL;
    uint8_t format = moe_get_u8(reader);
    moe_dense_task task = {.task = (moe_task_type) moe_get_i32(reader)};
    task.n_classes = moe_get_i32(reader);
    task.low = moe_get_f64(reader);
    task.high = moe_get_f64(reader);
    double shift = moe_get_f64(reader);
    double scale = moe_get_f64(reader);
    int32_t kinds = moe_get_i32(reader);
    int64_t width = moe_get_count(reader, 1);
    moe_code code = moe_reader_code(reader);
    if (code != MOE_OK)
        return code;
    bool multiclass = task.task == MOE_MULTICLASS;
    if (format != FORMAT || task.task < MOE_BINARY || task.task > MOE_MULTICLASS ||
        !(task.low >= -FLT_MAX && task.low <= task.high && task.high <= FLT_MAX) || !isfinite(shift) ||
        !isfinite(scale) || !(scale > 0) ||
        (multiclass ? task.n_classes < 2 || task.n_classes > 4096 : task.n_classes != 1) || kinds < 1 ||
        kinds >= 1 << MOE_EXPERT_KINDS || width > MOE_MIXTURE_WIDTH)
        return moe_fail(job, MOE_CORRUPT, "the stored mixture is damaged");
    uint8_t *role = moe_alloc(job, width, sizeof *role);
    if (role == NULL)
        return moe_job_code(job);
    moe_get_bytes(reader, role, width);
    code = moe_reader_code(reader);
    moe_mixture *m = NULL;
    if (code == MOE_OK)
        code = moe_mixture_create(job, &task, shift, scale, (unsigned) kinds, (int) width, role, &m);
    moe_free(job, role);
    if (code == MOE_OK)
        code = read_parts(reader, m);
    if (code != MOE_OK)
    {
        moe_mixture_destroy(m);
        return code;
    }
    *out = m;
    return MOE_OK;
}
