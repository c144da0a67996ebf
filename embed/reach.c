/*
 * reach.c: a list of steps, each there once.
 */
#include "embed/reach.h"

int
moe_reach_add(moe_reach *reach, moe_reach_kind kind, int from, int key, int other)
{
    if (reach->n > MOE_REACH_MAX)
        return MOE_REACH_SELF;
    if (kind == MOE_REACH_PARENT && from >= 0 && reach->step[from].kind == MOE_REACH_CHILDREN &&
        reach->step[from].key == key)
        return reach->step[from].from;
    for (int s = 0; s < reach->n; s++)
    {
        const moe_reach_step *step = &reach->step[s];
        if (step->kind == kind && step->from == from && step->key == key && step->other == other)
            return s;
    }
    if (reach->n == MOE_REACH_MAX)
    {
        reach->n++;
        return MOE_REACH_SELF;
    }
    reach->step[reach->n] = (moe_reach_step){kind, from, key, other};
    return reach->n++;
}
