/*
 * background.h: trainings that nobody waits for.
 *
 * CREATE MODEL or REFRESH MODEL ... WITH (background) checks the statement,
 * notes it as a job in the table moe_ml.job, and returns. When its transaction
 * commits, a process of its own takes the job: it waits for that commit, puts on
 * the asker's settings and role, reads the tables in one transaction, trains in
 * one that holds no snapshot, stores in a third, and writes how it ended into
 * the job's row.
 *
 * background_ask.c     from the statement to a process
 * background_worker.c  the process
 * background_job.c     rows of moe_ml.job; the SQL functions upon them
 */
#ifndef MOE_BACKGROUND_H
#define MOE_BACKGROUND_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "extension/model_make.h"

/* pg_stat_activity.backend_type of a job's process. */
#define MOE_BACKGROUND_TYPE "moe_ml job"

/* Job a training that was begun. Raises for what cannot be done in the background. */
void moe_background_ask(const moe_making *making);

/* What the process is told by the one that starts it: bgw_extra. */
typedef struct moe_background_start
{
    int64 job;
    Oid database;
    Oid user;                  /* that the asking session logged in as */
    TransactionId transaction; /* that asks */
} moe_background_start;

typedef enum moe_job_state
{
    MOE_JOB_QUEUED,
    MOE_JOB_RUNNING,
    MOE_JOB_FINISHED,
    MOE_JOB_FAILED,
    MOE_JOB_CANCELLED
} moe_job_state;

typedef struct moe_job_row /* of moe_ml.job, as far as it is read */
{
    int64 job;
    Oid owner;
    char *schema, *model;
    char *statement;
    moe_job_state state;
    int pid; /* 0: none yet, for the asking transaction has not committed; no other sees the row */
    TimestampTz process_start;
    bytea *settings; /* NULL: none */
} moe_job_row;

/* Rows, read and written by direct access: as of now, whatever the transaction's snapshot; NULL or false if the row is
 * gone. A snapshot must be active. */
int64 moe_job_insert(moe_job_row *row);
moe_job_row *moe_job_read(int64 job);
/* The process that was started for a job. */
bool moe_job_set_process(int64 job, int pid);
/* This process begins the job. Forgets its settings. */
bool moe_job_begin(int64 job);
/* sqlstate, message: or NULL */
bool moe_job_end(int64 job, moe_job_state state, const char *sqlstate, const char *message);

#endif
