/*
 * model_command.h: what the files that run CREATE, ALTER, REFRESH and DROP MODEL share.
 */
#ifndef MOE_MODEL_COMMAND_H
#define MOE_MODEL_COMMAND_H

#include "postgres.h"

#include "nodes/primnodes.h"

#include "extension/model.h"
#include "extension/statement.h"

/* The parts of a name as a list of String. */
List *moe_model_name_list(const RangeVar *name);
/* Raise: there is no model of this name. */
void moe_model_missing(const RangeVar *name) pg_attribute_noreturn();
/* Raise unless the relation is a model. */
void moe_model_require(Oid relid, const RangeVar *name);

#endif
