/*
 * linear_loss.h: generalised linear models over a matrix: their outputs, penalised loss and gradient.
 *
 * Parameters stand output by output: [width] weights, then an intercept that no penalty touches.
 */
#ifndef MOE_LINEAR_LOSS_H
#define MOE_LINEAR_LOSS_H

#include "gnn/dense_expert.h"
#include "gnn/minimise.h"

typedef struct moe_linear_loss moe_linear_loss;

int moe_linear_outputs(const moe_dense_task *task);
/*
 * Raw outputs [count, outputs] of a few rows: x [count, width]. A row's are the same bits in any company.
 */
void moe_linear_raw(int width, int outputs, const double *parameters, const float *x, int64_t count, double *raw);

/*
 * The sum over rows of weight * loss, plus penalty / 2 * |weights|^2. Losses: logistic, nearly the distance
 * (linear_loss.c) to (label - shift) / scale, or multinomial. rows must outlive it.
 */
moe_code moe_linear_loss_create(moe_job *job, const moe_dense_task *task, const moe_dense_rows *rows, double shift,
                                double scale, moe_linear_loss **out);
void moe_linear_loss_destroy(moe_linear_loss *loss);
/* Where a fit starts: no weights, and the intercepts that the labels' frequencies ask for. */
void moe_linear_loss_start(const moe_linear_loss *loss, double *parameters);
/* Move parameters to the minimum under a penalty. */
moe_code moe_linear_loss_minimise(moe_linear_loss *loss, double penalty, double *parameters);

#endif
