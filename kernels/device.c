/*
 * device.c: a job's arrays in the memory of its device, or of the host.
 *
 * Without a device every call here is its counterpart of the C library. The
 * module that drives CUDA is a shared library of its own, so that one package
 * serves machines with and without a card; it stays loaded once it was, since
 * the driver's threads may not outlive its code.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device.h"
#include "kernels/memory.h"

#define MODULE_FILE "moe_ml_cuda.so"

/* A loaded module. */
typedef struct module
{
    moe_device_open_fn open;
    moe_device_list_fn list;
} module;

static pthread_mutex_t module_lock = PTHREAD_MUTEX_INITIALIZER;
static module loaded; /* open is NULL until a module was loaded */

static const moe_device_host host = {.device = moe_job_device, .fail = moe_fail, .cancelled = moe_job_cancelled};

/* Look a library's symbols up; false, and the reason, where it is not a module of this version. */
static bool
find_symbols(void *library, const char *path, module *found, char *reason, size_t size)
{
    const int *abi = dlsym(library, MOE_DEVICE_ABI_NAME);
    found->open = (moe_device_open_fn) dlsym(library, MOE_DEVICE_OPEN);
    found->list = (moe_device_list_fn) dlsym(library, MOE_DEVICE_LIST);
    if (abi == NULL || found->open == NULL || found->list == NULL)
        snprintf(reason, size, "The file \"%s\" is not a device module of moe_ml.", path);
    else if (*abi != MOE_DEVICE_ABI)
        snprintf(reason, size, "The device module \"%s\" belongs to another version of moe_ml.", path);
    else
        return true;
    return false;
}

/* Load the module of a directory, unless one was loaded before. */
static bool
load_locked(const char *directory, char *reason, size_t size)
{
    char path[4096];
    module found;
    if (loaded.open != NULL)
        return true;
    int length = snprintf(path, sizeof path, "%s/%s", directory, MODULE_FILE);
    if (length < 0 || (size_t) length >= sizeof path)
    {
        snprintf(reason, size, "The path of the device module is too long.");
        return false;
    }
    if (access(path, F_OK) != 0)
    {
        snprintf(reason, size, "The device module \"%s\" is not installed.", path);
        return false;
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
    {
        const char *error = dlerror();
        snprintf(reason, size, "The device module could not be loaded: %s.", error == NULL ? "unknown error" : error);
        return false;
    }
    if (!find_symbols(library, path, &found, reason, size))
    {
        dlclose(library);
        return false;
    }
    loaded = found;
    return true;
}

static bool
load(const char *directory, module *out, char *reason, size_t size)
{
    pthread_mutex_lock(&module_lock);
    bool done = load_locked(directory, reason, size);
    *out = loaded;
    pthread_mutex_unlock(&module_lock);
    return done;
}

bool
moe_device_open_cuda(moe_job *job, const char *directory, size_t memory_limit, char *reason, size_t size)
{
    module cuda;
    if (size > 0)
        reason[0] = '\0';
    if (!load(directory, &cuda, reason, size))
        return false;
    moe_device *device = cuda.open(&host, job, memory_limit, reason, size);
    if (device == NULL)
        return false;
    moe_job_use_device(job, device);
    return true;
}

int
moe_device_list_cuda(const char *directory, moe_device_report *reports, int most, char *reason, size_t size)
{
    module cuda;
    if (size > 0)
        reason[0] = '\0';
    return load(directory, &cuda, reason, size) ? cuda.list(reports, most, reason, size) : 0;
}

const moe_backend *
moe_job_backend(const moe_job *job)
{
    const moe_device *device = moe_job_device(job);
    return device == NULL ? &moe_backend_cpu : device->backend;
}

void *
moe_device_alloc(moe_job *job, int64_t count, size_t size)
{
    moe_device *device = moe_job_device(job);
    size_t bytes;
    if (device == NULL)
        return moe_alloc(job, count, size);
    if (!moe_checked_size(job, count, size, &bytes))
        return NULL;
    bytes = bytes > 0 ? bytes : 1;
    void *memory = device->alloc(device, bytes, true);
    if (memory != NULL)
        device->zero(device, memory, bytes);
    return memory;
}

void
moe_device_free(moe_job *job, void *memory)
{
    moe_device *device = moe_job_device(job);
    if (device == NULL)
        moe_free(job, memory);
    else if (memory != NULL)
        device->release(device, memory);
}

void
moe_device_zero(moe_job *job, void *memory, size_t bytes)
{
    moe_device *device = moe_job_device(job);
    if (bytes == 0)
        return;
    if (device == NULL)
        memset(memory, 0, bytes);
    else
        device->zero(device, memory, bytes);
}

void
moe_device_copy(moe_job *job, void *to, const void *from, size_t bytes)
{
    moe_device *device = moe_job_device(job);
    if (bytes == 0)
        return;
    if (device == NULL)
        memcpy(to, from, bytes);
    else
        device->copy(device, to, from, bytes);
}

void
moe_upload(moe_job *job, void *to, const void *from, size_t bytes)
{
    moe_device *device = moe_job_device(job);
    if (bytes == 0)
        return;
    if (device == NULL)
        memcpy(to, from, bytes);
    else
        device->upload(device, to, from, bytes);
}

void
moe_download(moe_job *job, void *to, const void *from, size_t bytes)
{
    moe_device *device = moe_job_device(job);
    if (bytes == 0)
        return;
    if (device == NULL)
        memcpy(to, from, bytes);
    else
    {
        moe_job_waits(job, MOE_WAIT_DEVICE);
        device->download(device, to, from, bytes);
        moe_job_waits(job, MOE_WAIT_NONE);
    }
}
