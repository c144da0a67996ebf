/*
 * absent.c: stands in for the kinds of expert that are not there yet, so that the others can be linked.
 */
#include "gnn/dense_expert.h"

const moe_dense_class moe_dense_tabular = {.name = "tabular"};
const moe_dense_class moe_dense_arm = {.name = "arm"};
