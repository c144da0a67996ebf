/*
 * observe.h: eight properties of embeddings of rows and tables, measured.
 *
 * After Cong, Hulsebos, Sun, Groth, Jagadish: Observatory: Characterizing
 * Embeddings of Relational Tables (VLDB 2024), who measured language models
 * over tables. Definitions as adapted to encoders of rows: docs/observatory.md.
 *
 * A row's embedding is what the embedder gives; a table's the mean of its
 * rows'. Figures are functions of the sampled rows, the parameters and the key
 * alone.
 */
#ifndef MOE_OBSERVE_H
#define MOE_OBSERVE_H

#include "embed/embedder.h"

/* Rows of one table in groups that join to the same row of another. */
typedef struct moe_observed_join
{
    int table; /* whose columns the rows have */
    const moe_table *rows;
    const int32_t *parent; /* [rows->n_rows] ascending */
} moe_observed_join;

typedef struct moe_observed
{
    const moe_embedder *embedder;
    int n_tables;
    const moe_table *const *tables; /* sampled rows of each, nothing in them hidden; the first is the entity's */
    int n_joins;
    const moe_observed_join *joins;
    uint64_t key; /* of all random draws */
} moe_observed;

/* What is found, in order; a property has one to three figures, its own first. */
typedef enum moe_finding_kind
{
    MOE_ROW_ORDER,
    MOE_COLUMN_ORDER,
    MOE_JOIN_RANK,
    MOE_JOIN_LINKED,
    MOE_JOIN_OTHER,
    MOE_DEPENDENCY_HELD,
    MOE_DEPENDENCY_SHUFFLED,
    MOE_FIDELITY_QUARTER,
    MOE_FIDELITY_HALF,
    MOE_FIDELITY_THREE_QUARTERS,
    MOE_STABILITY,
    MOE_STABILITY_CHANCE,
    MOE_ROBUST_NUMBERS,
    MOE_ROBUST_NULL,
    MOE_ROBUST_OTHER,
    MOE_CONTEXT_ALONE,
    MOE_CONTEXT_NUMBERS,
    MOE_CONTEXT_OTHERS,
    MOE_FINDINGS
} moe_finding_kind;

typedef struct moe_finding
{
    const char *property;
    const char *meaning; /* for people, at most 27 characters */
    double figure;       /* NaN: there was nothing to measure it on */
    int64_t samples;     /* that it is a mean over; 0: none */
} moe_finding;

/* Measure all; out has room for MOE_FINDINGS. */
moe_code moe_observe(moe_job *job, const moe_observed *observed, moe_finding *out);

#endif
