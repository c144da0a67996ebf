/*
 * embedder.c: the trained encoders of an ensemble over tables of the caller's.
 *
 * For one table at a time, in some order of its columns, a view of the fitted
 * features is made: the same specifications, laid out anew. An encoder over
 * that view has its dense weights and category rows at other places; each is
 * copied from where the member has it, so that every column keeps what was
 * learnt for it. What an order of columns still changes is the order in which
 * their contributions are summed.
 */
#include "embed/embedder.h"
#include "embed/encoder.h"
#include "embed/spec.h"
#include "kernels/tape.h"

#include <stdio.h>
#include <string.h>

typedef struct member
{
    const moe_params *trained;
    moe_params *params;
    moe_encoder *encoder;
} member;

typedef struct embedding
{
    moe_job *job;
    const moe_features *features;
    moe_encoder_config config;
    int table;
    int *order; /* [columns of the table] */
    moe_features *view;
    moe_tape *tape;
    int members;
    member *member;
} embedding;

static moe_param *
find_param(const moe_params *params, const char *name)
{
    for (int i = 0; i < moe_params_count(params); i++)
        if (strcmp(moe_params_get(params, i)->name, name) == 0)
            return moe_params_get(params, i);
    return NULL;
}

/* What the encoders were made with, as their parameters tell. */
static moe_code
find_config(embedding *e)
{
    const moe_param *gain = find_param(e->member[0].trained, "embed/0/out/gain");
    char name[64];

    if (!gain)
        return moe_fail(e->job, MOE_INVALID, "the parameters are not those of an encoder");
    e->config = (moe_encoder_config){.channels = (int) gain->cols};
    for (;;)
    {
        snprintf(name, sizeof(name), "embed/0/block%d/gain", e->config.blocks);
        if (!find_param(e->member[0].trained, name))
            return MOE_OK;
        e->config.blocks++;
    }
}

/* Forget the view. The specifications' dictionaries and means are the features'. */
static void
release_view(embedding *e)
{
    for (int i = 0; i < e->members; i++)
    {
        moe_encoder_destroy(e->member[i].encoder);
        moe_params_destroy(e->member[i].params);
        e->member[i].encoder = NULL;
        e->member[i].params = NULL;
    }
    for (int c = 0; e->view && c < e->view->tables[0].n_columns; c++)
    {
        e->view->tables[0].columns[c].vector_mean = NULL;
        e->view->tables[0].columns[c].vector_inverse = NULL;
        memset(&e->view->tables[0].columns[c].dictionary, 0, sizeof(moe_dictionary));
    }
    moe_features_destroy(e->view);
    moe_free(e->job, e->order);
    e->view = NULL;
    e->order = NULL;
}

/* The features of the one table, its columns in the order set. */
static moe_code
make_view(embedding *e)
{
    const moe_features_table *source = &e->features->tables[e->table];
    moe_features_table *table;

    if (!(e->view = moe_features_create(e->job, 1)))
        return moe_job_code(e->job);
    e->view->buckets = e->features->buckets;
    table = &e->view->tables[0];
    if (!(table->columns = moe_alloc(e->job, source->n_columns, sizeof(moe_spec))))
        return moe_job_code(e->job);
    table->n_columns = source->n_columns;
    for (int c = 0; c < source->n_columns; c++)
    {
        table->columns[c] = source->columns[e->order[c]];
        table->columns[c].bag_offset = NULL;
        table->columns[c].bag_index = NULL;
    }
    if (moe_features_layout(e->view) != MOE_OK)
        return moe_job_code(e->job);
    for (int c = 0; c < source->n_columns; c++)
        table->columns[c].hash_key = source->columns[e->order[c]].hash_key;
    return MOE_OK;
}

/* How many rows of the category parameter column c of a table has. */
static int64_t
category_count(const moe_features_table *table, int c)
{
    return (c + 1 < table->n_columns ? table->columns[c + 1].category_row : table->category_rows) -
           table->columns[c].category_row;
}

/* Move the rows of a trained parameter that belong to a column to the column's new place. */
static void
move_rows(const embedding *e, bool dense, const float *from, float *to)
{
    const moe_features_table *source = &e->features->tables[e->table];
    const moe_features_table *view = &e->view->tables[0];
    int64_t width = e->config.channels;

    for (int c = 0; c < view->n_columns; c++)
    {
        const moe_spec *old = &source->columns[e->order[c]];
        const moe_spec *now = &view->columns[c];
        int64_t n = dense ? old->dense_width : category_count(source, e->order[c]);

        memcpy(to + (dense ? now->dense_at : now->category_row) * width,
               from + (dense ? old->dense_at : old->category_row) * width, n * width * sizeof(float));
    }
}

/* Copy one parameter of a fresh encoder from the trained one. */
static moe_code
copy_param(const embedding *e, const member *m, moe_param *param)
{
    const char *within = param->name + strlen("embed/0");
    bool own = strncmp(param->name, "embed/0/", 8) == 0;
    moe_param *trained;
    float *from, *to;
    char name[80];

    snprintf(name, sizeof(name), "embed/%d%s", e->table, within);
    trained = find_param(m->trained, own ? name : param->name);
    if (!trained || trained->rows != param->rows || trained->cols != param->cols)
        return moe_fail(e->job, MOE_INVALID, "the parameters do not fit the columns of table number %d", e->table);
    from = moe_alloc(e->job, param->rows, param->cols * sizeof(float));
    to = moe_alloc(e->job, param->rows, param->cols * sizeof(float));
    if (from && to)
    {
        bool dense = own && strcmp(within, "/dense") == 0;

        moe_param_download(m->trained, trained, from);
        if (dense || (own && strcmp(within, "/category") == 0))
            move_rows(e, dense, from, to);
        else
            memcpy(to, from, param->rows * param->cols * sizeof(float));
        moe_param_upload(m->params, param, to);
    }
    moe_free(e->job, from);
    moe_free(e->job, to);
    return moe_job_code(e->job);
}

static moe_code
make_encoder(const embedding *e, member *m)
{
    if (!(m->params = moe_params_create(e->job, 0)) ||
        moe_encoder_create(e->job, e->view, &e->config, m->params, &m->encoder) != MOE_OK)
        return moe_job_code(e->job);
    for (int i = 0; i < moe_params_count(m->params); i++)
        if (copy_param(e, m, moe_params_get(m->params, i)) != MOE_OK)
            break;
    return moe_job_code(e->job);
}

static moe_code
prepare(void *arg, int table, const int *order)
{
    embedding *e = arg;
    int n;

    release_view(e);
    if (table < 0 || table >= e->features->n_tables)
        return moe_fail(e->job, MOE_INVALID, "table number %d is out of range", table);
    e->table = table;
    n = e->features->tables[table].n_columns;
    if (!(e->order = moe_alloc(e->job, n, sizeof(*e->order))))
        return moe_job_code(e->job);
    for (int c = 0; c < n; c++)
        e->order[c] = order ? order[c] : c;
    if (make_view(e) != MOE_OK)
        return moe_job_code(e->job);
    for (int i = 0; i < e->members && moe_job_code(e->job) == MOE_OK; i++)
        make_encoder(e, &e->member[i]);
    return moe_job_check(e->job);
}

/* One member's vectors, into its place in the rows' embeddings. */
static void
embed_member(embedding *e, int number, const int32_t *rows, int64_t n, float *work, float *out)
{
    int64_t width = e->config.channels;

    moe_tape_reset(e->tape, false, 0);
    if (moe_tape_read(e->tape, moe_encoder_forward(e->member[number].encoder, e->tape, 0, rows, NULL, n), work) !=
        MOE_OK)
        return;
    for (int64_t i = 0; i < n; i++)
        memcpy(out + (i * e->members + number) * width, work + i * width, width * sizeof(float));
}

static moe_code
embed(void *arg, const moe_table *table, float *out)
{
    embedding *e = arg;
    int64_t n = table->n_rows;
    int32_t *rows = moe_alloc(e->job, n, sizeof(*rows));
    float *work = moe_alloc(e->job, n, e->config.channels * sizeof(float));

    if (rows && work && e->view && moe_features_bind(e->view, table, 1) == MOE_OK)
    {
        for (int64_t i = 0; i < n; i++)
            rows[i] = (int32_t) i;
        for (int i = 0; i < e->members && moe_job_check(e->job) == MOE_OK; i++)
            embed_member(e, i, rows, n, work, out);
    }
    moe_free(e->job, rows);
    moe_free(e->job, work);
    return moe_job_check(e->job);
}

static moe_column_kind
kind(void *arg, int table, int column)
{
    const embedding *e = arg;
    int parts = e->features->tables[table].columns[column].parts;

    return parts == 0 ? MOE_COLUMN_UNUSED : parts == MOE_PART_NUMERIC ? MOE_COLUMN_NUMBER : MOE_COLUMN_OTHER;
}

moe_code
moe_embedder_create(moe_job *job, const moe_features *features, moe_params *const *params, int members,
                    moe_embedder *out)
{
    embedding *e;

    memset(out, 0, sizeof(*out));
    if (members < 1 || features->n_tables < 1)
        return moe_fail(job, MOE_INVALID, "%d encoders of %d tables embed nothing", members, features->n_tables);
    if (!(e = moe_alloc(job, 1, sizeof(*e))))
        return moe_job_code(job);
    *out = (moe_embedder){.arg = e, .members = members, .prepare = prepare, .embed = embed, .kind = kind};
    e->job = job;
    e->features = features;
    e->tape = moe_tape_create(job);
    if (e->tape && (e->member = moe_alloc(job, members, sizeof(*e->member))))
    {
        e->members = members;
        for (int i = 0; i < members; i++)
            e->member[i].trained = params[i];
        find_config(e);
        out->channels = e->config.channels;
    }
    if (moe_job_code(job) != MOE_OK)
        moe_embedder_destroy(out);
    return moe_job_code(job);
}

void
moe_embedder_destroy(moe_embedder *embedder)
{
    embedding *e = embedder->arg;

    if (!e)
        return;
    release_view(e);
    if (e->tape)
        moe_tape_destroy(e->tape);
    moe_free(e->job, e->member);
    moe_free(e->job, e);
    memset(embedder, 0, sizeof(*embedder));
}
