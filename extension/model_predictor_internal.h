/*
 * model_predictor_internal.h: what the files of a predictor share.
 *
 * model_predictor.c   what was learned, loaded
 * model_rows.c        put over rows
 * model_cache.c       keeping and freeing
 * model_settled.c     whether what was read may serve later statements
 * model_score.c       scoring, and the past labels it needs
 * model_population.c  which entities count
 */
#ifndef MOE_MODEL_PREDICTOR_INTERNAL_H
#define MOE_MODEL_PREDICTOR_INTERNAL_H

#include "extension/model.h"
#include "extension/model_inputs.h"
#include "extension/model_store.h"

struct moe_predictor_parts
{
    Oid user;       /* as whom it was opened */
    uint64 version; /* of the stored parameters */
    uint8 *schema_bytes;
    int64 schema_length;
    moe_features *features;
    moe_encoder_config encoder;
    moe_model_config config;
    int n_members; /* 0 without a graph expert */
    moe_member *member;
    moe_mixture *mixture;
    moe_inputs *inputs;

    int n_tables;
    bool too_many;      /* rows were to be looked up for a key of this statement */
    int64 default_time; /* where rows were looked up */
    MemoryContext rows; /* of what was read: the schema, data with a job of their own, and the graph */
    moe_graph *graph;
    struct moe_row_names *names; /* row_name.c: [tables] of what was read, or NULL */

    moe_predictor *twin; /* the model once more, for the next excerpt, or NULL */

    const int32 *asked;       /* of the seeds that the graph expert is being asked about, their rows */
    const float *asked_input; /* and their inputs */

    bool settled_population; /* what the queries give depends on rows alone */
    bool settled_past;

    bool has_population; /* population of one time, kept */
    int64 population_time;
    int64 n_population;
    int32 *population;

    moe_kept_labels kept;
    moe_past_labels told; /* by moe_predictor_tell */
    bool has_past;        /* past labels of one anchor, kept */
    int64 past_anchor;    /* DT_NOEND: those that were told, or are kept */
    int32 past_row;       /* whose labels alone they are, or -1: of all that was read */
};

/* Load what the model learned into a predictor whose context is current, and the only member that is set. */
void moe_predictor_load(moe_predictor *predictor, Oid relid);
/* Read the tables, and put the model over their rows instead of those it is over. */
void moe_predictor_read(moe_predictor *predictor);
/*
 * Read the rows around one, and put the model over them; false, with nothing read, if whole tables are the better
 * choice.
 */
bool moe_predictor_read_around(moe_predictor *predictor, const moe_asked *asked);
/* Read the entity row that is asked about, or all of them. */
void moe_predictor_read_entities(moe_predictor *predictor, const moe_asked *asked);
/* What a predictor takes of the memory limit, in bytes. */
size_t moe_predictor_memory_used(const moe_predictor *predictor);
/* A job bound to CurrentMemoryContext that may use of the memory limit what a predictor leaves. */
moe_job *moe_predictor_job_beside(const moe_predictor *predictor);
/*
 * The same model over some of the rows that a predictor read, as it sees them at this time: lists [tables]; copies are
 * the job's, and what is put over them lies in CurrentMemoryContext. It has no past labels and finds no keys. At the
 * end it gives the model back, before the job goes; the other must outlive it.
 */
moe_predictor *moe_predictor_excerpt(const moe_predictor *of, moe_job *job, const moe_row_list *lists, int64 time);
void moe_predictor_excerpt_end(const moe_predictor *of, moe_predictor *excerpt);
/* Join the threads of what is kept. */
void moe_predictor_rest(moe_predictor *predictor);
/* Let go of the rows. */
void moe_predictor_forget(moe_predictor *predictor);
/* Is it the model of this id, in this version (moe_catalog_version)? */
bool moe_predictor_is_of(const moe_predictor *predictor, const pg_uuid_t *id, uint64 version);
/* An open predictor is taken up by a later statement that sees the same rows. */
void moe_predictor_renew(moe_predictor *predictor);

/* Are the rows of the tables the same for all who see the same transactions? Tables without row-level security are. */
bool moe_settled_tables(const moe_schema *schema);
/* Does a query with parameters of these types depend on rows, settings and parameters alone? */
bool moe_settled_query(const char *sql, int n_types, Oid *types, const char *search_path);

/* Raise what reading the stored parameters failed with, naming the model. */
void moe_predictor_check_stored(const moe_predictor *predictor, moe_code code);
/* A moe_graph_fn over the members; arg: the predictor's parts. */
moe_code moe_predictor_ask_graph(void *parts, const moe_seeds *seeds, const float *inputs, const bool *disabled,
                                 float *prediction);
/* A moe_seed_inputs_fn for the members: of the inputs that the graph expert was asked with, those it takes. */
moe_code moe_predictor_seed_inputs(void *parts, const moe_seeds *seeds, float *out);

#endif
