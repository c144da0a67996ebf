/*
 * mixture.h: different experts, one router: the predictor that a model is.
 *
 * Experts over a matrix of inputs (dense_expert.h) and the graph network stand
 * side by side. The router (router.h) sees the cheap inputs of a seed alone
 * and says which experts it needs; those that it does not are not computed
 * for it. What they say is averaged by the gates (probabilities; values) and
 * calibrated (calibration.h).
 *
 * Fit the dense experts, give the graph's predictor, then fit the router on
 * rows that no expert was trained on. Inputs come from a callback, so that
 * gnn/ does not know what a column is.
 *
 * Seeds whose data is staler than any that was learned from may have versions of
 * experts and a calibration of their own.
 *
 * With a budget, the glance expert, which needs the rows themselves and past
 * labels alone, answers for the rows for which the rest is worth least; only for
 * the others is anything else computed, or need it be read (cascade.h).
 */
#ifndef MOE_MIXTURE_H
#define MOE_MIXTURE_H

#include "gnn/calibration.h"
#include "gnn/cascade.h"
#include "gnn/dense_expert.h"
#include "gnn/router.h"
#include "gnn/trainer.h"

typedef enum moe_expert_kind
{
    MOE_EXPERT_HISTORY, /* a linear expert over the label history alone */
    MOE_EXPERT_LINEAR,  /* over all inputs, like the following */
    MOE_EXPERT_TABULAR,
    MOE_EXPERT_RETRIEVAL,
    MOE_EXPERT_ARM,
    MOE_EXPERT_TREES,
    MOE_EXPERT_GRAPH,
    MOE_EXPERT_GLANCE, /* boosted trees over what needs no other table's rows */
    MOE_EXPERT_KINDS
} moe_expert_kind;

/* "history", ..., "glance" */
const char *moe_expert_name(moe_expert_kind kind);

/* What an input is good for, a bit each. */
enum
{
    MOE_INPUT_HISTORY = 1, /* label history: the history expert's */
    MOE_INPUT_CHEAP = 2,   /* the router may see it */
    MOE_INPUT_GLANCE = 4   /* of the row itself, its label history and the calendar: the glance expert's */
};

/*
 * Write the inputs of seeds, [n, width], and for each whether what it may see is staler than training ever saw.
 * disabled: NULL, or a flag a table: as if it had no rows.
 */
typedef moe_code (*moe_inputs_fn)(void *arg, const moe_seeds *seeds, const bool *disabled, float *out, bool *stale);
/* Write the graph expert's predictions, as moe_model_predict does; inputs [n, width] are those of the seeds. */
typedef moe_code (*moe_graph_fn)(void *arg, const moe_seeds *seeds, const float *inputs, const bool *disabled,
                                 float *prediction);

typedef struct moe_mixture moe_mixture;

/*
 * kinds: a bit for each expert; shift, scale: of a REGRESSION's labels, their median and mean distance from it
 * (mixture.c says what for); else 0 and 1. width: of the inputs; role [width] of MOE_INPUT_ bits.
 */
moe_code moe_mixture_create(moe_job *job, const moe_dense_task *task, double shift, double scale, unsigned kinds,
                            int width, const uint8_t *role, moe_mixture **out);
void moe_mixture_destroy(moe_mixture *mixture);
/* Where inputs and the graph expert's predictions come from; both must outlive the mixture. graph NULL: none. */
void moe_mixture_connect(moe_mixture *mixture, moe_inputs_fn inputs, void *inputs_arg, moe_graph_fn graph,
                         void *graph_arg);

int moe_mixture_experts(const moe_mixture *mixture);
moe_expert_kind moe_mixture_kind(const moe_mixture *mixture, int expert);
int64_t moe_mixture_parameters(const moe_mixture *mixture, int expert); /* 0 for the graph, whose are elsewhere */
int moe_mixture_width(const moe_mixture *mixture);

/*
 * Fit one dense expert (not the graph), replacing what it learned before. stale: the version of it that answers for
 * stale seeds, from rows among which some are; without one, the expert answers for them as for others.
 */
moe_code moe_mixture_fit(moe_mixture *mixture, int expert, bool stale, const moe_dense_rows *train,
                         const moe_dense_rows *valid, uint64_t seed);

/*
 * Learn how many rows must be read for a row besides what the glance expert needs: train's labels are such numbers,
 * the latest rows last. Without rows, or a glance expert, all are alike.
 */
moe_code moe_mixture_fit_reading(moe_mixture *mixture, const moe_dense_rows *train, uint64_t seed);

typedef struct moe_mixture_report
{
    moe_router_report router;
    double metric[MOE_ROUTER_EXPERTS]; /* each expert alone on the held-out rows: AUROC, MAE or accuracy; NaN: none */
    double mixed;                      /* the mixture's */
} moe_mixture_report;

/*
 * Fit router and calibration on held-out rows: seeds with their inputs and labels. n may be 0: equal weights,
 * no calibration. config->experts is set here, and top_k to no more than there are. reading [n]: how many rows must be
 * read for each besides what the glance expert needs, NaN where that was not counted; NULL: of all one.
 */
moe_code moe_mixture_route(moe_mixture *mixture, const moe_router_config *config, const moe_samples *held_out,
                           const float *inputs, const float *reading, moe_mixture_report *report);

/*
 * Fit the calibration of stale seeds on held-out rows as they look when data is stale: seeds with horizons, all of them
 * stale, their inputs and labels. With too few of them stale seeds are calibrated as others; seeds that are not stale
 * always are. After moe_mixture_route, which takes it away.
 */
moe_code moe_mixture_calibrate_stale(moe_mixture *mixture, const moe_seeds *seeds, const float *label,
                                     const float *inputs);

/* What is predicted for n seeds; all but the first may be NULL. */
typedef struct moe_mixture_answer
{
    float *prediction;    /* BINARY [n] probabilities, REGRESSION [n] values, MULTICLASS [n * K] probabilities */
    float *gates;         /* [n * experts] */
    float *const *each;   /* for every expert [n] or [n * K] what it says alone (then all are computed) */
    float *lower, *upper; /* both or neither; REGRESSION [n]: the range around each, NaN where there is none */
} moe_mixture_answer;

moe_code moe_mixture_predict(moe_mixture *mixture, const moe_seeds *seeds, const bool *disabled,
                             const moe_mixture_answer *out);

/* How a row is answered: by which experts, in which version, and how their mean is calibrated. */
typedef struct moe_mixture_path
{
    float gate[MOE_EXPERT_KINDS];
    bool stale; /* by the experts' versions for stale seeds */
    bool stops; /* early: by the glance expert alone, calibrated by itself */
} moe_mixture_path;

/* The path of one seed, and its inputs x [width]. */
moe_code moe_mixture_find_path(moe_mixture *mixture, const moe_seeds *seed, moe_mixture_path *path, float *x);
/* One expert's predictions for seeds with their inputs; stale: by the version for such seeds, if it has one. */
moe_code moe_mixture_ask(const moe_mixture *mixture, int expert, bool stale, const moe_seeds *seeds,
                         const bool *disabled, const float *x, float *out);
/*
 * Predict n rows by one path from what its experts say of them: said [experts], each [n] or [n * K], or anything
 * where the path has no gate. prediction: as of moe_mixture_predict, of a seed's own inputs the same bits.
 */
moe_code moe_mixture_follow(const moe_mixture *mixture, const moe_mixture_path *path, int64_t n,
                            const float *const *said, float *prediction);

#define MOE_MIXTURE_LEAST_HELD_OUT 100 /* rows to choose a budget by */
/* Is there a curve to choose a budget by after so many held-out rows, if enough of them had their reading counted? */
bool moe_mixture_may_stop_early(const moe_mixture *mixture, int64_t held_out);

/*
 * Of what predictions like the held-out ones read besides what the glance expert needs, let at most a share `budget` be
 * read from now on; 1: all. False, with nothing changed, where there is no curve to choose by: no classes, no glance
 * expert or no other, or too few held-out rows.
 */
bool moe_mixture_set_budget(moe_mixture *mixture, double budget);
const moe_cascade_curve *moe_mixture_curve(const moe_mixture *mixture);
/* The point of the curve that predictions are made by, and to make them by another from now on. */
int moe_mixture_curve_point(const moe_mixture *mixture);
void moe_mixture_use_point(moe_mixture *mixture, int point);
/* Is there a budget by which some rows stop early? */
bool moe_mixture_stops_early(const moe_mixture *mixture);
/*
 * Predict the rows that stop early, as moe_mixture_predict does: stops [n]; of the others prediction and gates mean
 * nothing. disabled: all that the glance expert's inputs do not need.
 */
moe_code moe_mixture_predict_early(moe_mixture *mixture, const moe_seeds *seeds, const bool *disabled,
                                   float *prediction, float *gates, bool *stops);

void moe_mixture_write(const moe_mixture *mixture, moe_buffer *buffer);
/* Hostile input is refused with MOE_CORRUPT. */
moe_code moe_mixture_read(moe_job *job, moe_reader *reader, moe_mixture **out);

#endif
