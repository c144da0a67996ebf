/*
 * moe_ml.h: what every file of the extension shares: settings, the bridge
 * from the numeric core's failures to ereport, and small helpers.
 */
#ifndef MOE_ML_H
#define MOE_ML_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/timestamp.h"

#include "kernels/job.h"

/* Functions PostgreSQL looks up by name are the only exported symbols (from 16 on PG_FUNCTION_INFO_V1 exports them
 * itself). */
#if PG_VERSION_NUM < 160000
#define MOE_FUNCTION(name)                                                                                             \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                                                          \
    PG_FUNCTION_INFO_V1(name)
#else
#define MOE_FUNCTION(name) PG_FUNCTION_INFO_V1(name)
#endif

/* Settings (GUCs) */
extern int moe_setting_threads;         /* moe_ml.threads; 0: one per core */
extern int moe_setting_memory_limit_mb; /* moe_ml.memory_limit */
extern int moe_setting_cache_size_mb;   /* moe_ml.cache_size */
extern bool moe_setting_notices;        /* moe_ml.notices */

/*
 * A job whose life is bound to a memory context: destroyed when the context
 * is reset or deleted, on error too. Cancel is wired to the backend's query
 * cancel and termination flags. Threads come from moe_ml.threads, the limit
 * from moe_ml.memory_limit. Raises on failure.
 */
moe_job *moe_job_in_context(MemoryContext context);
/* The same with so many threads, the calling one included. */
moe_job *moe_job_of_threads(MemoryContext context, int threads);

/*
 * Raise the job's failure, if code is not MOE_OK, as an ERROR with SQLSTATE
 * and HINT by kind (cancel goes through CHECK_FOR_INTERRUPTS).
 */
void moe_check(moe_job *job, moe_code code);
/* For calls that return a pointer: raise when it is NULL. */
void *moe_check_ptr(moe_job *job, void *ptr);

/* A NOTICE for a phase of work ("reading 9 tables ..."), silenced by moe_ml.notices = off. */
/* A time in which nothing may be written, whatever functions and views a query of the user's calls. */
typedef struct moe_read_only
{
    bool previous;
    ErrorContextCallback context;
} moe_read_only;

/* On error it ends with the transaction or subtransaction that the error aborts. */
void moe_read_only_begin(moe_read_only *reading);
void moe_read_only_end(const moe_read_only *reading);

void moe_notice(const char *format, ...) pg_attribute_printf(1, 2);

/* Seconds since some moment, for stage times. */
double moe_seconds(void);

/* The candidate nearest to `name` by edit distance, for "did you mean" hints; NULL if none is near. */
const char *moe_nearest_name(const char *name, const char *const *candidates, int n);

/* Parts of the module that _PG_init starts. */
void moe_statement_init(void); /* parser redirection, if in shared_preload_libraries */
void moe_schema_init(void);    /* security label provider */

#endif
