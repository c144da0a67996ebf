/*
 * model_catalog.h: the tables of schema moe_ml that hold models, by direct
 * table access.
 */
#ifndef MOE_MODEL_CATALOG_H
#define MOE_MODEL_CATALOG_H

#include "extension/model.h"
#include "kernels/buffer.h"
#include "utils/snapshot.h"

#define MOE_MODEL_FORMAT 9 /* of the stored parameters and of what is computed for them; raised when either changes */

typedef struct moe_model_record /* row of moe_ml.model */
{
    moe_model_info info;
    TimestampTz created_at, trained_at;
    char *entity;
    char *options;      /* JSON */
    bool show_experts;  /* as a column of the foreign table, which alone remembers it; of a record that was trained */
    int64 rows[3];      /* train, validation, test */
    const char *metric; /* name */
    double validation_metric; /* NaN: none */
    double train_seconds;
    char *stages; /* JSON */
    char *device; /* that trained it: "cpu", or a device's name */
    int64 peak_memory;
    int64 parameters;
} moe_model_record;

typedef struct moe_model_epoch /* row of moe_ml.model_epoch */
{
    int ensemble, epoch; /* from 1 */
    double train_loss;
    double metric; /* NaN: none */
    bool best;
    double seconds;
} moe_model_epoch;

typedef struct moe_model_expert /* row of moe_ml.model_expert */
{
    const char *name;
    double load;   /* mean gate over the validation rows */
    double metric; /* of the expert alone on the validation rows; NaN: none */
    int64 parameters;
    double seconds; /* it was trained for */
} moe_model_expert;

/* "binary", "regression", "multiclass" */
const char *moe_model_task_name(moe_task_type task);
/* Replace all rows of record->info.id. epochs: of moe_model_epoch *, experts: of moe_model_expert *. */
void moe_catalog_store(const moe_model_record *record, const moe_buffer *parameters, List *epochs, List *experts);
/* Write another definition into a model's row, and the value of its option `show`, unless that is NULL. */
void moe_catalog_set_definition(const pg_uuid_t *id, const char *definition, const char *show);
/* Delete all rows of a model. */
void moe_catalog_delete(const pg_uuid_t *id);
/* A registered snapshot of now, for reads that belong together. */
Snapshot moe_catalog_snapshot(void);
/* The row of moe_ml.model, or NULL. name: the model's, for errors about a row that is not valid. */
moe_model_record *moe_catalog_read(const pg_uuid_t *id, const char *name, Snapshot snapshot);
/* The stored parameters' bytes in one piece, palloc'd; NULL if there are none or a part is missing. */
uint8 *moe_catalog_read_parameters(const pg_uuid_t *id, Snapshot snapshot, int64 *length);
/* The first of them, in which the schema lies unless it is huge. */
uint8 *moe_catalog_read_first_parameters(const pg_uuid_t *id, Snapshot snapshot, int64 *length);
/* A number that stands for the rows of a model and its parameters: another when they are written anew. */
uint64 moe_catalog_version(const pg_uuid_t *id, Snapshot snapshot);
/* The epochs (of moe_model_epoch *) and experts (of moe_model_expert *) of a model. */
void moe_catalog_read_history(const pg_uuid_t *id, Snapshot snapshot, List **epochs, List **experts);
/* The uuids (pg_uuid_t *) of all models stored. */
List *moe_catalog_list(void);

/* The uuid in a foreign table's option `model`; false if the relation is not a model. */
bool moe_model_id(Oid relid, pg_uuid_t *id);
/* The nearest name of a model that the user may select from, as one would write it, or NULL. */
const char *moe_model_nearest(const char *name);
/* The catalog row of a model's relation; raises when it is gone. */
moe_model_record *moe_model_load_record(Oid relid, Snapshot snapshot);

#endif
