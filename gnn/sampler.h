/*
 * sampler.h: a tree of visible neighbours for every seed.
 *
 * For each seed, hop by hop: for each frontier node and each edge type into
 * its table, at most fanout[hop] neighbours visible at the seed's horizon,
 * without replacement. A node occurrence belongs to one seed; the rows (with
 * the mask of what is hidden from that seed) behind all occurrences are listed
 * once each, so that a row is encoded once however often it occurs.
 *
 * Ages count back from the seed time, but from no more than `staleness` after
 * the newest row, of any table, that the seed may see: a prediction asked for
 * long after the last row (or of a database cut off in the past) then looks
 * like the ones made in training, whose data is never staler than that.
 *
 * A draw is a function of (random key, the seed row's identity, seed time,
 * path by places in visible prefixes, number of visible children) alone: no
 * row that is not visible, or not on the way, and no other seed of the batch
 * can change it.
 */
#ifndef MOE_SAMPLER_H
#define MOE_SAMPLER_H

#include "gnn/graph.h"

#define MOE_MAX_HOPS   4
#define MOE_MAX_FANOUT 1024

typedef struct moe_seeds
{
    int table;
    int64_t n;
    const int32_t *row;     /* entity rows */
    const int64_t *time;    /* seed times, microseconds */
    const int64_t *horizon; /* what may be seen: row time <= horizon; NULL: the seed time itself */
} moe_seeds;

typedef enum moe_sampling
{
    MOE_SAMPLE_UNIFORM,
    MOE_SAMPLE_LATEST
} moe_sampling;

typedef struct moe_sampler_config
{
    int hops;                 /* 1..MOE_MAX_HOPS */
    int fanout[MOE_MAX_HOPS]; /* 1..MOE_MAX_FANOUT */
    moe_sampling sampling;
    int64_t staleness;           /* microseconds, 0 or more; INT64_MAX: ages count back from the seed time always */
    uint64_t key;                /* of the random draws */
    const bool *disabled_tables; /* NULL, or per table: treat as if it had no rows (for explanation) */
} moe_sampler_config;

/* The occurrences of one table at one depth (0: the seeds). */
typedef struct moe_level
{
    int64_t n;
    int32_t *seed;   /* [n] which seed's tree */
    int32_t *unique; /* [n] index into the table's unique rows; -1: a seed whose own row may not be seen */
    int64_t *age;    /* [n] microseconds from the row to the seed time, see above; 0 for rows without a time */
} moe_level;

/* Messages of one edge type into the occurrences of its destination table at depth d, from depth d + 1. */
typedef struct moe_hop_edges
{
    int64_t *offset;  /* [n destinations + 1]; NULL where the edge type has no message at this depth */
    int32_t *source;  /* occurrence index in the source table's level d + 1, by row time within a destination */
    int32_t *visible; /* [n destinations] visible neighbours, before the cut at the fanout */
} moe_hop_edges;

typedef struct moe_sample
{
    int hops;
    int n_tables;
    int n_edge_types;
    moe_level *levels;    /* [(hops + 1) * n_tables]: depth d, table t at d * n_tables + t */
    moe_hop_edges *edges; /* [hops * n_edge_types]: depth d, edge type e at d * n_edge_types + e */
    int64_t *n_unique;    /* [n_tables] */
    int32_t **row;        /* [n_tables][n_unique] */
    uint8_t **hidden;     /* [n_tables][n_unique]; a table without late columns has NULL */
} moe_sample;

/*
 * Sample on the job's threads. A seed row that is itself later than the horizon shows neither its columns nor its
 * parents; of a disabled entity table the seeds stay, without their columns. The edge by which an occurrence was
 * reached is not excluded on the way down (a child's parents include the row it was reached from), as in PyG.
 * Everything is allocated from the arena. *out is valid until the arena's reset. */
moe_code moe_sample_trees(moe_arena *arena, const moe_graph *graph, const moe_seeds *seeds,
                          const moe_sampler_config *config, moe_sample **out);

#endif
