/*
 * progress.c: trainings tell what they are doing; moe_ml.training_progress shows it.
 *
 * The server's own progress reports know only its own commands, and shared
 * memory is to be had on all versions only by a preloaded library. So each
 * training process writes one small record to a file of its own in
 * pg_stat_tmp, which the server keeps out of base backups: on a change of
 * phase, and else at most ten times a second. A record carries a hash, for a
 * reader may come amid a write, and the process's start, so that what a crash
 * left behind is never taken for a training: the reader shows a record only
 * if the server knows that very process. Telling is best effort: a full disk
 * stops no training.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "extension/moe_ml.h"
#include "extension/progress.h"
#include "kernels/random.h"

MOE_FUNCTION(moe_training_progress);

#define FILE_PREFIX   "moe_ml.training."
#define HASH_KEY      UINT64CONST(0x70726f6772657373)
#define WRITE_SECONDS 0.1
#define READ_TRIES    5
#define N_COLUMNS     17

typedef struct progress_record
{
    uint64 hash; /* of what follows */
    int32 pid;
    int32 leader; /* the session's, where a parallel worker trains for it */
    TimestampTz process_start;
    TimestampTz start, phase_start;
    Oid database, user;
    char model[NAMEDATALEN];
    char expert[NAMEDATALEN]; /* "": none */
    int32 phase;
    int32 member, members, epoch, epochs; /* 0: none */
    int64 step, steps;
    double loss, metric; /* NaN: none */
} progress_record;

static const char *const phase_names[] = {
    "preparing",        "reading tables",   "reading labels",  "building graph",
    "computing inputs", "training experts", "training router", "storing",
};

static int setting_max_seconds = 0;
static TimeoutId timeout = MAX_TIMEOUTS;
static volatile sig_atomic_t time_is_up = false;

static bool active = false;
static bool outlives; /* transactions that commit */
static int level;     /* of the transaction that it began in */
static progress_record own;
static double last_write;
static ErrorContextCallback explanation;

static void
path_of(int pid, char *path)
{
    snprintf(path, MAXPGPATH, "%s/%s%d", PG_STAT_TMP_DIR, FILE_PREFIX, pid);
}

static uint64
hash_of(const progress_record *record)
{
    return moe_hash_bytes((const char *) record + sizeof(record->hash), sizeof(*record) - sizeof(record->hash),
                          HASH_KEY);
}

static void
write_record(void)
{
    char path[MAXPGPATH];
    int file;

    own.hash = hash_of(&own);
    last_write = moe_seconds();
    path_of(own.pid, path);
    file = BasicOpenFile(path, O_CREAT | O_WRONLY | PG_BINARY);
    if (file < 0)
        return;
    if (pg_pwrite(file, &own, sizeof(own), 0) != sizeof(own))
        elog(DEBUG1, "could not write file \"%s\": %m", path);
    close(file);
}

/* No training is under way any more. */
static void
forget(void)
{
    char path[MAXPGPATH];

    active = false;
    path_of(own.pid, path);
    unlink(path);
    if (timeout != MAX_TIMEOUTS)
        disable_timeout(timeout, false);
    if (time_is_up)
        QueryCancelPending = false; /* it was for the training */
    time_is_up = false;
}

static void
end_of_transaction(XactEvent event, void *arg)
{
    if (active && event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PARALLEL_PRE_COMMIT &&
        event != XACT_EVENT_PRE_PREPARE && !(outlives && event == XACT_EVENT_COMMIT))
        forget();
}

static void
end_of_subtransaction(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
    if (active && event == SUBXACT_EVENT_ABORT_SUB && GetCurrentTransactionNestLevel() <= level)
        forget();
}

/* In a signal handler: end the training as a cancel would. */
static void
end_training(void)
{
    if (!active)
        return;
    time_is_up = true;
    QueryCancelPending = true;
    InterruptPending = true;
    SetLatch(MyLatch);
}

static void
explain_end(void *arg)
{
    if (!time_is_up || geterrcode() != ERRCODE_QUERY_CANCELED)
        return;
    errmsg("training model \"%s\" took longer than moe_ml.max_training_time (%d s)", own.model, setting_max_seconds);
    errhint(
        "Raise moe_ml.max_training_time, or train on less: with USING (...), max_steps, epochs or ensembles in WITH "
        "(...).");
}

void
moe_progress_init(void)
{
    DefineCustomIntVariable("moe_ml.max_training_time", "Time that one training may take.",
                            "A training that takes longer ends in an error. 0 means that there is no limit.",
                            &setting_max_seconds, 0, 0, INT_MAX / 1000, PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
watch_time(void)
{
    explanation = (ErrorContextCallback){error_context_stack, explain_end, NULL};
    error_context_stack = &explanation;
    if (setting_max_seconds == 0)
        return;
    if (timeout == MAX_TIMEOUTS)
        timeout = RegisterTimeout(USER_TIMEOUT, end_training);
    enable_timeout_after(timeout, setting_max_seconds * 1000);
}

void
moe_progress_begin(const char *model)
{
    static bool registered = false;

    if (!registered)
    {
        RegisterXactCallback(end_of_transaction, NULL);
        RegisterSubXactCallback(end_of_subtransaction, NULL);
        registered = true;
    }
    memset(&own, 0, sizeof(own)); /* padding too: it is hashed */
    own.pid = MyProcPid;
    own.leader = MyProc->lockGroupLeader != NULL ? MyProc->lockGroupLeader->pid : MyProcPid;
    own.process_start = MyStartTimestamp;
    own.start = own.phase_start = GetCurrentTimestamp();
    own.database = MyDatabaseId;
    own.user = GetSessionUserId();
    strlcpy(own.model, model, sizeof(own.model));
    own.loss = own.metric = NAN;
    level = GetCurrentTransactionNestLevel();
    outlives = false;
    time_is_up = false;
    active = true;
    watch_time();
    write_record();
}

void
moe_progress_outlive_transactions(void)
{
    outlives = true;
}

bool
moe_progress_is_late(void)
{
    return time_is_up;
}

void
moe_progress_end(void)
{
    if (!active)
        return;
    if (timeout != MAX_TIMEOUTS)
        disable_timeout(timeout, false);
    if (time_is_up)
        CHECK_FOR_INTERRUPTS();
    error_context_stack = explanation.previous;
    forget();
}

void
moe_progress_phase(moe_phase phase, const char *expert)
{
    if (!active)
        return;
    CHECK_FOR_INTERRUPTS();
    own.phase = phase;
    own.phase_start = GetCurrentTimestamp();
    strlcpy(own.expert, expert != NULL ? expert : "", sizeof(own.expert));
    own.member = own.members = own.epoch = own.epochs = 0;
    own.step = own.steps = 0;
    own.loss = own.metric = NAN;
    write_record();
}

void
moe_progress_step(int member, int members, const moe_progress *step)
{
    if (!active)
        return;
    own.member = member;
    own.members = members;
    own.epoch = step->epoch;
    own.epochs = step->epochs;
    own.step = step->step;
    own.steps = step->steps;
    if (step->epoch_done)
    {
        own.loss = step->train_loss;
        own.metric = step->metric;
    }
    if (step->epoch_done || moe_seconds() - last_write >= WRITE_SECONDS)
        write_record();
}

/* Whether the server knows the very process that wrote a record. */
static bool
is_running(const progress_record *record)
{
    for (int i = 1; i <= pgstat_fetch_stat_numbackends(); i++)
    {
#if PG_VERSION_NUM >= 160000
        LocalPgBackendStatus *local = pgstat_get_local_beentry_by_index(i);
#else
        LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
#endif

        if (local != NULL && local->backendStatus.st_procpid == record->pid)
            return local->backendStatus.st_proc_start_timestamp == record->process_start;
    }
    return false;
}

static bool
read_record(int pid, progress_record *record)
{
    char path[MAXPGPATH];
    bool whole = false;

    path_of(pid, path);
    for (int try = 0; try < READ_TRIES && !whole; try++)
    {
        int file = OpenTransientFile(path, O_RDONLY | PG_BINARY);

        if (file < 0)
            return false;
        whole = pg_pread(file, record, sizeof(*record), 0) == sizeof(*record) && record->hash == hash_of(record);
        CloseTransientFile(file);
    }
    return whole && record->pid == pid && record->phase >= 0 && record->phase <= MOE_PHASE_ELSEWHERE;
}

/* The share of the graph expert's steps that is done, if it trains to the last epoch; 0: it is not the one that trains.
 */
static double
share_done(const progress_record *record)
{
    double epochs;

    if (record->members == 0 || record->epochs == 0)
        return 0;
    epochs = (record->member - 1) * (double) record->epochs + record->epoch - 1;
    if (record->steps > 0)
        epochs += (double) record->step / record->steps;
    return epochs / ((double) record->members * record->epochs);
}

static Datum
interval_of(double seconds)
{
    Interval *interval = palloc0(sizeof(Interval));

    interval->time = (int64) (Max(seconds, 0) * USECS_PER_SEC);
    return IntervalPGetDatum(interval);
}

static void
put_details(const progress_record *record, Datum *values, bool *nulls)
{
    TimestampTz now = GetCurrentTimestamp();
    double done = share_done(record);
    double in_phase = (now - record->phase_start) / (double) USECS_PER_SEC;

    values[3] = CStringGetTextDatum(record->model);
    values[4] = CStringGetTextDatum(phase_names[record->phase]);
    values[5] = CStringGetTextDatum(record->expert);
    values[6] = Int32GetDatum(record->member);
    values[7] = Int32GetDatum(record->members);
    values[8] = Int32GetDatum(record->epoch);
    values[9] = Int32GetDatum(record->epochs);
    values[10] = Int64GetDatum(record->step);
    values[11] = Int64GetDatum(record->steps);
    values[12] = Float8GetDatum(record->loss);
    values[13] = Float8GetDatum(record->metric);
    values[14] = TimestampTzGetDatum(record->start);
    values[15] = interval_of((now - record->start) / (double) USECS_PER_SEC);
    values[16] = interval_of(done > 0 ? in_phase / done - in_phase : 0);
    memset(nulls + 3, false, (N_COLUMNS - 3) * sizeof(bool));
    nulls[5] = record->expert[0] == '\0';
    memset(nulls + 6, record->members == 0, 6 * sizeof(bool));
    nulls[12] = isnan(record->loss);
    nulls[13] = isnan(record->metric);
    nulls[16] = done <= 0;
}

static bool
may_see(Oid user)
{
    return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) || has_privs_of_role(GetUserId(), user);
}

/* As in the server's own views, anybody sees that somebody trains, and those with a right to it see what. */
static void
put_record(ReturnSetInfo *result, const progress_record *record)
{
    Datum values[N_COLUMNS] = {0};
    bool nulls[N_COLUMNS];

    values[0] = Int32GetDatum(record->leader);
    values[1] = ObjectIdGetDatum(record->database);
    values[2] = ObjectIdGetDatum(record->user);
    memset(nulls, false, 3);
    memset(nulls + 3, true, N_COLUMNS - 3);
    if (may_see(record->user))
        put_details(record, values, nulls);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
moe_training_progress(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    struct dirent *file;
    DIR *folder;

    InitMaterializedSRF(fcinfo, 0);
    folder = AllocateDir(PG_STAT_TMP_DIR);
    while ((file = ReadDirExtended(folder, PG_STAT_TMP_DIR, DEBUG1)) != NULL)
    {
        char path[MAXPGPATH];
        progress_record record;
        int pid;

        if (strncmp(file->d_name, FILE_PREFIX, strlen(FILE_PREFIX)) != 0)
            continue;
        pid = atoi(file->d_name + strlen(FILE_PREFIX));
        snprintf(path, MAXPGPATH, "%s/%s", PG_STAT_TMP_DIR, file->d_name);
        if (BackendPidGetProc(pid) == NULL)
            unlink(path); /* what a crash left behind */
        else if (read_record(pid, &record) && is_running(&record) && record.phase != MOE_PHASE_ELSEWHERE)
            put_record(result, &record);
    }
    FreeDir(folder);
    return (Datum) 0;
}
