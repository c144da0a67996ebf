/*
 * model_train.h: from a statement to what its model learned.
 */
#ifndef MOE_MODEL_TRAIN_H
#define MOE_MODEL_TRAIN_H

#include "extension/model_catalog.h"
#include "extension/model_options.h"
#include "extension/statement.h"

typedef struct moe_training
{
    moe_model_record record; /* info.id, created_at: left to the caller */
    moe_buffer parameters;
    List *epochs;  /* of moe_model_epoch * */
    List *experts; /* of moe_model_expert * */
    const moe_schema *schema;
    MemoryContext context;     /* holds all of it; delete when done */
    struct moe_train_run *run; /* of a training in this process */
} moe_training;

/* The tables that the statement's model sees. quiet: no NOTICE about rules. */
moe_schema *moe_model_discover(const moe_statement *statement, const moe_model_options *options, bool quiet);

/*
 * Train the model that a CREATE MODEL statement describes, reading as the
 * caller, in this process. previous: InvalidOid, or the model whose stored
 * parameters to start from where they still fit. name: of the model, for people.
 */
moe_training *moe_model_train(const moe_statement *statement, const char *name, Oid previous);

/*
 * The same in two steps. All that is read of the database is read by the first, under one snapshot. The second runs no
 * SQL and needs no snapshot, but a transaction, for output functions look into the catalog: another than the first's
 * will do, as long as the memory context current at the first call lives.
 */
moe_training *moe_model_read(const moe_statement *statement, Oid previous);
void moe_model_learn(moe_training *training, const char *name);

#endif
