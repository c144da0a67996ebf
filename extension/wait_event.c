/*
 * wait_event.c: numbers of wait events.
 *
 * The job tells of a wait with a lock of its own held, so that nothing here may raise once the events are named.
 */
#include "extension/wait_event.h"

#include "pgstat.h"
#if PG_VERSION_NUM < 170000
#include "utils/wait_event.h"
#endif

static uint32 threads_event = PG_WAIT_EXTENSION;
static uint32 device_event = PG_WAIT_EXTENSION;
static uint32 process_event = PG_WAIT_EXTENSION;

void
moe_wait_events_init(void)
{
#if PG_VERSION_NUM >= 170000
    if (threads_event != PG_WAIT_EXTENSION)
        return;
    device_event = WaitEventExtensionNew("MoeMlDevice");
    process_event = WaitEventExtensionNew("MoeMlProcess");
    threads_event = WaitEventExtensionNew("MoeMlThreads");
#endif
}

void
moe_wait_report(moe_wait wait)
{
    switch (wait)
    {
        case MOE_WAIT_NONE:
            pgstat_report_wait_end();
            break;
        case MOE_WAIT_THREADS:
            pgstat_report_wait_start(threads_event);
            break;
        case MOE_WAIT_DEVICE:
            pgstat_report_wait_start(device_event);
            break;
    }
}

uint32
moe_wait_for_process(void)
{
    moe_wait_events_init();
    return process_event;
}
