/*
 * worker.c: a task in a parallel worker of the calling transaction.
 *
 * The request travels in the shared segment that PostgreSQL makes for a
 * parallel operation anyway, the answer through a shared-memory queue in
 * pieces; an empty piece ends it. A worker that dies without a word is found
 * by the server's own bookkeeping of parallel workers, as an ERROR.
 */
#include "extension/worker.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shm_mq.h"
#include "storage/shm_toc.h"
#include "utils/memutils.h"

#include "extension/moe_ml.h"
#include "extension/wait_event.h"

#define KEY_REQUEST UINT64CONST(0x6d6f655f00000001)
#define KEY_QUEUE   UINT64CONST(0x6d6f655f00000002)
#define QUEUE_BYTES ((Size) 256 * 1024)
#define PIECE_BYTES ((Size) 1024 * 1024)

typedef struct shared_request
{
    moe_worker_task task;
    Size length;
    char bytes[FLEXIBLE_ARRAY_MEMBER];
} shared_request;

struct moe_worker_answer
{
    shm_mq_handle *queue;
};

PGDLLEXPORT void moe_ml_worker_main(dsm_segment *segment, shm_toc *toc);

static bool running = false;

bool
moe_worker_running(void)
{
    return running;
}

void
moe_worker_declare(void)
{
    running = true;
}

static void
send_piece(shm_mq_handle *queue, const char *bytes, Size length)
{
    if (shm_mq_send(queue, length, bytes, false, true) != SHM_MQ_SUCCESS)
        ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("the session that asked for the work is gone"),
                        errhint("Repeat the statement.")));
}

void
moe_worker_put(moe_worker_answer *answer, const void *bytes, Size length)
{
    for (Size at = 0; at < length; at += PIECE_BYTES)
        send_piece(answer->queue, (const char *) bytes + at, Min(PIECE_BYTES, length - at));
}

/* The worker's entry; the server has set up user, snapshot and settings. */
void
moe_ml_worker_main(dsm_segment *segment, shm_toc *toc)
{
    const shared_request *request = shm_toc_lookup(toc, KEY_REQUEST, false);
    shm_mq *queue = shm_toc_lookup(toc, KEY_QUEUE, false);
    moe_worker_answer answer;

    running = true;
    shm_mq_set_sender(queue, MyProc);
    answer.queue = shm_mq_attach(queue, segment, NULL);
    switch (request->task)
    {
        case MOE_WORKER_TRAIN:
            moe_worker_train(request->bytes, request->length, &answer);
            break;
        case MOE_WORKER_LIST_DEVICES:
            moe_worker_list_devices(request->bytes, request->length, &answer);
            break;
    }
    send_piece(answer.queue, "", 0);
    shm_mq_detach(answer.queue);
}

/* As shm_mq_receive, which would show another wait event than that of the training. */
static shm_mq_result
receive_piece(shm_mq_handle *queue, Size *n, void **piece)
{
    shm_mq_result result;

    while ((result = shm_mq_receive(queue, n, piece, true)) == SHM_MQ_WOULD_BLOCK)
    {
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, 0, moe_wait_for_process());
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return result;
}

/* Receive pieces until the empty one, or until the worker is gone. */
static char *
receive_answer(shm_mq_handle *queue, Size *length)
{
    Size capacity = PIECE_BYTES;
    char *bytes = MemoryContextAllocHuge(CurrentMemoryContext, capacity);
    void *piece;
    Size n;

    *length = 0;
    while (receive_piece(queue, &n, &piece) == SHM_MQ_SUCCESS && n > 0)
    {
        while (capacity - *length < n)
        {
            capacity *= 2;
            bytes = repalloc_huge(bytes, capacity);
        }
        memcpy(bytes + *length, piece, n);
        *length += n;
    }
    return bytes;
}

/* Lay out the shared segment; NULL if there was no room for one. */
static shm_mq *
share_request(ParallelContext *parallel, moe_worker_task task, const char *bytes, Size length)
{
    shared_request *request;
    shm_mq *queue;

    shm_toc_estimate_chunk(&parallel->estimator, offsetof(shared_request, bytes) + length);
    shm_toc_estimate_chunk(&parallel->estimator, QUEUE_BYTES);
    shm_toc_estimate_keys(&parallel->estimator, 2);
    InitializeParallelDSM(parallel);
    if (parallel->seg == NULL)
        return NULL;
    request = shm_toc_allocate(parallel->toc, offsetof(shared_request, bytes) + length);
    request->task = task;
    request->length = length;
    memcpy(request->bytes, bytes, length);
    shm_toc_insert(parallel->toc, KEY_REQUEST, request);
    queue = shm_mq_create(shm_toc_allocate(parallel->toc, QUEUE_BYTES), QUEUE_BYTES);
    shm_mq_set_receiver(queue, MyProc);
    shm_toc_insert(parallel->toc, KEY_QUEUE, queue);
    return queue;
}

char *
moe_worker_run(moe_worker_task task, const char *request, Size request_length, Size *length, const char **reason)
{
    ParallelContext *parallel;
    shm_mq *queue;
    char *answer = NULL;

    *reason = NULL;
    if (IsInParallelMode())
    {
        *reason = "A process of its own cannot be started during a parallel operation.";
        return NULL;
    }
    EnterParallelMode();
    parallel = CreateParallelContext("moe_ml", "moe_ml_worker_main", 1);
    queue = share_request(parallel, task, request, request_length);
    if (queue != NULL)
        LaunchParallelWorkers(parallel);
    if (queue == NULL || parallel->nworkers_launched == 0)
        *reason = "No background worker is free (see max_worker_processes and max_parallel_workers).";
    else
    {
        shm_mq_handle *handle = shm_mq_attach(queue, parallel->seg, parallel->worker[0].bgwhandle);

        answer = receive_answer(handle, length);
        shm_mq_detach(handle);
        WaitForParallelWorkersToFinish(parallel);
    }
    DestroyParallelContext(parallel);
    ExitParallelMode();
    return answer;
}
