/*
 * model_worker.h: train here, or in a process of its own that owns a device.
 */
#ifndef MOE_MODEL_WORKER_H
#define MOE_MODEL_WORKER_H

#include "extension/model_train.h"

/* As moe_model_train, on the device that the settings ask for. */
moe_training *moe_model_train_on_device(const moe_statement *statement, const char *name, Oid previous);

/*
 * Resolve all names of the statement and compile its labels, so that mistakes are told with their place in it. False if
 * it reads a temporary table, which no other process sees. *schema: the tables.
 */
bool moe_model_check(const moe_statement *statement, moe_schema **schema);

#endif
