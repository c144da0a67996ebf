/*
 * model_labels.h: labelled seeds, read by the training query and checked.
 */
#ifndef MOE_MODEL_LABELS_H
#define MOE_MODEL_LABELS_H

#include "postgres.h"

#include "extension/label_query.h"
#include "extension/reader.h"
#include "gnn/trainer.h"

#define MOE_MAX_CLASSES 1000

typedef struct moe_labels
{
    moe_task_type task;
    int n_classes;  /* 1 unless MULTICLASS */
    char **classes; /* MULTICLASS: in byte order */
    Oid label_type;
    int64 window;
    moe_samples train;
    moe_samples validation;
    int64 rows[3];                  /* train, validation, test */
    int64 last_train_time;          /* the newest training seed time */
    double shift, scale, low, high; /* REGRESSION, of the training labels */
} moe_labels;

/*
 * Run the training query as the caller, find each key's entity row, and check
 * what came. Arrays come from CurrentMemoryContext. What cannot be used is
 * counted in NOTICEs; raises for no training labels, one class only, labels
 * that are not finite or do not fit the task, and keys that are all unknown.
 */
moe_labels *moe_labels_read(const moe_label_query *query, const moe_data *data);

#endif
