/*
 * background_ask.c: from a statement WITH (background) to a process that runs it.
 *
 * The process is started when the transaction is about to commit, so that a
 * transaction that rolls back, also to a savepoint, starts none, and one for
 * which there is no process fails as a whole, with an ERROR. The process then
 * waits for the commit before it looks for its job.
 *
 * The session's settings go with the job in the form in which the server hands
 * them to its own parallel workers: all of them, those of other extensions
 * included, which row-level security may rest on.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/background.h"
#include "extension/model_worker.h"
#include "extension/moe_ml.h"

static List *asked; /* int64 *: jobs of this transaction, in TopTransactionContext */

static bytea *
session_settings(void)
{
    Size size = EstimateGUCStateSpace();
    bytea *settings = palloc0(VARHDRSZ + size);

    SET_VARSIZE(settings, VARHDRSZ + size);
    SerializeGUCState(size, VARDATA(settings));
    return settings;
}

static void no_process(int64 job, bool tried) pg_attribute_noreturn();

static void
no_process(int64 job, bool tried)
{
    ereport(
        ERROR,
        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("could not start a process for job " INT64_FORMAT, job),
         tried ? errdetail("It ended as soon as it began; the server's log says why.")
               : errdetail("All of the %d background processes that max_worker_processes allows are in use.",
                           max_worker_processes),
         errhint("Wait for a job in moe_ml.job_details to end, raise max_worker_processes, or leave background out.")));
}

static void
start_process(int64 job)
{
    moe_background_start start = {job, MyDatabaseId, GetAuthenticatedUserId(), GetTopTransactionId()};
    BackgroundWorker worker = {
        .bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
        .bgw_start_time = BgWorkerStart_RecoveryFinished,
        .bgw_restart_time = BGW_NEVER_RESTART,
        .bgw_library_name = "moe_ml",
        .bgw_function_name = "moe_ml_background_main",
        .bgw_notify_pid = MyProcPid,
    };
    BackgroundWorkerHandle *handle;
    pid_t pid;

    snprintf(worker.bgw_name, BGW_MAXLEN, "moe_ml job " INT64_FORMAT, job);
    strlcpy(worker.bgw_type, MOE_BACKGROUND_TYPE, BGW_MAXLEN);
    memcpy(worker.bgw_extra, &start, sizeof(start));
    StaticAssertStmt(sizeof(start) <= BGW_EXTRALEN, "what a job's process is told must fit");
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        no_process(job, false);
    if (WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
        no_process(job, true);
    moe_job_set_process(job, (int) pid);
}

static void
start_processes(void)
{
    ListCell *cell;

    PushActiveSnapshot(GetTransactionSnapshot());
    foreach (cell, asked)
    {
        int64 job = *(int64 *) lfirst(cell);
        moe_job_row *row = moe_job_read(job);

        /* Rolled back to a savepoint before it, removed or cancelled, it is not to start. */
        if (row != NULL && row->state == MOE_JOB_QUEUED)
            start_process(job);
    }
    PopActiveSnapshot();
}

static void
end_of_transaction(XactEvent event, void *arg)
{
    if (asked == NIL)
        return;
    if (event == XACT_EVENT_PRE_PREPARE)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cannot PREPARE a transaction that has a model trained in the background"),
                        errhint("Use COMMIT, or leave background out.")));
    if (event == XACT_EVENT_PRE_COMMIT)
        start_processes();
    else if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        asked = NIL;
}

/* Start the job's process when the transaction commits. */
static void
start_at_commit(int64 job)
{
    static bool registered = false;
    MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
    int64 *number = palloc(sizeof(int64));

    if (!registered)
        RegisterXactCallback(end_of_transaction, NULL);
    registered = true;
    *number = job;
    asked = lappend(asked, number);
    MemoryContextSwitchTo(old);
}

/* What the process could not read, or would get wrong. */
static void
check(const moe_making *making)
{
    moe_schema *schema;

    if (InSecurityRestrictedOperation())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("cannot train in the background within a security-restricted operation"),
                        errhint("Leave the option background out.")));
    if (!moe_model_check(making->definition, &schema))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a model of temporary tables cannot be trained in the background"),
                        errdetail("Only this session can see them."), errhint("Leave the option background out.")));
}

void
moe_background_ask(const moe_making *making)
{
    moe_job_row row = {.owner = GetUserId(),
                       .schema = get_namespace_name(making->schema),
                       .model = making->name,
                       .statement = making->statement->text,
                       .settings = session_settings()};
    moe_making entered = *making;

    moe_making_enter(&entered);
    check(&entered);
    moe_making_leave(&entered);
    moe_job_insert(&row);
    start_at_commit(row.job);
    ereport(NOTICE,
            (errmsg("job " INT64_FORMAT " trains model \"%s\" in the background", row.job, making->name),
             IsTransactionBlock() ? errdetail("It begins when this transaction commits.") : 0,
             errhint("Watch it in moe_ml.jobs and moe_ml.training_progress; stop it by SELECT moe_ml.cancel_job(%lld).",
                     (long long) row.job)));
}
