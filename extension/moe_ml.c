/*
 * moe_ml.c: the module's entry: settings, and the bridge between the numeric
 * core (status codes, jobs) and PostgreSQL (ereport, memory contexts, cancel).
 */
#include "extension/moe_ml.h"

#include <limits.h>
#include <unistd.h>

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#include "extension/device.h"
#include "extension/model_reach.h"
#include "extension/progress.h"
#include "extension/wait_event.h"
#include "kernels/device.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "moe_ml", .version = "0.1.0");
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

int moe_setting_threads = 0;
int moe_setting_memory_limit_mb = 2048;
int moe_setting_cache_size_mb = 256;
bool moe_setting_notices = true;

static void
define_settings(void)
{
    DefineCustomIntVariable("moe_ml.threads", "Threads a statement may use for training and prediction.",
                            "0 means one per processor core; more than the cores there are is cut to their number.",
                            &moe_setting_threads, 0, 0, 1024, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("moe_ml.memory_limit", "Memory that one training or prediction may use for its data.",
                            "A statement that needs more ends in an error.", &moe_setting_memory_limit_mb, 2048, 16,
                            INT_MAX, PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
    DefineCustomIntVariable("moe_ml.cache_size", "Memory that a session may keep for models between statements.",
                            "A model that was asked answers at once while nothing has been committed since. "
                            "0 keeps nothing.",
                            &moe_setting_cache_size_mb, 256, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
    DefineCustomBoolVariable("moe_ml.notices", "Tell the phases of a training as NOTICEs.", NULL, &moe_setting_notices,
                             true, PGC_USERSET, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
    define_settings();
    moe_device_init();
    moe_progress_init();
    moe_reach_init();
    moe_statement_init();
    moe_schema_init();
    MarkGUCPrefixReserved("moe_ml");
}

/* Read from any thread: both flags are sig_atomic_t and only ever set by signal handlers. */
static bool
backend_cancelled(void *arg)
{
    return QueryCancelPending || ProcDiePending;
}

static int
threads_to_use(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (cores < 1)
        cores = 1;
    if (moe_setting_threads == 0 || moe_setting_threads > cores)
        return (int) cores;
    return moe_setting_threads;
}

static void
destroy_job(void *arg)
{
    moe_job_destroy((moe_job *) arg);
}

moe_job *
moe_job_in_context(MemoryContext context)
{
    return moe_job_of_threads(context, threads_to_use());
}

moe_job *
moe_job_of_threads(MemoryContext context, int threads)
{
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
    moe_job_config config = {
        .threads = threads,
        .memory_limit = (size_t) moe_setting_memory_limit_mb * 1024 * 1024,
        .cancelled = backend_cancelled,
        .waiting = moe_wait_report,
    };
    moe_job *job;

    moe_wait_events_init();
    /* Threads that do not start are done without. */
    if (moe_job_create(&config, &job) != MOE_OK)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
                        errhint("Lower moe_ml.memory_limit to what the machine can spare.")));
    callback->func = destroy_job;
    callback->arg = job;
    MemoryContextRegisterResetCallback(context, callback);
    return job;
}

void
moe_check(moe_job *job, moe_code code)
{
    /* Copied first: the job may die with the context that ereport unwinds. */
    const char *text = code == MOE_OK ? "" : pstrdup(moe_job_error(job));

    switch (code)
    {
        case MOE_OK:
            return;
        case MOE_CANCELLED:
            CHECK_FOR_INTERRUPTS();
            ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED), errmsg("canceling statement due to user request")));
            break;
        case MOE_LIMIT:
            ereport(ERROR,
                    (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("%s", text),
                     moe_job_device(job) == NULL
                         ? errhint("Raise moe_ml.memory_limit, or let the statement read fewer tables with USING.")
                         : errhint("Raise moe_ml.gpu_memory_limit (the device's) or moe_ml.memory_limit (the "
                                   "host's), or SET moe_ml.device = 'cpu'.")));
            break;
        case MOE_OUT_OF_MEMORY:
            ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"), errdetail_internal("%s", text),
                            errhint("Lower moe_ml.memory_limit to what the machine can spare.")));
            break;
        case MOE_UNAVAILABLE:
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FILE), errmsg("%s", text),
                            errhint("Install the library for the server, then repeat the statement.")));
            break;
        case MOE_DEVICE_FAILED:
            ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("%s", text),
                            errhint("SET moe_ml.device = 'cpu' computes without the device.")));
            break;
        case MOE_CORRUPT:
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("%s", text),
                            errhint("REFRESH MODEL trains the model again.")));
            break;
        case MOE_INVALID:
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", text)));
            break;
    }
    elog(ERROR, "unknown moe_ml status %d: %s", code, text);
}

void *
moe_check_ptr(moe_job *job, void *ptr)
{
    if (ptr == NULL)
        moe_check(job, moe_job_code(job));
    return ptr;
}

static void
explain_reading(void *arg)
{
    if (geterrcode() == ERRCODE_READ_ONLY_SQL_TRANSACTION)
        errhint("Labels and tables are only read: leave out functions that write.");
}

void
moe_read_only_begin(moe_read_only *reading)
{
    reading->previous = XactReadOnly;
    reading->context.previous = error_context_stack;
    reading->context.callback = explain_reading;
    reading->context.arg = NULL;
    error_context_stack = &reading->context;
    XactReadOnly = true;
}

void
moe_read_only_end(const moe_read_only *reading)
{
    XactReadOnly = reading->previous;
    error_context_stack = reading->context.previous;
}

void
moe_notice(const char *format, ...)
{
    StringInfoData text;

    if (!moe_setting_notices)
        return;
    initStringInfo(&text);
    for (;;)
    {
        va_list args;
        int needed;

        va_start(args, format);
        needed = appendStringInfoVA(&text, format, args);
        va_end(args);
        if (needed == 0)
            break;
        enlargeStringInfo(&text, needed);
    }
    ereport(NOTICE, (errmsg_internal("%s", text.data)));
    pfree(text.data);
}

double
moe_seconds(void)
{
    instr_time now;

    INSTR_TIME_SET_CURRENT(now);
    return INSTR_TIME_GET_DOUBLE(now);
}

const char *
moe_nearest_name(const char *name, const char *const *candidates, int n)
{
    int length = (int) strlen(name);
    int limit = Max(1, length / 3); /* as near as a typing error */
    const char *nearest = NULL;

    if (length > NAMEDATALEN)
        return NULL;
    for (int i = 0; i < n; i++)
    {
        int candidate_length = (int) strlen(candidates[i]);
        int distance;

        if (candidate_length > NAMEDATALEN)
            continue;
        distance = varstr_levenshtein_less_equal(name, length, candidates[i], candidate_length, 1, 1, 1, limit, true);
        if (distance <= limit)
        {
            nearest = candidates[i];
            limit = distance - 1;
            if (limit < 0)
                break;
        }
    }
    return nearest;
}
