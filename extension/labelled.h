/*
 * labelled.h: the rows of a query that gives keys, times and labels, bound to a model's entity.
 */
#ifndef MOE_LABELLED_H
#define MOE_LABELLED_H

#include "postgres.h"

#include "extension/model.h"

typedef enum moe_labelled_kind
{
    MOE_LABELLED_OWN,       /* the model's training query: a class the model does not know leaves the row out */
    MOE_LABELLED_GIVEN,     /* a user's query: an unknown class is an error */
    MOE_LABELLED_PREDICTION /* labels are carried as text, unchecked, and may be missing */
} moe_labelled_kind;

typedef struct moe_labelled
{
    int64 n;
    int32 *row; /* entity rows; all arrays in order of time, then row */
    int64 *time;
    float *label; /* 0/1, value, or class number; not for PREDICTION */
    char **text;  /* PREDICTION: the label, or NULL */
    int *split;   /* index into splits */
    int n_splits; /* distinct values of the query's column `split`, or the one name given */
    char **splits;
    int64 unknown_keys; /* rows left out, by reason */
    int64 unlabelled;
    int64 unknown_classes;
} moe_labelled;

/*
 * Run a query under the caller's privileges and snapshot. Its columns: the
 * entity's key columns by name; as_of, or else its only date or timestamp;
 * label, or else its only other column; and, if there is one, split. Raises
 * for missing, doubtful or ill-typed columns. What is returned lives in
 * CurrentMemoryContext. `split` names the rows of a query without that column.
 */
moe_labelled *moe_labelled_read(const moe_predictor *predictor, const char *query, moe_labelled_kind kind,
                                const char *split);

/*
 * The labels of a predictive query's entities `first` to `last` windows before the anchor, or of the one of a key
 * (NULL: all): its history query.
 */
moe_labelled *moe_labelled_history(const moe_predictor *predictor, const Datum *key, int64 anchor, int first, int last);

/* Tell the user, in one NOTICE, of the rows left out. */
void moe_labelled_report(const moe_labelled *labelled);

#endif
