/*
 * background_worker.c: the process of a training in the background.
 *
 * It connects as the user that the asking session had logged in as, puts on
 * that session's settings, and works as the role that asked, as within a
 * security-definer function: code that the training runs cannot change the role
 * back. Between reading and storing no snapshot is held, so that vacuum goes on,
 * and no lock; what changed meanwhile is found before the model is stored.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/background.h"
#include "extension/device.h"
#include "extension/model_command.h"
#include "extension/moe_ml.h"
#include "extension/progress.h"
#include "extension/worker.h"

PGDLLEXPORT void moe_ml_background_main(Datum unused);

static MemoryContext job_context; /* lives as long as the process */
static Oid job_role;              /* that asked; InvalidOid: not yet */

/*
 * Begin a transaction as the role that asked. The server takes it that there is no security context outside of
 * transactions, so it is put on in each of them.
 */
static void
begin_transaction(void)
{
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    if (OidIsValid(job_role))
        SetUserIdAndSecContext(job_role, SECURITY_LOCAL_USERID_CHANGE);
    MemoryContextSwitchTo(job_context);
}

/* The same with a snapshot. */
static void
begin_reading(void)
{
    begin_transaction();
    PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit, give the snapshot back, and be the session's user until the next one. */
static void
end_transaction(void)
{
    if (ActiveSnapshotSet())
        PopActiveSnapshot();
    CommitTransactionCommand();
    SetUserIdAndSecContext(GetSessionUserId(), 0);
    MemoryContextSwitchTo(job_context);
}

/* Wait for the asking transaction, and take the job; NULL if it rolled back. */
static moe_job_row *
take_job(const moe_background_start *start)
{
    moe_job_row *row;

    begin_transaction();
    XactLockTableWait(start->transaction, NULL, NULL, XLTW_None);
    PushActiveSnapshot(GetTransactionSnapshot());
    row = moe_job_read(start->job);
    if (row == NULL || row->state != MOE_JOB_QUEUED || !moe_job_begin(start->job))
        row = NULL;
    end_transaction();
    return row;
}

static void
require_role(Oid role)
{
    if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the role that asked for the job was dropped"),
                        errhint("Repeat the statement as another role.")));
}

/* Become what the asking session was: its settings, and the role it had. */
static void
impersonate(const moe_job_row *row)
{
    begin_transaction();               /* and no snapshot: the level of isolation is among the settings */
    InitializingParallelWorker = true; /* settings are taken over as a parallel worker does, not made */
    RestoreGUCState(VARDATA(row->settings));
    InitializingParallelWorker = false;
    /* What the asking transaction had set for itself, it has shown to be no obstacle. */
    SetConfigOption("default_transaction_read_only", "off", PGC_USERSET, PGC_S_SESSION);
    require_role(row->owner);
    end_transaction();
    job_role = row->owner;
    if (moe_device_wanted())
        moe_worker_declare();
}

/* Read, under a snapshot that ends with the transaction; NULL: there is nothing to do. */
static moe_training *
read_tables(moe_making *making, moe_statement *statement)
{
    moe_training *training = NULL;

    begin_reading();
    if (moe_making_begin(making, statement))
    {
        moe_progress_begin(making->name);
        moe_progress_outlive_transactions();
        moe_making_enter(making);
        training = moe_model_read(making->definition, making->record ? making->existing : InvalidOid);
        moe_making_leave(making);
    }
    end_transaction();
    return training;
}

/* Train, in a transaction without a snapshot. */
static void
learn(moe_training *training, const char *name)
{
    begin_transaction();
    moe_model_learn(training, name);
    end_transaction();
}

/* What REFRESH MODEL began with must be there still: no lock has kept others from it. */
static void
check_unchanged(const moe_making *before, const moe_making *now)
{
    if (before->record == NULL)
        return;
    if (before->existing != now->existing || before->record->trained_at != now->record->trained_at ||
        strcmp(before->record->info.definition, now->record->info.definition) != 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("model \"%s\" was changed while it was trained", before->name),
                        errdetail("It was refreshed, altered or replaced by another session."),
                        errhint("Repeat the statement.")));
}

/* Store the model and the job's end in one transaction. */
static void
store(const moe_job_row *row, const moe_making *before, moe_statement *statement, moe_training *training)
{
    moe_making now;

    begin_reading();
    require_role(row->owner);
    moe_progress_phase(MOE_PHASE_STORING, NULL);
    if (!moe_making_begin(&now, statement))
        moe_job_end(row->job, MOE_JOB_FINISHED, NULL, "the model was made by another session meanwhile, and kept");
    else
    {
        check_unchanged(before, &now);
        moe_making_recheck(&now, training);
        moe_making_store(&now, training);
        moe_job_end(row->job, MOE_JOB_FINISHED, NULL, NULL);
    }
    moe_progress_end();
    end_transaction();
}

/* The whole job, if it is there to be done. */
static void
run_job(const moe_background_start *start)
{
    moe_job_row *row = take_job(start);
    moe_statement *statement;
    moe_making making;
    moe_training *training;

    if (row == NULL)
        return;
    debug_query_string = row->statement;
    pgstat_report_activity(STATE_RUNNING, row->statement);
    impersonate(row);
    begin_reading();
    statement = moe_statement_parse(row->statement, 0, (int) strlen(row->statement));
    end_transaction();
    training = read_tables(&making, statement);
    if (training == NULL)
    {
        begin_reading();
        moe_job_end(row->job, MOE_JOB_FINISHED, NULL, "the model was there already");
        end_transaction();
        return;
    }
    learn(training, making.name);
    store(row, &making, statement, training);
}

/* An error as the job's owner reads it. */
static char *
message_of(const ErrorData *error)
{
    StringInfoData text;

    initStringInfo(&text);
    appendStringInfoString(&text, error->message ? error->message : "missing error text");
    if (error->detail)
        appendStringInfo(&text, "\nDETAIL:  %s", error->detail);
    if (error->hint)
        appendStringInfo(&text, "\nHINT:  %s", error->hint);
    return text.data;
}

/* In a PG_CATCH: end the transaction, and write into the job's row what went wrong. */
static void
report_failure(int64 job)
{
    bool late = moe_progress_is_late();
    ErrorData *error;
    moe_job_state state;

    disable_all_timeouts(false);
    QueryCancelPending = false;
    MemoryContextSwitchTo(job_context);
    error = CopyErrorData();
    EmitErrorReport();
    FlushErrorState();
    AbortCurrentTransaction();
    MemoryContextSwitchTo(job_context);
    state = error->sqlerrcode == ERRCODE_QUERY_CANCELED && !late ? MOE_JOB_CANCELLED : MOE_JOB_FAILED;
    begin_reading();
    moe_job_end(job, state, unpack_sql_state(error->sqlerrcode), message_of(error));
    end_transaction();
}

/* The process's entry. */
void
moe_ml_background_main(Datum unused)
{
    moe_background_start start;

    memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(start.database, start.user, 0);
    job_context = AllocSetContextCreate(TopMemoryContext, "moe_ml background job", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(job_context);
    pgstat_report_appname(MyBgworkerEntry->bgw_name);
    PG_TRY();
    {
        run_job(&start);
    }
    PG_CATCH();
    {
        report_failure(start.job);
    }
    PG_END_TRY();
    pgstat_report_activity(STATE_IDLE, NULL);
}
