/*
 * model_cache.c: open predictors, kept while what they read is what would be read again.
 *
 * Within one statement, and one snapshot, user and text settings, an open
 * predictor is used again. A later statement uses it too as long as nothing
 * anywhere in the cluster has been committed in between: two snapshots with the same
 * transactions in progress, none completed, see the same rows. That holds for
 * predictors that are settled (model_settled.c): what they read depends on
 * rows alone. Messages of catalog changes (a privilege revoked while a
 * repeatable read goes on) end it as well. A serializable transaction reads for
 * itself, as what it has read is what the server keeps it apart from others by.
 *
 * What the model learned is kept apart from the rows: where only these have
 * changed, only these are read again.
 *
 * Life: each predictor has a memory context and is pinned by every memory
 * context that it was opened in or is held by (through a reset callback), so
 * that a scan keeps its predictor while a nested statement opens another. At
 * the end of a transaction rows that do not last are freed, and predictors
 * used longest ago, until the others fit moe_ml.cache_size; all of them after an
 * error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "extension/model_catalog.h"
#include "extension/model_predictor_internal.h"
#include "extension/model_reach.h"
#include "extension/moe_ml.h"

/* What an open predictor must have been opened under to serve again. */
typedef struct cache_key
{
    Oid relid;
    Oid user;
    bool row_security;
    int threads;
    int memory_limit;
    CommandId curcid;
    TransactionId xmin, xmax;
    uint32 xcnt;
    int32 subxcnt; /* on a standby the transactions in progress are listed here */
    uint64 settings;
} cache_key;

typedef struct entry
{
    struct entry *next;
    cache_key key;
    TransactionId *running; /* [xcnt + subxcnt] */
    TimestampTz statement;
    uint64 messages; /* of catalog changes, when it was opened */
    uint64 used;     /* when last, by a counter */
    int pins;
    bool stale;   /* its rows are of no use; the model may be put over others */
    bool dead;    /* to be freed once nobody holds it */
    bool lasting; /* its rows may serve in later statements */
    bool around;  /* they are a part of all rows: of use to one scan alone */
    moe_predictor predictor;
} entry;

static entry *entries = NULL;
static uint64 uses = 0;
static bool callback_registered = false;

/* Free the dead that nobody holds. */
static void
sweep(void)
{
    entry **link = &entries;

    while (*link != NULL)
    {
        entry *e = *link;

        if (!e->dead || e->pins > 0)
        {
            link = &e->next;
            continue;
        }
        *link = e->next;
        MemoryContextDelete(e->predictor.context); /* e lies in it */
    }
}

static size_t
size_of(const entry *e)
{
    return MemoryContextMemAllocated(e->predictor.context, true) + moe_predictor_memory_used(&e->predictor);
}

/* Of those that nobody holds, let those used longest ago go until the others fit the limit. */
static void
shrink(size_t limit)
{
    for (;;)
    {
        entry *oldest = NULL;
        size_t total = 0;

        for (entry *e = entries; e != NULL; e = e->next)
        {
            if (e->dead || e->pins > 0)
                continue;
            total += size_of(e);
            if (oldest == NULL || e->used < oldest->used)
                oldest = e;
        }
        if (total <= limit)
            return;
        oldest->dead = true;
    }
}

/* Whether a snapshot with the same numbers has the same transactions running. */
static bool
same_running(const entry *e, Snapshot snapshot)
{
    return memcmp(e->running, snapshot->xip, sizeof(TransactionId) * snapshot->xcnt) == 0 &&
           memcmp(e->running + snapshot->xcnt, snapshot->subxip, sizeof(TransactionId) * Max(snapshot->subxcnt, 0)) ==
               0;
}

/* Of use to a statement that is not the one it was opened in? */
static bool
lasts(const entry *e)
{
    return e->lasting && e->messages == SharedInvalidMessageCounter &&
           !TransactionIdIsValid(GetTopTransactionIdIfAny()) && !IsolationIsSerializable();
}

/*
 * Mark what an opening under a new key makes useless: of earlier statements all rows that do not last, and those of the
 * same model under an earlier snapshot. Other models of this statement are likely to be asked again.
 */
static void
mark_stale(const cache_key *current)
{
    TimestampTz statement = GetCurrentStatementStartTimestamp();

    for (entry *e = entries; e != NULL; e = e->next)
    {
        bool outlived = e->statement != statement && !(lasts(e) && e->key.xmax == current->xmax);

        if (outlived || e->key.relid == current->relid)
            e->stale = true;
        if (e->key.relid == current->relid && e->pins > 0)
            e->dead = true; /* another will take its place */
        if (outlived && e->pins == 0)
            moe_predictor_forget(&e->predictor);
    }
}

/* What an evaluation told, and could not take back, has gone with its memory; a scan may go on with the rest. */
static void
mark_all_dead(void)
{
    for (entry *e = entries; e != NULL; e = e->next)
    {
        e->stale = e->dead = true;
        moe_predictor_tell(&e->predictor, &(moe_past_labels){0});
    }
}

/* After an abort nothing is trusted: a cancelled job stays so. */
static void
end_of_transaction(XactEvent event, void *arg)
{
    bool aborted = event == XACT_EVENT_ABORT || event == XACT_EVENT_PARALLEL_ABORT;

    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_PARALLEL_COMMIT && event != XACT_EVENT_PREPARE && !aborted)
        return;
    if (aborted)
        mark_all_dead();
    for (entry *e = entries; e != NULL; e = e->next)
    {
        e->stale = e->stale || !e->lasting;
        e->statement = 0; /* a statement may go on in another transaction */
        if (e->pins > 0)
            continue;
        if (e->stale)
            moe_predictor_forget(&e->predictor);
        moe_predictor_rest(&e->predictor);
    }
    shrink((size_t) moe_setting_cache_size_mb * 1024 * 1024);
    sweep();
}

/* Command ids do not tell a subtransaction's rows from those of what follows its abort. */
static void
end_of_subtransaction(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
    if (event == SUBXACT_EVENT_ABORT_SUB)
        mark_all_dead();
}

static void
unpin(void *arg)
{
    entry *e = arg;

    e->pins--;
    sweep();
}

void
moe_predictor_hold(moe_predictor *predictor, MemoryContext context)
{
    MemoryContextCallback *callback = MemoryContextAllocZero(context, sizeof(MemoryContextCallback));
    entry *e = (entry *) ((char *) predictor - offsetof(entry, predictor));

    callback->func = unpin;
    callback->arg = e;
    MemoryContextRegisterResetCallback(context, callback);
    e->pins++;
}

/*
 * The values of all settings that are text. Policies and views may depend on
 * them (current_setting('app.tenant')), and a function can change them within
 * the statement. search_path is left out: rows are read under a fixed one.
 */
static uint64
hash_settings(void)
{
#if PG_VERSION_NUM >= 160000
    int n;
    struct config_generic **variables = get_guc_variables(&n);
#else
    int n = GetNumConfigOptions();
    struct config_generic **variables = get_guc_variables();
#endif
    uint64 hash = 0;

    for (int i = 0; i < n; i++)
    {
        struct config_string *variable = (struct config_string *) variables[i];
        const char *value;

        if (variable->gen.vartype != PGC_STRING || variable->variable == &namespace_search_path)
            continue;
        value = *variable->variable;
        hash = hash_bytes_extended((const unsigned char *) (value ? value : ""), value ? strlen(value) : 0, hash);
    }
#if PG_VERSION_NUM >= 160000
    pfree(variables);
#endif
    return hash;
}

static void
current_key(Oid relid, Snapshot snapshot, cache_key *key)
{
    memset(key, 0, sizeof(*key)); /* padding too: keys are compared as bytes */
    key->relid = relid;
    key->user = GetUserId();
    key->row_security = row_security;
    key->threads = moe_setting_threads;
    key->memory_limit = moe_setting_memory_limit_mb;
    key->curcid = snapshot->curcid;
    key->xmin = snapshot->xmin;
    key->xmax = snapshot->xmax;
    key->xcnt = snapshot->xcnt;
    key->subxcnt = snapshot->subxcnt;
    key->settings = hash_settings();
}

/* Models being opened, innermost first: a view that a model reads may ask that model. */
typedef struct opening
{
    struct opening *outer;
    Oid relid;
} opening;

static opening *openings = NULL;

static void
end_opening(const opening *self)
{
    openings = self->outer;
}

static void
begin_opening(opening *self, Oid relid)
{
    for (const opening *o = openings; o != NULL; o = o->outer)
    {
        if (o->relid == relid)
            ereport(ERROR, (errcode(ERRCODE_INVALID_RECURSION),
                            errmsg("model \"%s\" reads its own predictions", get_rel_name(relid)),
                            errhint("Leave out the view over the model among its tables: list them in USING (...).")));
    }
    self->outer = openings;
    self->relid = relid;
    openings = self;
}

/* Under what an entry's rows are being read. */
static void
set_key(entry *e, const cache_key *key, Snapshot snapshot)
{
    int subxcnt = Max(snapshot->subxcnt, 0);

    e->key = *key;
    e->statement = GetCurrentStatementStartTimestamp();
    e->messages = SharedInvalidMessageCounter;
    if (e->running != NULL)
        pfree(e->running);
    e->running = MemoryContextAlloc(e->predictor.context, sizeof(TransactionId) * (snapshot->xcnt + subxcnt + 1));
    if (snapshot->xcnt > 0)
        memcpy(e->running, snapshot->xip, sizeof(TransactionId) * snapshot->xcnt);
    if (subxcnt > 0)
        memcpy(e->running + snapshot->xcnt, snapshot->subxip, sizeof(TransactionId) * subxcnt);
}

/* Read as little as what is asked about needs; NULL: everything. */
static void
read_asked(entry *e, const moe_asked *asked)
{
    e->around = true;
    if (asked != NULL && asked->early && moe_mixture_stops_early(e->predictor.mixture))
        moe_predictor_read_entities(&e->predictor, asked);
    else if (asked == NULL || asked->n_key == 0 || !moe_predictor_read_around(&e->predictor, asked))
    {
        moe_predictor_read(&e->predictor);
        e->around = false;
    }
}

/* Load the model if need be, and read: all, or what is asked about. An error leaves the entry as it must not be used.
 */
static void
fill(entry *e, bool load, const moe_asked *asked)
{
    opening self;

    begin_opening(&self, e->key.relid);
    PG_TRY();
    {
        if (load)
            moe_predictor_load(&e->predictor, e->key.relid);
        read_asked(e, asked);
    }
    PG_FINALLY();
    {
        end_opening(&self);
    }
    PG_END_TRY();
    e->lasting =
        !e->around && moe_settled_tables(e->predictor.schema) && !TransactionIdIsValid(GetTopTransactionIdIfAny());
}

/* Open anew, in a context of its own that an error takes along with the current one. */
static entry *
open_entry(const cache_key *key, Snapshot snapshot, const moe_asked *asked)
{
    MemoryContext caller = CurrentMemoryContext;
    MemoryContext context = AllocSetContextCreate(caller, "moe_ml predictor", ALLOCSET_DEFAULT_SIZES);
    entry *e;

    MemoryContextSwitchTo(context);
    e = palloc0(sizeof(entry));
    e->predictor.context = context;
    set_key(e, key, snapshot);
    fill(e, true, asked);
    MemoryContextSwitchTo(caller);
    MemoryContextSetParent(context, TopMemoryContext);
    e->next = entries;
    entries = e;
    return e;
}

/* A predictor that nobody holds, whose model is the one that is stored today: only its rows are old. */
static entry *
find_model(const cache_key *key)
{
    pg_uuid_t id = moe_model_load(key->relid)->id;
    Snapshot snapshot = moe_catalog_snapshot();
    uint64 version = moe_catalog_version(&id, snapshot);
    entry *found = NULL;

    UnregisterSnapshot(snapshot);
    for (entry *e = entries; e != NULL; e = e->next)
    {
        if (e->key.relid != key->relid || e->dead)
            continue;
        if (!moe_predictor_is_of(&e->predictor, &id, version))
            e->stale = e->dead = true; /* what it has learned is no longer what is stored */
        else if (e->pins == 0 && e->key.user == key->user && e->key.threads == key->threads &&
                 e->key.memory_limit == key->memory_limit)
            found = e;
    }
    return found;
}

/* Of an entry that is held: what is asked meanwhile, by a policy or a view, lets go of those that nobody holds. */
static void
read_again(entry *e, const cache_key *key, Snapshot snapshot, const moe_asked *asked)
{
    MemoryContext old = MemoryContextSwitchTo(e->predictor.context);

    if (e->statement == GetCurrentStatementStartTimestamp() && e->predictor.schema != NULL &&
        moe_reach_is_spent(e->predictor.schema, e->predictor.looked_up))
        asked = NULL;
    e->stale = e->dead = true; /* until it is whole again */
    if (e->statement != GetCurrentStatementStartTimestamp())
        moe_predictor_renew(&e->predictor);
    set_key(e, key, snapshot);
    fill(e, false, asked);
    e->stale = e->dead = false;
    MemoryContextSwitchTo(old);
}

moe_predictor *
moe_predictor_open_around(Oid relid, const moe_asked *asked)
{
    Snapshot snapshot = GetActiveSnapshot();
    TimestampTz statement = GetCurrentStatementStartTimestamp();
    bool again = false;
    cache_key key;
    entry *e;

    if (!callback_registered)
    {
        RegisterXactCallback(end_of_transaction, NULL);
        RegisterSubXactCallback(end_of_subtransaction, NULL);
        callback_registered = true;
    }
    current_key(relid, snapshot, &key);
    for (e = entries; e != NULL; e = e->next)
    {
        if (!e->stale && !e->dead && !e->around && memcmp(&e->key, &key, sizeof(key)) == 0 &&
            same_running(e, snapshot) && (e->statement == statement || lasts(e)))
            break;
    }
    if (e == NULL)
    {
        mark_stale(&key);
        e = find_model(&key);
        sweep();
        if (e == NULL)
            e = open_entry(&key, snapshot, asked);
        else
            again = true;
    }
    else if (e->statement != statement)
    {
        e->statement = statement;
        moe_predictor_renew(&e->predictor);
    }
    e->used = ++uses;
    moe_predictor_hold(&e->predictor, CurrentMemoryContext);
    if (again)
        read_again(e, &key, snapshot, asked);
    return &e->predictor;
}

moe_predictor *
moe_predictor_open(Oid relid)
{
    return moe_predictor_open_around(relid, NULL);
}

void
moe_predictor_turn(moe_predictor *predictor, const moe_asked *asked)
{
    entry *e = (entry *) ((char *) predictor - offsetof(entry, predictor));
    MemoryContext old;

    if (!e->around)
        return;
    old = MemoryContextSwitchTo(predictor->context);
    if (moe_reach_is_spent(predictor->schema, predictor->looked_up))
        asked = NULL;
    fill(e, false, asked);
    if (!e->around)
    {
        Snapshot snapshot = GetActiveSnapshot();
        cache_key key;

        current_key(e->key.relid, snapshot, &key);
        set_key(e, &key, snapshot);
    }
    MemoryContextSwitchTo(old);
}
