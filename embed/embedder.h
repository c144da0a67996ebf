/*
 * embedder.h: rows in, embeddings out, for whoever studies embeddings (observe.h).
 *
 * An embedder is a few functions, so that a study can be tried on embeddings
 * whose properties are known. The one here is over the trained encoders of an
 * ensemble: it encodes tables that need not be those the features are bound
 * to, and leaves features and parameters as they are.
 */
#ifndef MOE_EMBEDDER_H
#define MOE_EMBEDDER_H

#include "embed/features.h"
#include "kernels/params.h"

typedef enum moe_column_kind
{
    MOE_COLUMN_UNUSED, /* no embedding depends on it */
    MOE_COLUMN_NUMBER, /* it enters as a number alone, not as a category too */
    MOE_COLUMN_OTHER
} moe_column_kind;

typedef struct moe_embedder
{
    void *arg;
    int members;  /* of an ensemble: spaces of their own */
    int channels; /* of each: a row's embedding is [members * channels] */
    /*
     * What follows is about this table, and its columns will come in this order: the i-th is column order[i] of the
     * table. NULL: as they are.
     */
    moe_code (*prepare)(void *arg, int table, const int *order);
    /* Embed all rows of a table of the shape prepared: [n_rows, members * channels]. */
    moe_code (*embed)(void *arg, const moe_table *rows, float *out);
    /* What a column of a table is. */
    moe_column_kind (*kind)(void *arg, int table, int column);
} moe_embedder;

/*
 * Over fitted features and the parameters of each member's encoder (embed/encoder.h), all of which must outlive it.
 * MOE_INVALID where the parameters are not an encoder's.
 */
moe_code moe_embedder_create(moe_job *job, const moe_features *features, moe_params *const *params, int members,
                             moe_embedder *out);
void moe_embedder_destroy(moe_embedder *embedder);

#endif
