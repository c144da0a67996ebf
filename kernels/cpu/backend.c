/*
 * backend.c: the table of the fast CPU backend.
 */
#include "kernels/cpu/cpu.h"

const moe_backend moe_backend_cpu = {
    .name = "cpu",
    .linear = moe_cpu_linear,
    .linear_input = moe_cpu_linear_input,
    .linear_weight = moe_cpu_linear_weight,
    .sum = moe_cpu_sum,
    .scale = moe_cpu_scale,
    .multiply = moe_cpu_multiply,
    .add_row = moe_cpu_add_row,
    .column_sum = moe_cpu_column_sum,
    .multiply_column = moe_cpu_multiply_column,
    .row_dot = moe_cpu_row_dot,
    .copy_block = moe_cpu_copy_block,
    .relu = moe_cpu_relu,
    .relu_backward = moe_cpu_relu_backward,
    .dropout = moe_cpu_dropout,
    .relu_dropout = moe_cpu_relu_dropout,
    .layer_norm = moe_cpu_layer_norm,
    .layer_norm_backward = moe_cpu_layer_norm_backward,
    .softmax = moe_cpu_softmax,
    .softmax_backward = moe_cpu_softmax_backward,
    .gather = moe_cpu_gather,
    .aggregate = moe_cpu_aggregate,
    .aggregate_parts = moe_cpu_aggregate_parts,
    .sum_rows = moe_cpu_sum_rows,
    .transpose = moe_cpu_transpose,
    .top_k_gate = moe_cpu_top_k_gate,
    .balance_loss = moe_cpu_balance_loss,
    .z_loss = moe_cpu_z_loss,
    .loss = moe_cpu_loss,
    .cross_entropy = moe_cpu_cross_entropy,
};
