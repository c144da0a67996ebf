/*
 * background_job.c: the rows of moe_ml.job, and what people do with jobs.
 *
 * Nobody has privileges on the table. The rows are read and written by direct
 * access, here; what may be done to a job follows from its owner, whom members
 * of that role and superusers stand for.
 *
 * A row says what its process last wrote. Whether that process still is there,
 * the server knows: a row of a process that is gone is one of a lost job.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/background.h"
#include "extension/moe_ml.h"

MOE_FUNCTION(moe_job_is_lost);
MOE_FUNCTION(moe_job_cancel);
MOE_FUNCTION(moe_job_remove);

/* Columns of moe_ml.job, as sql/57_background.sql has them. */
enum
{
    COL_JOB,
    COL_OWNER,
    COL_SCHEMA,
    COL_MODEL,
    COL_STATEMENT,
    COL_STATE,
    COL_ASKED,
    COL_STARTED,
    COL_ENDED,
    COL_PID,
    COL_PROCESS_START,
    COL_SETTINGS,
    COL_SQLSTATE,
    COL_MESSAGE,
    N_COLUMNS
};

static const char *const state_names[] = {"queued", "running", "finished", "failed", "cancelled"};

/* New values of some columns. */
typedef struct change
{
    Datum values[N_COLUMNS];
    bool nulls[N_COLUMNS];
    bool replace[N_COLUMNS];
} change;

static void
put(change *c, int column, Datum value)
{
    c->values[column] = value;
    c->nulls[column] = false;
    c->replace[column] = true;
}

static void
put_text(change *c, int column, const char *text)
{
    put(c, column, text == NULL ? (Datum) 0 : CStringGetTextDatum(text));
    c->nulls[column] = text == NULL;
}

static Oid
object_oid(const char *name)
{
    Oid relid = get_relname_relid(name, get_namespace_oid("moe_ml", false));

    if (!OidIsValid(relid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation moe_ml.%s does not exist", name),
                        errhint("Create the extension anew: DROP EXTENSION moe_ml; CREATE EXTENSION moe_ml.")));
    return relid;
}

int64
moe_job_insert(moe_job_row *row)
{
    Relation rel = table_open(object_oid("job"), RowExclusiveLock);
    change c;

    memset(c.nulls, true, sizeof(c.nulls));
    row->job = nextval_internal(object_oid("job_number"), false);
    put(&c, COL_JOB, Int64GetDatum(row->job));
    put(&c, COL_OWNER, ObjectIdGetDatum(row->owner));
    put_text(&c, COL_SCHEMA, row->schema);
    put_text(&c, COL_MODEL, row->model);
    put_text(&c, COL_STATEMENT, row->statement);
    put_text(&c, COL_STATE, state_names[MOE_JOB_QUEUED]);
    put(&c, COL_ASKED, TimestampTzGetDatum(GetCurrentTimestamp()));
    put(&c, COL_SETTINGS, PointerGetDatum(row->settings));
    CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), c.values, c.nulls));
    table_close(rel, RowExclusiveLock);
    CommandCounterIncrement();
    return row->job;
}

static SysScanDesc
begin_scan(Relation rel, int64 job)
{
    ScanKeyData key;
    Oid index;

#if PG_VERSION_NUM >= 180000
    index = RelationGetPrimaryKeyIndex(rel, false);
#else
    index = RelationGetPrimaryKeyIndex(rel);
#endif
    ScanKeyInit(&key, COL_JOB + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(job));
    return systable_beginscan(rel, index, true, NULL, 1, &key);
}

static moe_job_row *
row_from(const Datum *values, const bool *nulls)
{
    moe_job_row *row = palloc0(sizeof(moe_job_row));
    char *state = TextDatumGetCString(values[COL_STATE]);

    row->job = DatumGetInt64(values[COL_JOB]);
    row->owner = DatumGetObjectId(values[COL_OWNER]);
    row->schema = TextDatumGetCString(values[COL_SCHEMA]);
    row->model = TextDatumGetCString(values[COL_MODEL]);
    row->statement = TextDatumGetCString(values[COL_STATEMENT]);
    row->state = MOE_JOB_FAILED;
    for (int i = 0; i < (int) lengthof(state_names); i++)
        if (strcmp(state, state_names[i]) == 0)
            row->state = (moe_job_state) i;
    row->pid = nulls[COL_PID] ? 0 : DatumGetInt32(values[COL_PID]);
    row->process_start = nulls[COL_PROCESS_START] ? 0 : DatumGetTimestampTz(values[COL_PROCESS_START]);
    row->settings = nulls[COL_SETTINGS] ? NULL : DatumGetByteaPCopy(values[COL_SETTINGS]);
    return row;
}

moe_job_row *
moe_job_read(int64 job)
{
    Relation rel = table_open(object_oid("job"), AccessShareLock);
    SysScanDesc scan = begin_scan(rel, job);
    HeapTuple tuple = systable_getnext(scan);
    moe_job_row *row = NULL;

    if (HeapTupleIsValid(tuple))
    {
        Datum values[N_COLUMNS];
        bool nulls[N_COLUMNS];

        heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
        row = row_from(values, nulls);
    }
    systable_endscan(scan);
    table_close(rel, AccessShareLock);
    return row;
}

/* Change a row, or delete it; false if there is none. */
static bool
change_row(int64 job, change *c)
{
    Relation rel = table_open(object_oid("job"), RowExclusiveLock);
    SysScanDesc scan = begin_scan(rel, job);
    HeapTuple tuple = systable_getnext(scan);
    bool found = HeapTupleIsValid(tuple);

    if (found && c == NULL)
        CatalogTupleDelete(rel, &tuple->t_self);
    else if (found)
        CatalogTupleUpdate(rel, &tuple->t_self,
                           heap_modify_tuple(tuple, RelationGetDescr(rel), c->values, c->nulls, c->replace));
    systable_endscan(scan);
    table_close(rel, RowExclusiveLock);
    CommandCounterIncrement();
    return found;
}

bool
moe_job_set_process(int64 job, int pid)
{
    change c = {0};

    put(&c, COL_PID, Int32GetDatum(pid));
    return change_row(job, &c);
}

bool
moe_job_begin(int64 job)
{
    change c = {0};

    put_text(&c, COL_STATE, state_names[MOE_JOB_RUNNING]);
    put(&c, COL_STARTED, TimestampTzGetDatum(GetCurrentTimestamp()));
    put(&c, COL_PID, Int32GetDatum(MyProcPid));
    put(&c, COL_PROCESS_START, TimestampTzGetDatum(MyStartTimestamp));
    c.nulls[COL_SETTINGS] = c.replace[COL_SETTINGS] = true;
    return change_row(job, &c);
}

bool
moe_job_end(int64 job, moe_job_state state, const char *sqlstate, const char *message)
{
    change c = {0};

    put_text(&c, COL_STATE, state_names[state]);
    put(&c, COL_ENDED, TimestampTzGetDatum(GetCurrentTimestamp()));
    put_text(&c, COL_SQLSTATE, sqlstate);
    put_text(&c, COL_MESSAGE, message);
    return change_row(job, &c);
}

static bool
is_open(const moe_job_row *row)
{
    return row->state == MOE_JOB_QUEUED || row->state == MOE_JOB_RUNNING;
}

/* When the process of that number began, as the server tells; 0: there is none. */
static TimestampTz
start_of_process(int pid)
{
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
    {
#if PG_VERSION_NUM >= 160000
        LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(i);
#else
        LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
#endif

        if (local != NULL && local->backendStatus.st_procpid == pid)
            return local->backendStatus.st_proc_start_timestamp;
    }
    return 0;
}

/* Is the process of an open job there? One that has just been started is known by its number and kind alone. */
static bool
has_process(const moe_job_row *row)
{
    const char *type = row->pid == 0 ? NULL : GetBackgroundWorkerTypeByPid(row->pid);

    if (type == NULL || strcmp(type, MOE_BACKGROUND_TYPE) != 0)
        return false;
    if (row->process_start == 0)
        return true;
    pgstat_clear_backend_activity_snapshot();
    return start_of_process(row->pid) == row->process_start;
}

static bool
is_its_owner(const moe_job_row *row)
{
    return has_privs_of_role(GetUserId(), row->owner);
}

Datum
moe_job_is_lost(PG_FUNCTION_ARGS)
{
    int64 job = PG_GETARG_INT64(0);
    moe_job_row *row = moe_job_read(job);

    if (row == NULL || !is_open(row) || row->pid == 0 || RecoveryInProgress() ||
        !(is_its_owner(row) || has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS)) || has_process(row))
        PG_RETURN_BOOL(false);
    /* It may have ended properly since it was read. */
    InvalidateCatalogSnapshot();
    row = moe_job_read(job);
    PG_RETURN_BOOL(row != NULL && is_open(row));
}

/* The job of that number, which the caller may cancel and remove. */
static moe_job_row *
own_job(int64 job)
{
    moe_job_row *row = moe_job_read(job);

    if (row == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("job " INT64_FORMAT " does not exist", job),
                        errhint("SELECT * FROM moe_ml.jobs lists your jobs.")));
    if (!is_its_owner(row))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of job " INT64_FORMAT, job),
                        errhint("Jobs are cancelled and removed by the role that they run as, its members, and "
                                "superusers.")));
    return row;
}

Datum
moe_job_cancel(PG_FUNCTION_ARGS)
{
    moe_job_row *row;

    PreventCommandDuringRecovery("moe_ml.cancel_job()");
    row = own_job(PG_GETARG_INT64(0));
    if (is_open(row) && row->pid == 0) /* asked for by this transaction, which will start no process for it now */
        PG_RETURN_BOOL(moe_job_end(row->job, MOE_JOB_CANCELLED, NULL, NULL));
    if (!is_open(row) || !has_process(row) || kill(row->pid, SIGINT) != 0)
    {
        ereport(NOTICE, (errmsg("job " INT64_FORMAT " is not running", row->job)));
        PG_RETURN_BOOL(false);
    }
    PG_RETURN_BOOL(true);
}

Datum
moe_job_remove(PG_FUNCTION_ARGS)
{
    moe_job_row *row;

    PreventCommandIfReadOnly("moe_ml.remove_job()");
    PreventCommandDuringRecovery("moe_ml.remove_job()");
    row = own_job(PG_GETARG_INT64(0));
    if (is_open(row) && has_process(row))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("job " INT64_FORMAT " is running", row->job),
                        errhint("Cancel it first: SELECT moe_ml.cancel_job(" INT64_FORMAT ").", row->job)));
    change_row(row->job, NULL);
    PG_RETURN_VOID();
}
