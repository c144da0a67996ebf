/*
 * model_store.h: what a model learned, as bytes and back.
 */
#ifndef MOE_MODEL_STORE_H
#define MOE_MODEL_STORE_H

#include "postgres.h"

#include "embed/encoder.h"
#include "extension/model_past.h"
#include "extension/schema.h"
#include "gnn/mixture.h"
#include "kernels/buffer.h"

#define MOE_MAX_MEMBERS 64

typedef struct moe_member /* of the ensemble */
{
    uint64 seed;
    moe_params *params;
    moe_encoder *encoder;
    moe_model *model;
} moe_member;

typedef struct moe_stored /* a store opened for reading */
{
    moe_reader schema; /* for moe_schema_read */
    uint64 signature;  /* of the schema's shape */
    moe_features *features;
    moe_encoder_config encoder;
    moe_model_config model;
    struct moe_inputs *inputs;
    moe_kept_labels kept;
    moe_mixture *mixture;
    int members;       /* of the graph expert; 0: there is none */
    moe_reader reader; /* at the next member */
} moe_stored;

/* A hash over what parameters depend on: tables, columns with their types and roles, foreign keys, in order. */
uint64 moe_store_signature(const moe_schema *schema);

/* Write: begin, then each member, then end. Failures stand in the buffer's job. */
void moe_store_begin(moe_buffer *buffer, const moe_schema *schema, const struct moe_inputs *inputs,
                     const moe_features *features, const moe_encoder_config *encoder, const moe_model_config *model,
                     const moe_data *data, const moe_past_labels *kept, int members);
void moe_store_member(moe_buffer *buffer, const moe_member *member);
void moe_store_end(moe_buffer *buffer, const moe_mixture *mixture);

/*
 * Read all but the members and the mixture. bytes are hostile: they may be NULL or anything,
 * and must live as long as stored. On failure the job has MOE_CORRUPT or another code.
 */
moe_code moe_store_open(moe_job *job, const uint8 *bytes, int64 length, moe_stored *stored);
/* Of the first bytes of such, the schema; false if it does not lie in them whole. They are not checked by their sum. */
bool moe_store_schema(moe_job *job, const uint8 *bytes, int64 length, moe_reader *schema);
/* Read the next member's seed and parameters into a fresh moe_params. */
moe_code moe_store_next(moe_job *job, moe_stored *stored, moe_member *member);

/* Read the mixture, which follows the last member. */
moe_code moe_store_mixture(moe_job *job, moe_stored *stored);

/*
 * Put an encoder and a model over a member's parameters, adding those that are
 * missing. seed_inputs, arg: where the model's seed inputs come from, if it has any. number: of the member in its
 * ensemble, from 1. Every second member looks one hop less far (but at least one): near and far neighbourhoods err
 * differently, and their mean was better than either (docs/accuracy.md).
 */
moe_code moe_member_build(moe_job *job, const moe_graph *graph, moe_features *features,
                          const moe_encoder_config *encoder, const moe_model_config *config,
                          moe_seed_inputs_fn seed_inputs, void *arg, int number, moe_member *member);
void moe_member_destroy(moe_member *member);
/* The key of the neighbour draws in prediction. */
uint64 moe_member_key(const moe_member *member);

#endif
