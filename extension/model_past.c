/*
 * model_past.c: write, read and find the labels that are kept with a model.
 */
#include "postgres.h"

#include "miscadmin.h"
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
    return moe_reader_code(reader);
}

/* The row that the predictor's rows are around. */
static int32
own_row(const moe_predictor *predictor)
{
    bool nulls[INDEX_MAX_KEYS] = {false};

    return moe_data_find(predictor->data, predictor->only, nulls);
}

moe_past_labels
moe_past_find(const moe_predictor *predictor, const moe_kept_labels *kept)
{
    int32 *row = palloc(sizeof(int32) * Max(kept->n, 1));
    int64 *time = palloc(sizeof(int64) * Max(kept->n, 1));
    float *label = palloc(sizeof(float) * Max(kept->n, 1));
    MemoryContext each = AllocSetContextCreate(CurrentMemoryContext, "moe_ml kept labels", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old = MemoryContextSwitchTo(each);
    int level = moe_sql_begin();
    const char *only = predictor->only == NULL || predictor->data->tables[0].n_rows == 0
                           ? NULL
                           : MemoryContextStrdup(old, moe_key_text(predictor, own_row(predictor)));
    int64 n = 0;

    for (int64 i = 0; i < kept->n; i++)
    {
        int32 found = -1;

        if (only == NULL || strcmp(only, kept->key[i]) == 0)
            found = moe_key_find_text(predictor, kept->key[i]);
        if (i % 1024 == 0)
        {
            CHECK_FOR_INTERRUPTS();
            MemoryContextReset(each);
        }
        if (found < 0)
            continue;
        row[n] = found;
        time[n] = kept->time[i];
        label[n++] = kept->label[i];
    }
    moe_sql_end(level);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(each);
    return (moe_past_labels){n, row, time, label};
}
