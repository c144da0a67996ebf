/*
 * key.h: values given by a query as keys and times of a model.
 */
#ifndef MOE_KEY_H
#define MOE_KEY_H

#include "postgres.h"

#include "extension/model.h"

/*
 * Whether moe_key_convert takes values of type `from` to type `to` (base
 * types): the same or binary coercible, or integers of any width.
 */
bool moe_key_convertible(Oid from, Oid to);
/* Convert; false where no value of type `to` equals the value (out of range). */
bool moe_key_convert(Datum value, Oid from, Oid to, Datum *out);

/* The same for seed times: date, timestamp and timestamptz. Raises for infinite ones. */
bool moe_time_convertible(Oid from, Oid to);
int64 moe_time_convert(Datum value, Oid from, Oid to);

/*
 * The entity row for a key given as one argument: a value for a key of one
 * column, ROW(...) for any key. Casts as SQL would; -1 where no such row can
 * exist. Raises for types that do not fit.
 */
int32 moe_key_find(const moe_predictor *predictor, Datum value, Oid type);
/* The same for a key written as text, read by the key type's input function. */
int32 moe_key_find_text(const moe_predictor *predictor, const char *value);

/* The same for one value a key column, in key order. */
int32 moe_key_find_values(const moe_predictor *predictor, const Datum *values, const Oid *types, const bool *nulls);

/*
 * A query that gives keys in columns named as the entity's, restricted to one key (NULL: to none), whose n_key values
 * are added to the parameters.
 */
char *moe_key_restrict(const moe_schema *schema, const Datum *key, const char *query, Datum *values, int *n);
/* The types of the key's columns: [n_key]. */
void moe_key_types(const moe_schema *schema, Oid *types);

/* A row's key as text: the value's own for one column, as ROW(...) prints for more. */
char *moe_key_text(const moe_predictor *predictor, int32 row);

#endif
