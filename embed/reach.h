/*
 * reach.h: which rows around a row a computation looks at, as steps along keys.
 *
 * A step leads from the rows of an earlier one (or from the row itself) to
 * other rows. So that a prediction for one row needs these rows alone, and not the tables.
 */
#ifndef MOE_REACH_H
#define MOE_REACH_H

#define MOE_REACH_MAX  512
#define MOE_REACH_SELF (-1)

typedef enum moe_reach_kind
{
    MOE_REACH_CHILDREN, /* all rows whose `key` points at the rows of `from` */
    MOE_REACH_PARENT,   /* the rows that `key` of the rows of `from` points at */
    MOE_REACH_LATEST    /* the rows that `other` of the latest visible child over `key` points at */
} moe_reach_kind;

typedef struct moe_reach_step
{
    moe_reach_kind kind;
    int from; /* an earlier step, or MOE_REACH_SELF */
    int key;
    int other; /* LATEST; else -1 */
} moe_reach_step;

typedef struct moe_reach
{
    int n; /* MOE_REACH_MAX + 1: more steps than fit; the rest of it means nothing then */
    moe_reach_step step[MOE_REACH_MAX];
} moe_reach;

/* The number of a step, which is added if it is not there. A parent over the key that led to a child is where it came
 * from. */
int moe_reach_add(moe_reach *reach, moe_reach_kind kind, int from, int key, int other);

#endif
