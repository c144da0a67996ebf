/*
 * observe_internal.h: what the files of the study share.
 *
 * observe.c          running it, and what is about whole tables
 * observe_join.c     rows that join
 * observe_columns.c  dependencies and contexts of columns
 */
#ifndef MOE_OBSERVE_INTERNAL_H
#define MOE_OBSERVE_INTERNAL_H

#include "embed/observe.h"

#define MOE_OBSERVED_COLUMNS 16 /* of a table, where a figure is made for each, or for each pair */

typedef struct moe_study
{
    moe_job *job;
    const moe_observed *observed;
    moe_arena *arena; /* what one step needs; reset between steps */
    int width;        /* of an embedding */
    double sum[MOE_FINDINGS];
    int64_t samples[MOE_FINDINGS];
} moe_study;

/* A value to be averaged into a finding, as if seen `samples` times. */
void moe_study_note(moe_study *study, moe_finding_kind kind, double value, int64_t samples);
/* Embed rows; the embeddings lie in the arena. NULL on failure. */
float *moe_study_embed(moe_study *study, const moe_table *rows);
/* Embed rows without the flagged columns, as if those were NULL. */
float *moe_study_embed_without(moe_study *study, const moe_table *rows, const bool *hide);
/* The columns of a table that embeddings depend on: at most `limit` of them; returns their number. */
int moe_study_columns(const moe_study *study, int table, int limit, int *columns);
/* A random place below n. */
int64_t moe_study_draw(uint64_t key, int64_t counter, int64_t n);

/* Each measures one table, or one join, on prepared embeddings. */
moe_code moe_study_join(moe_study *study, const moe_observed_join *join, uint64_t key);
moe_code moe_study_columns_of(moe_study *study, int table);

#endif
