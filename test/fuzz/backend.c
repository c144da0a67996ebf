/*
 * backend.c: libFuzzer within a backend.
 *
 * moe_fuzz(target, arguments) hands its backend over to libFuzzer's driver and
 * does not return: the driver ends the process. It is called in a stand-alone
 * backend (postgres --single), which has no postmaster to worry. An ERROR is an
 * ordinary end of an input, unless it is an internal one (class XX without
 * being data_corrupted): that is a finding, as is a crash.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "test/fuzz/backend.h"

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));

static const moe_fuzz_target *const targets[] = {&moe_fuzz_statement, &moe_fuzz_model};
static const moe_fuzz_target *target;
static MemoryContext each; /* what one input takes */

/* End the process as a crash does, with what was raised. */
static void
look_at_error(void)
{
    ErrorData *error;

    MemoryContextSwitchTo(each);
    error = CopyErrorData();
    FlushErrorState();
    if (error->message == NULL || error->message[0] == '\0' ||
        (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR) &&
         error->sqlerrcode != ERRCODE_DATA_CORRUPTED))
    {
        fprintf(stderr, "internal error: %s (%s:%d)\n", error->message, error->filename, error->lineno);
        abort();
    }
}

static void
run_within_subtransaction(const uint8 *data, size_t size)
{
    ResourceOwner owner = CurrentResourceOwner;

    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(each);
    PG_TRY();
    {
        target->run(data, size);
    }
    PG_CATCH();
    {
        look_at_error();
    }
    PG_END_TRY();
    RollbackAndReleaseCurrentSubTransaction();
    CurrentResourceOwner = owner;
}

static int
run_one(const uint8_t *data, size_t size)
{
    if (target->writes)
        run_within_subtransaction(data, size);
    else
    {
        MemoryContextSwitchTo(each);
        PG_TRY();
        {
            target->run(data, size);
        }
        PG_CATCH();
        {
            look_at_error();
        }
        PG_END_TRY();
    }
    MemoryContextSwitchTo(TopMemoryContext);
    MemoryContextReset(each);
    return 0;
}

PG_FUNCTION_INFO_V1(moe_fuzz);
Datum
moe_fuzz(PG_FUNCTION_ARGS)
{
    char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    Datum *items;
    int n;
    char **argv;

    for (int i = 0; i < lengthof(targets); i++)
        if (strcmp(targets[i]->name, name) == 0)
            target = targets[i];
    if (target == NULL)
        elog(ERROR, "there is no target \"%s\"", name);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &n);
    argv = palloc0(sizeof(char *) * (n + 2));
    argv[0] = "moe_fuzz";
    for (int i = 0; i < n; i++)
        argv[i + 1] = TextDatumGetCString(items[i]);
    n++;
    each = AllocSetContextCreate(TopMemoryContext, "one input", ALLOCSET_DEFAULT_SIZES);
    if (target->prepare)
        target->prepare();
    exit(LLVMFuzzerRunDriver(&n, &argv, run_one));
}
