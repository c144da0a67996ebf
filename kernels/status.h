/*
 * status.h: how the numeric core reports failure.
 *
 * Nothing in kernels/, embed/ or gnn/ exits, throws or longjmps. A function
 * that can fail returns a moe_code; the text of the first failure stands in
 * the job (job.h) until the caller reads it.
 */
#ifndef MOE_STATUS_H
#define MOE_STATUS_H

typedef enum moe_code
{
    MOE_OK = 0,
    MOE_CANCELLED,     /* the job's cancel callback said so */
    MOE_OUT_OF_MEMORY, /* malloc failed */
    MOE_LIMIT,         /* the job's memory limit would be passed */
    MOE_INVALID,       /* the caller's data or options make no sense */
    MOE_UNAVAILABLE,   /* a library or a device is missing */
    MOE_DEVICE_FAILED, /* a call on the device failed */
    MOE_CORRUPT        /* stored bytes do not read back */
} moe_code;

#endif
