/*
 * device.h: where a job's arrays live and its operations run.
 *
 * A job computes on the host unless it was given a device (moe_job_use_device).
 * Then what the operations of ops.h read and write lies in the device's memory,
 * work is queued in the order it is asked for, and the host waits only in
 * moe_download. On the host all of this is memcpy, and costs no copy where the
 * tape can hand the caller's array through.
 *
 * A device belongs to one job, is used by the thread that made the job, and is
 * closed by moe_job_destroy, which gives all its memory back. A failure of a
 * call is recorded in the job under the call's name (MOE_DEVICE_FAILED); after a
 * sticky one (`broken`) nothing but closing works, and the process should end.
 */
#ifndef MOE_DEVICE_H
#define MOE_DEVICE_H

#include "kernels/ops.h"

/* What a module was built against: of two that differ neither can serve the other. */
#define MOE_DEVICE_ABI (2 * 65536 + (int) sizeof(moe_backend))

/* What a module that drives a device must give; made by its `open`. */
struct moe_device
{
    const moe_backend *backend;
    char name[256]; /* of the device, as its maker calls it */
    bool broken;    /* a call failed in a way that only a new process cures */
    /* 256-byte aligned, not zeroed. NULL where there is not enough: recorded if `must`, else the caller tries less. */
    void *(*alloc)(moe_device *device, size_t bytes, bool must);
    void (*release)(moe_device *device, void *memory);
    void (*zero)(moe_device *device, void *memory, size_t bytes);
    void (*copy)(moe_device *device, void *to, const void *from, size_t bytes);     /* on the device */
    void (*upload)(moe_device *device, void *to, const void *from, size_t bytes);   /* `from` may be reused on return */
    void (*download)(moe_device *device, void *to, const void *from, size_t bytes); /* waits for all queued work */
    size_t (*used)(const moe_device *device);                                       /* bytes allocated now */
    size_t (*peak)(const moe_device *device);
    void (*close)(moe_device *device); /* frees all memory, and the device */
};

/* One card, or why there is none. */
typedef struct moe_device_report
{
    int ordinal;
    char name[256];
    int capability_major, capability_minor;
    int64_t memory_total, memory_free; /* bytes */
    int multiprocessors;
    int driver_version, runtime_version; /* as CUDA numbers them: 1000 * major + 10 * minor */
    bool usable;
    char reason[512]; /* why not, if not */
} moe_device_report;

/*
 * Open the CUDA device for a job: load the module from `directory` (dlopen, once a process), start the
 * device, take up to memory_limit bytes of its memory as needed (0: no limit). Where that cannot be, false, and
 * the reason, a sentence fit for an errdetail, is in reason[size]. The job then computes on the device.
 */
bool moe_device_open_cuda(moe_job *job, const char *directory, size_t memory_limit, char *reason, size_t size);
/* What cards there are: fills up to `most` reports and returns their number; 0: none, and reason says why. */
int moe_device_list_cuda(const char *directory, moe_device_report *reports, int most, char *reason, size_t size);

/* NULL: the host. */
moe_device *moe_job_device(const moe_job *job);
/* Hand a device over to a job that has none and has allocated nothing on one. */
void moe_job_use_device(moe_job *job, moe_device *device);
/* The table of the job's device, or moe_backend_cpu. */
const moe_backend *moe_job_backend(const moe_job *job);

/* As moe_alloc and moe_free, but in the memory of the job's device. Zeroed. Bytes of 0 may go with NULL below. */
void *moe_device_alloc(moe_job *job, int64_t count, size_t size);
void moe_device_free(moe_job *job, void *memory);
void moe_device_zero(moe_job *job, void *memory, size_t bytes);
void moe_device_copy(moe_job *job, void *to, const void *from, size_t bytes);
void moe_upload(moe_job *job, void *to, const void *from, size_t bytes);
void moe_download(moe_job *job, void *to, const void *from, size_t bytes);

/* The symbols a module exports; kernels/device.c looks them up by these names. */
#define MOE_DEVICE_ABI_NAME "moe_cuda_abi" /* const int: MOE_DEVICE_ABI as the module sees it */
#define MOE_DEVICE_OPEN     "moe_cuda_open"
#define MOE_DEVICE_LIST     "moe_cuda_list"
/* What a module may call: it is loaded apart, and sees no symbol of the library that loads it. */
typedef struct moe_device_host
{
    moe_device *(*device)(const moe_job *job);                             /* moe_job_device */
    moe_code (*fail)(moe_job *job, moe_code code, const char *format, ...) /* moe_fail */
        __attribute__((format(printf, 3, 4)));
    bool (*cancelled)(moe_job *job); /* moe_job_cancelled */
} moe_device_host;
typedef moe_device *(*moe_device_open_fn)(const moe_device_host *host, moe_job *job, size_t memory_limit, char *reason,
                                          size_t size);
typedef int (*moe_device_list_fn)(moe_device_report *reports, int most, char *reason, size_t size);

#endif
