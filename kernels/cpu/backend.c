/*
 * backend.c: the table of the CPU backend, one for each set of instructions it is compiled for.
 */
#include "kernels/cpu/cpu.h"

#define ENTRY(operation) .operation = moe_cpu_##operation,

#ifdef MOE_CPU_SET
#define NAME "cpu-" MOE_TEXT(MOE_CPU_SET)
#else
#define NAME "cpu"
#endif

const moe_backend moe_cpu_table = {.name = NAME, MOE_CPU_OPERATIONS(ENTRY)};
