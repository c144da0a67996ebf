/*
 * devices.c: tell which CUDA devices the module in a folder finds, a line each: devices FOLDER. Fails where none
 * serves.
 */
#include <inttypes.h>
#include <stdio.h>

#include "kernels/device.h"

int
main(int argc, char **argv)
{
    moe_device_report reports[16];
    char reason[512] = "";
    int usable = 0;
    int n = moe_device_list_cuda(argc > 1 ? argv[1] : ".", reports, 16, reason, sizeof reason);
    for (int i = 0; i < n; i++)
    {
        const moe_device_report *r = &reports[i];
        printf("%d: %s, capability %d.%d, %d multiprocessors, %" PRId64 " of %" PRId64
               " MB free, driver %d, runtime %d%s%s\n",
               r->ordinal, r->name, r->capability_major, r->capability_minor, r->multiprocessors, r->memory_free >> 20,
               r->memory_total >> 20, r->driver_version, r->runtime_version, r->usable ? "" : ": ", r->reason);
        usable += r->usable;
    }
    if (n == 0)
        printf("%s\n", reason);
    return usable > 0 ? 0 : 1;
}
