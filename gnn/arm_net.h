/*
 * arm_net.h: what the files of an ARM-Net share; not for others.
 *
 * arm.c         the network, and the expert it makes
 * arm_report.c  what its gates say
 */
#ifndef MOE_ARM_NET_H
#define MOE_ARM_NET_H

#include "gnn/dense_trainer.h"

#define MOE_ARM_COLUMNS   64
#define MOE_ARM_NEURONS   32
#define MOE_ARM_EMBEDDING 8
#define MOE_ARM_HIDDEN    64

typedef struct moe_arm
{
    moe_dense_net net;     /* of the chosen columns */
    int width;             /* of the matrix */
    int32_t *column;       /* [net.width] ascending */
    int64_t *offset;       /* [neurons + 1] every neuron scores every column: the edges from one to the other */
    int32_t *index;        /* [neurons * net.width] */
    moe_param *embedding;  /* e [columns, embedding] */
    moe_param *query;      /* q [neurons, embedding] */
    moe_param *preference; /* t [1, neurons * columns] */
    moe_param *power;      /* v [1, neurons * columns] */
    moe_param *gain;
    moe_param *shift;
    moe_param *weight[2];
    moe_param *bias[2];
} moe_arm;

/* The gates z of rows x [n, net.width] of the host: [n * neurons, columns]. */
moe_var *moe_arm_gates(const moe_arm *a, moe_tape *tape, const float *x, int64_t n);
/* The chosen columns of rows of the matrix; *x is to be freed. */
moe_code moe_arm_take(const moe_arm *a, const moe_dense_rows *rows, moe_dense_rows *out, float **x);

#endif
