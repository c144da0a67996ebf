/*
 * model_store.c: the bytes that a model is stored as.
 *
 * Layout: magic (8 bytes), format version (i32), length of the content (i64),
 * checksum of the content (i64), then the content: signature and length of the
 * schema, the schema, the features, the encoder's and the model's
 * configuration, the inputs, the past labels that are kept, the number of the graph expert's members, and for
 * each its seed and its parameters, then the mixture. The checksum finds damage; it is no protection against
 * intent, so everything behind it is validated on its own as well.
 */
#include "postgres.h"

#include <math.h>

#include "extension/model_catalog.h"
#include "extension/model_inputs.h"
#include "extension/model_store.h"
#include "kernels/random.h"

#define HEADER_BYTES 28
#define CHECKSUM_KEY UINT64CONST(0x6d6f655f6d6c0001)
#define PREDICT_KEY  UINT64CONST(0x70726564696374)

static const char magic[8] = {'m', 'o', 'e', '_', 'm', 'l', '\r', '\n'};

static void
hash_string(uint64 *hash, const char *text)
{
    *hash = moe_hash_bytes(text, strlen(text) + 1, *hash);
}

static void
hash_int(uint64 *hash, int64 value)
{
    *hash = moe_key(*hash, (uint64) value);
}

static void
hash_table(uint64 *hash, const moe_schema_table *table)
{
    hash_string(hash, table->schema);
    hash_string(hash, table->name);
    hash_int(hash, table->time);
    hash_int(hash, table->n_columns);
    for (int i = 0; i < table->n_columns; i++)
    {
        const moe_schema_column *column = &table->columns[i];

        hash_string(hash, column->name);
        hash_int(hash, column->type);
        hash_int(hash, column->role);
        if (column->role != MOE_ROLE_FEATURE)
            continue;
        hash_int(hash, column->storage);
        hash_int(hash, column->encoding);
        hash_int(hash, column->known_at);
    }
}

uint64
moe_store_signature(const moe_schema *schema)
{
    uint64 hash = CHECKSUM_KEY;

    hash_int(&hash, schema->n_tables);
    for (int i = 0; i < schema->n_tables; i++)
        hash_table(&hash, &schema->tables[i]);
    hash_int(&hash, schema->n_edges);
    for (int i = 0; i < schema->n_edges; i++)
    {
        const moe_schema_edge *edge = &schema->edges[i];

        hash_int(&hash, edge->child);
        hash_int(&hash, edge->parent);
        for (int k = 0; k < edge->n_columns; k++)
        {
            hash_int(&hash, edge->child_columns[k]);
            hash_int(&hash, edge->parent_columns[k]);
        }
    }
    return hash;
}

static void
poke_i64(moe_buffer *buffer, int64 at, int64 value)
{
    for (int i = 0; i < 8; i++)
        buffer->data[at + i] = (uint8) ((uint64) value >> (8 * i));
}

/* The schema without the planner's estimates, which would make the same training give other bytes another day. */
static void
write_schema(moe_buffer *buffer, const moe_schema *schema)
{
    moe_schema copy = *schema;

    copy.tables = palloc(sizeof(moe_schema_table) * Max(schema->n_tables, 1));
    memcpy(copy.tables, schema->tables, sizeof(moe_schema_table) * schema->n_tables);
    for (int i = 0; i < copy.n_tables; i++)
        copy.tables[i].rows = 0;
    moe_schema_write(&copy, buffer);
    pfree(copy.tables);
}

void
moe_store_begin(moe_buffer *buffer, const moe_schema *schema, const moe_inputs *inputs, const moe_features *features,
                const moe_encoder_config *encoder, const moe_model_config *model, const moe_data *data,
                const moe_past_labels *kept, int members)
{
    int64 schema_at;

    moe_put_bytes(buffer, magic, sizeof(magic));
    moe_put_i32(buffer, MOE_MODEL_FORMAT);
    moe_put_i64(buffer, 0); /* length and checksum: moe_store_end */
    moe_put_i64(buffer, 0);
    moe_put_i64(buffer, (int64) moe_store_signature(schema));
    moe_put_i64(buffer, 0);
    schema_at = buffer->length;
    write_schema(buffer, schema);
    if (moe_job_code(buffer->job) == MOE_OK)
        poke_i64(buffer, schema_at - 8, buffer->length - schema_at);
    moe_features_write(features, buffer);
    moe_put_i32(buffer, encoder->channels);
    moe_put_i32(buffer, encoder->blocks);
    moe_put_f32(buffer, encoder->dropout);
    moe_model_config_write(model, buffer);
    moe_inputs_write(inputs, buffer);
    moe_past_write(schema, data, kept, buffer);
    moe_put_i32(buffer, members);
}

void
moe_store_member(moe_buffer *buffer, const moe_member *member)
{
    moe_put_i64(buffer, (int64) member->seed);
    moe_params_write(member->params, buffer);
}

void
moe_store_end(moe_buffer *buffer, const moe_mixture *mixture)
{
    int64 length;

    moe_mixture_write(mixture, buffer);
    length = buffer->length - HEADER_BYTES;
    if (moe_job_code(buffer->job) != MOE_OK)
        return;
    poke_i64(buffer, 12, length);
    poke_i64(buffer, 20, (int64) moe_hash_bytes(buffer->data + HEADER_BYTES, length, CHECKSUM_KEY));
}

static moe_code
open_header(moe_job *job, const uint8 *bytes, int64 length, moe_reader *reader)
{
    char start[sizeof(magic)];
    int32 version;
    int64 checksum;

    if (bytes == NULL || length < HEADER_BYTES)
        return moe_fail(job, MOE_CORRUPT, "parts of the stored parameters are missing");
    moe_reader_init(reader, job, bytes, length);
    moe_get_bytes(reader, start, sizeof(start));
    version = moe_get_i32(reader);
    if (memcmp(start, magic, sizeof(magic)) != 0)
        return moe_fail(job, MOE_CORRUPT, "the stored parameters do not begin as they should");
    if (version != MOE_MODEL_FORMAT)
        return moe_fail(job, MOE_CORRUPT, "the stored parameters have format %d; this version reads format %d",
                        (int) version, MOE_MODEL_FORMAT);
    if (moe_get_i64(reader) != length - HEADER_BYTES)
        return moe_fail(job, MOE_CORRUPT, "parts of the stored parameters are missing");
    checksum = moe_get_i64(reader);
    if ((uint64) checksum != moe_hash_bytes(bytes + HEADER_BYTES, length - HEADER_BYTES, CHECKSUM_KEY))
        return moe_fail(job, MOE_CORRUPT, "the checksum of the stored parameters does not match");
    return MOE_OK;
}

bool
moe_store_schema(moe_job *job, const uint8 *bytes, int64 length, moe_reader *schema)
{
    moe_reader reader;
    int64 n;

    if (bytes == NULL || length < HEADER_BYTES)
        return false;
    moe_reader_init(&reader, job, bytes + HEADER_BYTES, length - HEADER_BYTES);
    moe_get_i64(&reader); /* signature */
    n = moe_get_count(&reader, 1);
    if (moe_reader_code(&reader) != MOE_OK)
        return false;
    moe_reader_init(schema, job, reader.data + reader.position, n);
    return true;
}

static bool
encoder_is_valid(const moe_stored *stored)
{
    return stored->encoder.channels == stored->model.channels && stored->encoder.blocks >= 0 &&
           stored->encoder.blocks <= 64 && stored->encoder.dropout >= 0 && stored->encoder.dropout < 1;
}

moe_code
moe_store_open(moe_job *job, const uint8 *bytes, int64 length, moe_stored *stored)
{
    moe_reader *reader = &stored->reader;
    moe_code code = open_header(job, bytes, length, reader);
    int64 n;

    if (code != MOE_OK)
        return code;
    stored->signature = (uint64) moe_get_i64(reader);
    n = moe_get_count(reader, 1);
    moe_reader_init(&stored->schema, job, reader->data + reader->position, n);
    reader->position += n;
    code = moe_reader_code(reader);
    if (code == MOE_OK)
        code = moe_features_read(job, reader, &stored->features);
    if (code != MOE_OK)
        return code;
    stored->encoder.channels = moe_get_i32(reader);
    stored->encoder.blocks = moe_get_i32(reader);
    stored->encoder.dropout = moe_get_f32(reader);
    code = moe_model_config_read(reader, &stored->model);
    if (code != MOE_OK)
        return code;
    code = moe_inputs_read(job, reader, &stored->inputs);
    if (code == MOE_OK)
        code = moe_past_read(job, reader, &stored->kept);
    if (code != MOE_OK)
        return code;
    stored->members = moe_get_i32(reader);
    if (stored->members < 0 || stored->members > MOE_MAX_MEMBERS || !encoder_is_valid(stored))
        return moe_fail(job, MOE_CORRUPT, "the stored configuration is not valid");
    return moe_reader_code(reader);
}

moe_code
moe_store_next(moe_job *job, moe_stored *stored, moe_member *member)
{
    memset(member, 0, sizeof(*member));
    stored->reader.job = job; /* what is read belongs to the job of the parameters */
    member->seed = (uint64) moe_get_i64(&stored->reader);
    member->params = moe_params_create(job, member->seed);
    if (member->params == NULL)
        return moe_job_code(job);
    return moe_params_read(member->params, &stored->reader);
}

moe_code
moe_store_mixture(moe_job *job, moe_stored *stored)
{
    moe_code code;

    stored->reader.job = job;
    code = moe_mixture_read(job, &stored->reader, &stored->mixture);
    if (code == MOE_OK && moe_mixture_width(stored->mixture) != moe_inputs_width(stored->inputs))
        code = moe_fail(job, MOE_CORRUPT, "the stored experts do not fit the stored inputs");
    return code;
}

moe_code
moe_member_build(moe_job *job, const moe_graph *graph, moe_features *features, const moe_encoder_config *encoder,
                 const moe_model_config *config, moe_seed_inputs_fn seed_inputs, void *arg, int number,
                 moe_member *member)
{
    moe_model_config own = *config;
    moe_code code = moe_encoder_create(job, features, encoder, member->params, &member->encoder);

    if (code != MOE_OK)
        return code;
    if (number % 2 == 0 && own.hops > (own.composite ? 2 : 1))
        own.hops -= own.composite ? 2 : 1; /* composite messages take two hops at a time */
    return moe_model_create(job, graph, 0, moe_encoder_forward, member->encoder, seed_inputs, arg, &own, member->params,
                            &member->model);
}

void
moe_member_destroy(moe_member *member)
{
    moe_model_destroy(member->model);
    moe_encoder_destroy(member->encoder);
    moe_params_destroy(member->params);
    memset(member, 0, sizeof(*member));
}

uint64
moe_member_key(const moe_member *member)
{
    return moe_key(member->seed, PREDICT_KEY);
}
