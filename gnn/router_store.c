/*
 * router_store.c: a router as bytes, and back; what is read may be hostile.
 */
#include "gnn/router_net.h"

#define FORMAT 1

void
moe_router_write(const moe_router *router, moe_buffer *buffer)
{
    const moe_router_config *c = &router->config;
    moe_put_u8(buffer, FORMAT);
    moe_put_u8(buffer, (uint8_t) router->kind);
    moe_put_i32(buffer, c->experts);
    moe_put_i32(buffer, c->shared);
    moe_put_i32(buffer, c->top_k);
    moe_put_u8(buffer, (uint8_t) c->routing);
    moe_put_f32(buffer, c->temperature);
    moe_put_f32(buffer, c->balance_weight);
    moe_put_f32(buffer, c->z_weight);
    moe_put_i64(buffer, (int64_t) c->seed);
    moe_put_i32(buffer, router->width);
    if (router->kind == MOE_ROUTER_EQUAL)
        return;
    for (int j = 0; j < router->inputs; j++)
    {
        moe_put_f64(buffer, router->mean[j]);
        moe_put_f64(buffer, router->scale[j]);
    }
    for (int64_t k = 0; k < ((int64_t) router->inputs + 1) * c->experts; k++)
        moe_put_f64(buffer, router->weight[k]);
    for (int e = 0; e < c->experts; e++)
        moe_put_f64(buffer, router->threshold[e]);
}

/* The next number, which must be between low and high; else *fits becomes false. */
static double
get_within(moe_reader *reader, double low, double high, bool *fits)
{
    double value = moe_get_f64(reader);
    bool good = value >= low && value <= high;
    *fits = *fits && good;
    return good ? value : low;
}

static moe_code
read_network(moe_reader *reader, moe_router *router)
{
    bool fits = true;
    int experts = router->config.experts;
    for (int j = 0; j < router->inputs; j++)
    {
        router->mean[j] = get_within(reader, -1e39, 1e39, &fits);
        router->scale[j] = get_within(reader, 0, 1e31, &fits);
    }
    for (int64_t k = 0; k < ((int64_t) router->inputs + 1) * experts; k++)
        router->weight[k] = get_within(reader, -MOE_ROUTER_WEIGHT, MOE_ROUTER_WEIGHT, &fits);
    for (int e = 0; e < experts; e++)
        router->threshold[e] = get_within(reader, 0, 1, &fits);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    return fits ? MOE_OK : moe_fail(reader->job, MOE_CORRUPT, "a stored router holds a number out of range");
}

moe_code
moe_router_read(moe_job *job, moe_reader *reader, moe_router **out)
{
    moe_router_config c = {0};
    *out = NULL;
    int format = moe_get_u8(reader);
    int kind = moe_get_u8(reader);
    c.experts = moe_get_i32(reader);
    c.shared = moe_get_i32(reader);
    c.top_k = moe_get_i32(reader);
    c.routing = (moe_routing) moe_get_u8(reader);
    c.temperature = moe_get_f32(reader);
    c.balance_weight = moe_get_f32(reader);
    c.z_weight = moe_get_f32(reader);
    c.seed = (uint64_t) moe_get_i64(reader);
    int width = moe_get_i32(reader);
    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    const char *problem = moe_router_config_problem(&c);
    if (format != FORMAT || kind >= MOE_ROUTER_KINDS || width < 0 || width > MOE_ROUTER_WIDTH)
        problem = "unknown format, kind or width";
    if (problem != NULL)
        return moe_fail(job, MOE_CORRUPT, "a stored router is damaged: %s", problem);
    moe_router *router;
    moe_code code = moe_router_create(job, &c, (moe_router_kind) kind, width, &router);
    if (code == MOE_OK && kind != MOE_ROUTER_EQUAL)
        code = read_network(reader, router);
    if (code == MOE_OK)
        *out = router;
    else
        moe_router_destroy(router);
    return code;
}
