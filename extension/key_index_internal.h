/*
 * key_index_internal.h: what the key_index*.c files share.
 */
#ifndef MOE_KEY_INDEX_INTERNAL_H
#define MOE_KEY_INDEX_INTERNAL_H

#include "extension/key_index.h"
#include "fmgr.h"
#include "utils/typcache.h"

typedef enum moe_key_form
{
    KEY_INTEGER, /* words are the values */
    KEY_WORD,    /* by value: words are Datums */
    KEY_BYTES,   /* by reference: words are offsets into bytes */
    KEY_TEXT     /* the text form, by reference */
} moe_key_form;

struct moe_key_column
{
    moe_job *job;
    moe_key_form form;
    Oid type; /* of the Datums that come */
    Oid collation;
    int16 length; /* typlen of what is stored */
    bool plain;   /* values are equal where their words or bytes are: no function decides */
    FmgrInfo output;
    TypeCacheEntry *stored; /* hash and equality; NULL for KEY_INTEGER */
    uint8 *null;            /* NULL pointer: no NULLs */
    uint64 *word;
    char *bytes;
    int64 n_bytes;
    int64 bytes_capacity;
};

/* A value as its word, or as a pointer to detoasted bytes in the stored form. */
Datum moe_key_column_stored(const moe_key_column *column, Datum value);

/* Are words offsets into bytes? */
static inline bool
moe_key_by_reference(const moe_key_column *column)
{
    return column->form == KEY_BYTES || column->form == KEY_TEXT;
}

/* A row's value as moe_key_column_stored gives it. */
static inline Datum
moe_key_stored_at(const moe_key_column *column, int64 row)
{
    uint64 word = column->word[row];

    return moe_key_by_reference(column) ? PointerGetDatum(column->bytes + word) : (Datum) word;
}

/* The bytes of a stored value by reference that count. */
const char *moe_key_content(const moe_key_column *column, const char *stored, int64 *length);

#endif
