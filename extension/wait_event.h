/*
 * wait_event.h: what a process of ours waits for, as pg_stat_activity shows it.
 *
 * Its type is Extension. From PostgreSQL 17 on the event has a name: MoeMlThreads, MoeMlDevice or MoeMlProcess; before,
 * it is Extension as well.
 */
#ifndef MOE_WAIT_EVENT_H
#define MOE_WAIT_EVENT_H

#include "postgres.h"

#include "kernels/job.h"

/* Name the events; before the first of the others, in each process. */
void moe_wait_events_init(void);
/* A moe_job_config's `waiting`. */
void moe_wait_report(moe_wait wait);
/* The event of a wait for another process, for WaitLatch. */
uint32 moe_wait_for_process(void);

#endif
