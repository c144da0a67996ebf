/*
 * model_past.c: write, read and find the labels that are kept with a model.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"

#include "extension/key.h"
#include "extension/model_past.h"
#include "extension/moe_ml.h"
#include "extension/schema_sql.h"

void
moe_past_write(const moe_schema *schema, const moe_data *data, const moe_past_labels *labels, moe_buffer *buffer)
{
    moe_predictor named = {.schema = schema, .data = data}; /* all that a key's text needs */
    int64 n = labels == NULL ? 0 : Min(labels->n, MOE_KEPT_LABELS);
    MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml kept labels", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(each);
    int level = moe_sql_begin();

    moe_put_i64(buffer, n);
    for (int64 i = n > 0 ? labels->n - n : 0; n > 0 && i < labels->n; i++)
    {
        moe_put_string(buffer, moe_key_text(&named, labels->row[i]));
        moe_put_i64(buffer, labels->time[i]);
        moe_put_f32(buffer, labels->label[i]);
        MemoryContextReset(each);
    }
    moe_sql_end(level);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(each);
}

static uint32
place_of(const moe_kept_labels *kept, const char *key)
{
    return hash_bytes((const unsigned char *) key, strlen(key)) & kept->mask;
}

/* So that the labels of one key are found without a look at the others. */
static void
index_keys(moe_kept_labels *kept)
{
    kept->mask = pg_nextpower2_32((uint32) kept->n + 1) - 1;
    kept->first = palloc(sizeof(int32) * (kept->mask + 1));
    kept->next = palloc(sizeof(int32) * Max(kept->n, 1));
    memset(kept->first, -1, sizeof(int32) * (kept->mask + 1));
    for (int64 i = kept->n - 1; i >= 0; i--)
    {
        uint32 place = place_of(kept, kept->key[i]);

        kept->next[i] = kept->first[place];
        kept->first[place] = (int32) i;
    }
}

moe_code
moe_past_read(moe_job *job, moe_reader *reader, moe_kept_labels *out)
{
    int64 n = moe_get_count(reader, 8 + 8 + 4);

    if (moe_reader_code(reader) != MOE_OK)
        return moe_reader_code(reader);
    if (n > MOE_KEPT_LABELS)
        return moe_fail(job, MOE_CORRUPT, "more past labels are stored than are kept");
    out->n = n;
    out->key = palloc(sizeof(char *) * Max(n, 1));
    out->time = palloc(sizeof(int64) * Max(n, 1));
    out->label = palloc(sizeof(float) * Max(n, 1));
    for (int64 i = 0; i < n && moe_reader_code(reader) == MOE_OK; i++)
    {
        out->key[i] = moe_get_string(reader);
        out->time[i] = moe_get_i64(reader);
        moe_get_floats(reader, &out->label[i], 1);
    }
    if (moe_reader_code(reader) == MOE_OK)
        index_keys(out);
    return moe_reader_code(reader);
}

/* Room for so many labels that are found. */
typedef struct found_labels
{
    int64 n;
    int32 *row;
    int64 *time;
    float *label;
} found_labels;

static found_labels
room_for(MemoryContext context, int64 n)
{
    return (found_labels){
        .row = MemoryContextAlloc(context, sizeof(int32) * Max(n, 1)),
        .time = MemoryContextAlloc(context, sizeof(int64) * Max(n, 1)),
        .label = MemoryContextAlloc(context, sizeof(float) * Max(n, 1)),
    };
}

static void
add_label(found_labels *found, int32 row, const moe_kept_labels *kept, int64 i)
{
    found->row[found->n] = row;
    found->time[found->n] = kept->time[i];
    found->label[found->n++] = kept->label[i];
}

/* Those of the one row that the predictor's rows are around. */
static found_labels
find_own(const moe_predictor *predictor, const moe_kept_labels *kept, MemoryContext context)
{
    bool nulls[INDEX_MAX_KEYS] = {false};
    int32 row = moe_data_find(predictor->data, predictor->only, nulls);
    const char *key = moe_key_text(predictor, row);
    int32 first = kept->first[place_of(kept, key)];
    found_labels found;
    int64 n = 0;

    for (int32 i = first; i >= 0; i = kept->next[i])
        n++;
    found = room_for(context, n);
    for (int32 i = first; i >= 0; i = kept->next[i])
        if (strcmp(key, kept->key[i]) == 0)
            add_label(&found, row, kept, i);
    return found;
}

static found_labels
find_all(const moe_predictor *predictor, const moe_kept_labels *kept, MemoryContext context)
{
    found_labels found = room_for(context, kept->n);

    for (int64 i = 0; i < kept->n; i++)
    {
        int32 row = moe_key_find_text(predictor, kept->key[i]);

        if (row >= 0)
            add_label(&found, row, kept, i);
        if (i % 1024 == 0)
        {
            CHECK_FOR_INTERRUPTS();
            MemoryContextReset(CurrentMemoryContext);
        }
    }
    return found;
}

moe_past_labels
moe_past_find(const moe_predictor *predictor, const moe_kept_labels *kept)
{
    MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml kept labels", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(each);
    int level = moe_sql_begin();
    found_labels found = {0};

    if (kept->n > 0 && predictor->data->tables[0].n_rows > 0)
        found = predictor->only != NULL ? find_own(predictor, kept, old) : find_all(predictor, kept, old);
    moe_sql_end(level);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(each);
    return (moe_past_labels){found.n, found.row, found.time, found.label};
}
