/*
 * backend.h: fuzz targets that need a server: the library itself, compiled for fuzzing, in a stand-alone backend.
 */
#ifndef MOE_FUZZ_BACKEND_H
#define MOE_FUZZ_BACKEND_H

#include "postgres.h"

typedef struct moe_fuzz_target
{
    const char *name;
    bool writes;           /* each input is a subtransaction that is rolled back */
    void (*prepare)(void); /* or NULL */
    void (*run)(const uint8 *data, size_t size);
} moe_fuzz_target;

extern const moe_fuzz_target moe_fuzz_statement;
extern const moe_fuzz_target moe_fuzz_model;

#endif
