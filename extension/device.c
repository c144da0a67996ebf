/*
 * device.c: the settings that choose a device, and what moe_ml.device_info() tells.
 *
 * Whether a card can be used is known only once its driver was started, which
 * no session does: trainings and device_info() ask a process of their own. A
 * server without the module never starts one.
 */
#include "extension/device.h"

#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"

#include "extension/moe_ml.h"
#include "extension/worker.h"
#include "kernels/device.h"

#define MOST_DEVICES 64

typedef enum device_setting
{
    DEVICE_AUTO,
    DEVICE_CPU,
    DEVICE_CUDA
} device_setting;

static const struct config_enum_entry device_settings[] = {
    {"auto", DEVICE_AUTO, false}, {"cpu", DEVICE_CPU, false}, {"cuda", DEVICE_CUDA, false}, {NULL, 0, false}};

static int setting_device = DEVICE_AUTO;
static bool none_found; /* a training of this session looked for a device under `auto` in vain */
static int setting_gpu_memory_limit_mb = 0;

/* Look again when the setting is made again. */
static void
assign_device(int value, void *extra)
{
    none_found = false;
}

void
moe_device_init(void)
{
    DefineCustomEnumVariable("moe_ml.device", "Where models are trained.",
                             "auto takes a CUDA device where one can be used, cuda raises an error where none can.",
                             &setting_device, DEVICE_AUTO, device_settings, PGC_USERSET, 0, NULL, assign_device, NULL);
    DefineCustomIntVariable("moe_ml.gpu_memory_limit", "Device memory that one training may use.",
                            "0 means as much as the device has. A training that needs more ends in an error.",
                            &setting_gpu_memory_limit_mb, 0, 0, INT_MAX, PGC_SUSET, GUC_UNIT_MB, NULL, NULL, NULL);
}

/* The directory this library was loaded from: the module lies beside it. */
static const char *
module_directory(void)
{
    static char directory[MAXPGPATH];
    Dl_info info;

    if (directory[0] == '\0')
    {
        strlcpy(directory, pkglib_path, sizeof(directory));
        if (dladdr((void *) device_settings, &info) != 0 && info.dli_fname != NULL && strchr(info.dli_fname, '/'))
        {
            strlcpy(directory, info.dli_fname, sizeof(directory));
            *strrchr(directory, '/') = '\0';
        }
    }
    return directory;
}

static bool
module_installed(void)
{
    char path[MAXPGPATH + 32];

    snprintf(path, sizeof(path), "%s/%s", module_directory(), "moe_ml_cuda.so");
    return access(path, R_OK) == 0;
}

void
moe_device_missing(const char *reason)
{
    if (setting_device == DEVICE_CUDA)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("no CUDA device can be used"),
                        errdetail_internal("%s", reason),
                        errhint("SELECT * FROM moe_ml.device_info() shows what there is; "
                                "SET moe_ml.device = 'auto' trains without a device where there is none.")));
    ereport(DEBUG1, (errmsg_internal("training on the CPU: %s", reason)));
}

bool
moe_device_wanted(void)
{
    if (setting_device == DEVICE_CPU || none_found || moe_worker_running())
        return false;
    if (module_installed())
        return true;
    moe_device_missing("The device module \"moe_ml_cuda.so\" is not installed beside the extension's library.");
    return false;
}

void
moe_device_found(const char *name)
{
    none_found = strcmp(name, "cpu") == 0;
}

char *
moe_device_attach(moe_job *job)
{
    char reason[512];
    size_t limit = (size_t) setting_gpu_memory_limit_mb * 1024 * 1024;

    if (!moe_worker_running())
        return pstrdup("cpu");
    if (moe_device_open_cuda(job, module_directory(), limit, reason, sizeof(reason)))
        return pstrdup(moe_job_device(job)->name);
    /* A failed call is told as such under `cuda`; under `auto` the job could no longer compute. */
    moe_check(job, moe_job_code(job));
    moe_device_missing(reason);
    return pstrdup("cpu");
}

/* What a process of its own found: the number of reports, the reason for none, the reports. */
typedef struct device_list
{
    int n;
    char reason[512];
    moe_device_report reports[MOST_DEVICES];
} device_list;

void
moe_worker_list_devices(const char *request, Size length, moe_worker_answer *answer)
{
    device_list *list = palloc0(sizeof(device_list));

    list->n = moe_device_list_cuda(module_directory(), list->reports, MOST_DEVICES, list->reason, sizeof(list->reason));
    moe_worker_put(answer, list, sizeof(device_list));
}

static device_list *
list_devices(void)
{
    device_list *list = palloc0(sizeof(device_list));
    const char *reason;
    char *answer;
    Size length;

    if (!module_installed())
    {
        snprintf(list->reason, sizeof(list->reason), "The device module \"%s/moe_ml_cuda.so\" is not installed.",
                 module_directory());
        return list;
    }
    answer = moe_worker_run(MOE_WORKER_LIST_DEVICES, "", 0, &length, &reason);
    if (answer == NULL)
        strlcpy(list->reason, reason, sizeof(list->reason));
    else if (length != sizeof(device_list))
        strlcpy(list->reason, "The process that looks for devices ended early.", sizeof(list->reason));
    else
        memcpy(list, answer, sizeof(device_list));
    return list;
}

static char *
version_text(int version)
{
    return psprintf("%d.%d", version / 1000, version % 1000 / 10);
}

static void
put_cpu(ReturnSetInfo *result)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    Datum values[6] = {CStringGetTextDatum("cpu"),
                       CStringGetTextDatum(moe_backend_cpu.name),
                       BoolGetDatum(true),
                       0,
                       0,
                       CStringGetTextDatum(psprintf("%ld cores", cores))};
    bool nulls[6] = {false, false, false, true, true, false};

    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_device(ReturnSetInfo *result, const moe_device_report *report)
{
    Datum values[6];
    bool nulls[6] = {false};

    values[0] = CStringGetTextDatum(psprintf("cuda:%d", report->ordinal));
    values[1] = CStringGetTextDatum(report->name);
    values[2] = BoolGetDatum(report->usable);
    values[3] = Int64GetDatum(report->memory_total);
    values[4] = Int64GetDatum(report->memory_free);
    values[5] = CStringGetTextDatum(
        report->usable ? psprintf("compute capability %d.%d, %d multiprocessors, driver %s, runtime %s",
                                  report->capability_major, report->capability_minor, report->multiprocessors,
                                  version_text(report->driver_version), version_text(report->runtime_version))
                       : report->reason);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

MOE_FUNCTION(moe_device_info);

Datum
moe_device_info(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    device_list *list;

    InitMaterializedSRF(fcinfo, 0);
    put_cpu(result);
    list = list_devices();
    for (int i = 0; i < list->n; i++)
        put_device(result, &list->reports[i]);
    if (list->n == 0)
    {
        Datum values[6] = {CStringGetTextDatum("cuda"),      0, BoolGetDatum(false), 0, 0,
                           CStringGetTextDatum(list->reason)};
        bool nulls[6] = {false, true, false, true, true, false};

        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return (Datum) 0;
}
