/*
 * model_make.h: a model on its way from a CREATE MODEL or REFRESH MODEL statement to what is stored.
 *
 * begin, train, store: in one transaction where the statement waits for the training. A training in the background
 * (background_worker.c) begins twice: in the transaction that reads the tables, and once more in the one that stores.
 */
#ifndef MOE_MODEL_MAKE_H
#define MOE_MODEL_MAKE_H

#include "storage/lockdefs.h"

#include "extension/model_catalog.h"
#include "extension/model_train.h"

typedef struct moe_making
{
    moe_statement *statement;        /* CREATE MODEL, or REFRESH MODEL */
    const moe_statement *definition; /* the CREATE MODEL that is trained: the statement, or what is stored */
    char *name;
    Oid schema;                     /* the model's */
    Oid existing;                   /* the relation to be replaced or refreshed, or InvalidOid */
    const moe_model_record *record; /* REFRESH: the model as it was at the beginning */
    int level;                      /* of the settings that the definition's names are looked up with */
    ErrorContextCallback context;
} moe_making;

/*
 * Find the model, or claim its name, and check what can be known beforehand: rights, and whether the name is free.
 * Locks, until the transaction ends, keep others from making the same one. False: there is nothing to do, as a NOTICE
 * has told.
 */
bool moe_making_begin(moe_making *making, moe_statement *statement);

/* The same for a statement upon a model that exists (or may be missing: IF EXISTS). */
bool moe_making_begin_stored(moe_making *making, moe_statement *statement, LOCKMODE lock);

/* Between these, names are looked up as they were when the definition was made. An error ends it as well. */
void moe_making_enter(moe_making *making);
void moe_making_leave(moe_making *making);

/* Store what was trained, under the name that was begun with; frees the training. */
void moe_making_store(moe_making *making, moe_training *training);

/* Raise if the tables are no longer those that a training has read; else bind it to what they are now. */
void moe_making_recheck(moe_making *making, moe_training *training);

#endif
