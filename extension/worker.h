/*
 * worker.h: do a piece of work in a process of its own, and wait for it.
 *
 * The process is a parallel worker of the calling transaction: same user,
 * same snapshot, same settings, own uncommitted rows included; it may read but
 * not write, and not see temporary tables. Its errors and notices become the
 * caller's. What it breaks (a device in a state that only a new process
 * cures) ends with it.
 */
#ifndef MOE_WORKER_H
#define MOE_WORKER_H

#include "postgres.h"

typedef enum moe_worker_task
{
    MOE_WORKER_TRAIN,
    MOE_WORKER_LIST_DEVICES
} moe_worker_task;

/* Where a task puts its answer, piece by piece. */
typedef struct moe_worker_answer moe_worker_answer;
typedef void (*moe_worker_fn)(const char *request, Size length, moe_worker_answer *answer);

void moe_worker_put(moe_worker_answer *answer, const void *bytes, Size length);

/*
 * Run a task and return its answer, palloc'd (it may be huge), *length bytes. NULL if no process could be had:
 * *reason then says why. Must not be called in a parallel worker or during a parallel operation. Raises what the
 * task raises; cancelling ends both.
 */
char *moe_worker_run(moe_worker_task task, const char *request, Size request_length, Size *length, const char **reason);
/* Whether this process may own a device: it is such a worker, or has been declared to be as good as one. */
bool moe_worker_running(void);
/* This process ends with the work that it does. */
void moe_worker_declare(void);

/* The tasks */
void moe_worker_train(const char *request, Size length, moe_worker_answer *answer);        /* model_worker.c */
void moe_worker_list_devices(const char *request, Size length, moe_worker_answer *answer); /* device.c */

#endif
