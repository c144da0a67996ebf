/*
 * faults.c: a build of the library in which a call for memory, or the start of a thread, fails on request.
 *
 * test/faults/build links the library's objects with it, by the linker's --wrap: calls that these objects make come
 * here, those of the server and of other libraries do not.
 */
#include "postgres.h"

#include <errno.h>
#include <pthread.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

typedef enum kind
{
    NONE,
    CORE,   /* malloc and its like: the numeric core's */
    SERVER, /* palloc and its like */
    THREAD
} kind;

static kind armed = NONE;
static int64 failing; /* number of the call that fails; negative: of the first of those that fail; 0: none */
static int64 calls;   /* of the armed kind */
static int64 in_use;  /* blocks of the core */

static bool
fails_now(kind which)
{
    if (which != armed)
        return false;
    calls++;
    return failing != 0 && (failing > 0 ? calls == failing : calls >= -failing);
}

#define WRAP(type, name, parameters)                                                                                   \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters

static void *
taken(void *memory)
{
    in_use += memory != NULL;
    return memory;
}

WRAP(void *, malloc, (size_t size))
{
    return fails_now(CORE) ? NULL : taken(__real_malloc(size));
}

WRAP(void *, calloc, (size_t count, size_t size))
{
    return fails_now(CORE) ? NULL : taken(__real_calloc(count, size));
}

WRAP(void *, realloc, (void *memory, size_t size))
{
    if (fails_now(CORE))
        return NULL;
    in_use += memory == NULL;
    return __real_realloc(memory, size);
}

WRAP(void, free, (void *memory))
{
    in_use -= memory != NULL;
    __real_free(memory);
}

WRAP(int, pthread_create, (pthread_t * thread, const pthread_attr_t *attributes, void *(*start)(void *), void *arg))
{
    return fails_now(THREAD) ? EAGAIN : __real_pthread_create(thread, attributes, start, arg);
}

/* What the server says where malloc fails. */
static void
refuse(Size size)
{
    if (fails_now(SERVER))
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
                        errdetail("Failed on request of size %zu.", size)));
}

WRAP(void *, palloc, (Size size))
{
    refuse(size);
    return __real_palloc(size);
}

WRAP(void *, palloc0, (Size size))
{
    refuse(size);
    return __real_palloc0(size);
}

WRAP(void *, palloc_extended, (Size size, int flags))
{
    if ((flags & MCXT_ALLOC_NO_OOM) == 0)
        refuse(size);
    else if (fails_now(SERVER))
        return NULL;
    return __real_palloc_extended(size, flags);
}

WRAP(void *, repalloc, (void *pointer, Size size))
{
    refuse(size);
    return __real_repalloc(pointer, size);
}

WRAP(void *, repalloc_huge, (void *pointer, Size size))
{
    refuse(size);
    return __real_repalloc_huge(pointer, size);
}

WRAP(void *, MemoryContextAlloc, (MemoryContext context, Size size))
{
    refuse(size);
    return __real_MemoryContextAlloc(context, size);
}

WRAP(void *, MemoryContextAllocZero, (MemoryContext context, Size size))
{
    refuse(size);
    return __real_MemoryContextAllocZero(context, size);
}

WRAP(void *, MemoryContextAllocHuge, (MemoryContext context, Size size))
{
    refuse(size);
    return __real_MemoryContextAllocHuge(context, size);
}

WRAP(char *, pstrdup, (const char *string))
{
    refuse(strlen(string) + 1);
    return __real_pstrdup(string);
}

WRAP(char *, pnstrdup, (const char *string, Size length))
{
    refuse(length + 1);
    return __real_pnstrdup(string, length);
}

#if PG_VERSION_NUM < 170000 /* the server has none later */
WRAP(void *, MemoryContextAllocZeroAligned, (MemoryContext context, Size size))
{
    refuse(size);
    return __real_MemoryContextAllocZeroAligned(context, size);
}
#endif

WRAP(List *, lappend, (List * list, void *datum))
{
    refuse(sizeof(List));
    return __real_lappend(list, datum);
}

WRAP(void, initStringInfo, (StringInfo string))
{
    refuse(1024);
    __real_initStringInfo(string);
}

WRAP(void, enlargeStringInfo, (StringInfo string, int needed))
{
    refuse(needed);
    __real_enlargeStringInfo(string, needed);
}

WRAP(MemoryContext, AllocSetContextCreateInternal,
     (MemoryContext parent, const char *name, Size least, Size first, Size most))
{
    refuse(sizeof(void *));
    return __real_AllocSetContextCreateInternal(parent, name, least, first, most);
}

/* moe_fault(kind text, number int8) returns int8: arm, and tell how many calls of the kind there were before. */
PG_FUNCTION_INFO_V1(moe_fault);
PGDLLEXPORT Datum moe_fault(PG_FUNCTION_ARGS);
Datum
moe_fault(PG_FUNCTION_ARGS)
{
    char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    int64 before = calls;

    armed = strcmp(name, "core") == 0     ? CORE
            : strcmp(name, "server") == 0 ? SERVER
            : strcmp(name, "thread") == 0 ? THREAD
                                          : NONE;
    failing = PG_GETARG_INT64(1);
    calls = 0;
    PG_RETURN_INT64(before);
}

/* moe_blocks() returns int8: the core's blocks of memory that are not yet freed. */
PG_FUNCTION_INFO_V1(moe_blocks);
PGDLLEXPORT Datum moe_blocks(PG_FUNCTION_ARGS);
Datum
moe_blocks(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT64(in_use);
}
