/*
 * model_command.h: what the files that run CREATE, ALTER, REFRESH and DROP MODEL share.
 */
#ifndef MOE_MODEL_COMMAND_H
#define MOE_MODEL_COMMAND_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "extension/model.h"
#include "extension/statement.h"

/* The column with the experts' weights, where a model shows it. */
#define MOE_EXPERTS_COLUMN "experts"

struct moe_model_record; /* model_catalog.h */
struct moe_training;     /* model_train.h */

/* The parts of a name as a list of String. */
List *moe_model_name_list(const RangeVar *name);
/* Raise: there is no model of this name. */
void moe_model_missing(const RangeVar *name) pg_attribute_noreturn();
/* Raise unless the relation is a model. */
void moe_model_require(Oid relid, const RangeVar *name);

/* Run a utility statement made here. text: the statement that it is part of. */
void moe_model_run_utility(Node *node, const char *text);
/* A relation's qualified name. */
RangeVar *moe_model_range_var(Oid relid);
/* Drop models with all that they stored. relids: of Oid */
void moe_model_drop(List *relids, DropBehavior behavior, const char *text);

/* Find and lock a model that the caller owns. InvalidOid after a NOTICE if it does not exist and may be missing. */
Oid moe_model_owned(const RangeVar *name, LOCKMODE lock, bool missing_ok);
/* Raise unless the caller may create models: what CREATE FOREIGN TABLE asks for, asked before the work. */
void moe_model_require_server(void);
/* The schema that a new model of this name belongs to, in which the caller may create it. Until the transaction ends
 * no other session makes a model of that name. */
Oid moe_model_claim_name(RangeVar *name);
/*
 * Put a training's result under a name: over the model `existing` (InvalidOid: none), keeping its grants where its
 * columns stay the same. Sets record.info.id and returns the model.
 */
Oid moe_model_install(struct moe_training *training, Oid existing, Oid schema, const RangeVar *name, const char *text);
/* Put a training's result over the model that it was trained from, whose columns stay. before: what it was. */
void moe_model_reinstall(struct moe_training *training, Oid relid, const struct moe_model_record *before);

/* ALTER MODEL (model_alter.c): RENAME, OWNER, SET SCHEMA; SET (...), RESET (...). */
void moe_model_alter_relation(const moe_statement *statement);
void moe_model_alter_options(moe_statement *statement);

#endif
