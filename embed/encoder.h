/*
 * encoder.h: table embeddings: a row's columns become one vector.
 *
 * Per column an encoder to `channels` (numeric, category, hashed category in
 * one table shared by all columns, time, text, vector); the column vectors are
 * concatenated (or summed, see encoder.c for what is done and why) and pass
 * residual blocks. Trainable parameters live in a moe_params under the names
 * "embed/<table number>/...".
 */
#ifndef MOE_ENCODER_H
#define MOE_ENCODER_H

#include "embed/features.h"
#include "kernels/tape.h"

typedef struct moe_encoder moe_encoder;

typedef struct moe_encoder_config
{
    int channels; /* width of the row vectors */
    int blocks;   /* residual blocks, 0 or more */
    float dropout;
} moe_encoder_config;

/* Register the parameters of an encoder over bound features. features must outlive the encoder. */
moe_code moe_encoder_create(moe_job *job, moe_features *features, const moe_encoder_config *config, moe_params *params,
                            moe_encoder **out);
void moe_encoder_destroy(moe_encoder *encoder);

/*
 * Encode n rows of one table: [n, channels]. hidden[i] is a mask of columns
 * (by hidden_bit) that this occurrence of the row must not show: they are
 * encoded exactly as NULL is. hidden may be NULL: nothing hidden. Rows may
 * repeat. Its type is the encode callback of gnn/model.h.
 */
moe_var *moe_encoder_forward(void *encoder, moe_tape *tape, int table, const int32_t *rows, const uint8_t *hidden,
                             int64_t n);

#endif
