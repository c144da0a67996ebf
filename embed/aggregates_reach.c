/*
 * aggregates_reach.c: the rows around a row that a plan's columns look at.
 *
 * Beside those that values come from, the rows that decide which events there
 * are: a grandchild's parent, the latest child on the way to another owner.
 */
#include "embed/aggregates_plan.h"

static int
reach_owner(const moe_agg_path *path, moe_reach *reach)
{
    if (path->kind == MOE_AGG_SELF)
        return MOE_REACH_SELF;
    if (path->kind == MOE_AGG_KEY)
        return moe_reach_add(reach, MOE_REACH_PARENT, MOE_REACH_SELF, path->key, -1);
    moe_reach_add(reach, MOE_REACH_CHILDREN, MOE_REACH_SELF, path->key, -1);
    return moe_reach_add(reach, MOE_REACH_LATEST, MOE_REACH_SELF, path->key, path->other);
}

void
moe_aggregates_reach(const moe_aggregates *a, moe_reach *reach)
{
    for (int p = 0; p < a->n_parts; p++)
    {
        const moe_agg_part *part = &a->parts[p];
        const moe_agg_stream *stream;
        int owner, events;

        if (part->n == 0)
            continue;
        owner = reach_owner(&a->paths[part->path], reach);
        if (part->stream < 0)
            continue;
        stream = &a->streams[part->stream];
        events = moe_reach_add(reach, MOE_REACH_CHILDREN, owner, stream->key, -1);
        if (stream->below >= 0)
            events = moe_reach_add(reach, MOE_REACH_CHILDREN, events, stream->below, -1);
        if (part->other >= 0)
        {
            int shared = moe_reach_add(reach, MOE_REACH_PARENT, events, part->other, -1);

            if (part->kind == MOE_AGG_PART_SIBLINGS || part->beyond >= 0)
                moe_reach_add(reach, MOE_REACH_CHILDREN, shared,
                              part->kind == MOE_AGG_PART_SIBLINGS ? part->other : part->beyond, -1);
        }
    }
}
