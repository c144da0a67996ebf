/*
 * device.h: which device trainings use.
 *
 * A device is opened in a process of its own only (worker.h), never in a
 * session and never in the postmaster.
 */
#ifndef MOE_EXTENSION_DEVICE_H
#define MOE_EXTENSION_DEVICE_H

#include "postgres.h"

#include "kernels/job.h"

/* Define the settings moe_ml.device and moe_ml.gpu_memory_limit. */
void moe_device_init(void);

/* Whether a training should be done where a device may be used: the setting allows it and the module is installed.
 * Under moe_ml.device = cuda, raises where it is not. */
bool moe_device_wanted(void);
/* A device was wanted and cannot be had: raise under moe_ml.device = cuda, else tell the log at DEBUG1. reason: a
 * sentence.
 */
void moe_device_missing(const char *reason);
/* What a training that looked for a device found: moe_device_attach's answer. None is looked for again until
 * moe_ml.device is set again. */
void moe_device_found(const char *name);
/* In a process of its own: let a job compute on the device, if there is one. Its name, or "cpu"; palloc'd. */
char *moe_device_attach(moe_job *job);

#endif
