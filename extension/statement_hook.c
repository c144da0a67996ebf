/*
 * statement_hook.c: the bare statement.
 *
 * moe_raw_parser() stands in for the server's raw_parser(). A string in which
 * no "model" follows CREATE or the like goes straight to the original.
 * Otherwise it is scanned and split; our statements are blanked out in a copy
 * of the same length, the original parses that copy, so that every position in
 * its result or its errors is right, and our statements are put back in their
 * places as nodes the server knows: DO blocks of language moe_ml. Nothing here
 * looks at the catalog, since the transaction may be an aborted one.
 *
 * A ProcessUtility hook tells the language's inline handler where in the
 * client's string the statement stands, for error positions, says clearly
 * when the extension has not been created, and has PL/pgSQL's own calls of
 * the parser redirected before they matter.
 */
#include "postgres.h"

#include <ctype.h>

#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "parser/scansup.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "extension/moe_ml.h"
#include "extension/statement_internal.h"

#define LANGUAGE  "moe_ml"
#define EXTENSION "moe_ml"

static bool setting_bare_statements = true;
static const char *inactive_because = "moe_ml is not in shared_preload_libraries";
static int64 calls;
static ProcessUtility_hook_type next_process_utility;

/* The bare statement about to be executed. */
static struct
{
    const char *source;
    int offset;
} pending;

int64
moe_raw_parser_calls(void)
{
    return calls;
}

/* The next "model" in any case, or NULL. */
static const char *
find_word(const char *source)
{
    for (; (source = strpbrk(source, "mM")) != NULL; source++)
    {
        if (pg_strncasecmp(source, "model", 5) == 0)
            return source;
    }
    return NULL;
}

static bool
in_identifier(char c)
{
    return isalnum((unsigned char) c) || c == '_' || c == '$' || IS_HIGHBIT_SET(c);
}

/* May what ends at `end` be the words before MODEL: CREATE, CREATE OR REPLACE, DROP, ALTER, REFRESH? */
static bool
may_precede(const char *source, const char *end)
{
    static const char *const words[] = {"create", "replace", "drop", "alter", "refresh"};
    const char *at = end;

    while (at > source && scanner_isspace(at[-1]))
    {
        if (*--at == '\n' || *at == '\r')
            return true; /* a comment may end there */
    }
    if (at == end || at == source)
        return at != source && at[-1] == '/';
    if (at[-1] == '/')
        return true;
    for (int i = 0; i < lengthof(words); i++)
    {
        size_t length = strlen(words[i]);

        if ((size_t) (at - source) >= length && pg_strncasecmp(at - length, words[i], length) == 0)
            return true;
    }
    return false;
}

/*
 * May a statement of ours be in the string? A look at the characters around
 * each "model" spares all others the scan, which a long INSERT into a table
 * of that name would feel. Errs on the side of true.
 */
static bool
mentions_model(const char *source)
{
    const char *at = source;

    for (; (at = find_word(at)) != NULL; at++)
    {
        if (!in_identifier(at[5]) && may_precede(source, at))
            return true;
    }
    return false;
}

/* The statements of ours. Errors are those that the original would raise: it scans in the same way. */
static List *
find_ours(const char *source)
{
    List *ours = NIL;
    ListCell *cell;

    foreach (cell, moe_statement_split(moe_tokens_scan(source, 0, strlen(source))))
    {
        if (((moe_span *) lfirst(cell))->ours)
            ours = lappend(ours, lfirst(cell));
    }
    return ours;
}

static RawStmt *
make_statement(const char *source, const moe_span *span)
{
    DoStmt *block = makeNode(DoStmt);
    RawStmt *raw = makeNode(RawStmt);
    DefElem *body = makeDefElem("as", (Node *) makeString(pnstrdup(source + span->offset, span->length)), span->offset);

    /* DO takes no notice of a namespace; it tells our hook that this block was a bare statement. */
    body->defnamespace = pstrdup(EXTENSION);
    block->args = list_make2(body, makeDefElem("language", (Node *) makeString(pstrdup(LANGUAGE)), -1));
    raw->stmt = (Node *) block;
    raw->stmt_location = span->offset;
    raw->stmt_len = span->length;
    return raw;
}

static char *
blank_out(const char *source, List *ours)
{
    char *copy = pstrdup(source);
    ListCell *cell;

    foreach (cell, ours)
    {
        moe_span *span = lfirst(cell);

        memset(copy + span->offset, ' ', span->length);
    }
    return copy;
}

/* Both lists in order of location. */
static List *
merge(List *others, const char *source, List *ours)
{
    List *merged = NIL;
    ListCell *other = list_head(others);
    ListCell *cell;

    foreach (cell, ours)
    {
        moe_span *span = lfirst(cell);

        for (; other && lfirst_node(RawStmt, other)->stmt_location < span->offset; other = lnext(others, other))
            merged = lappend(merged, lfirst(other));
        merged = lappend(merged, make_statement(source, span));
    }
    for (; other; other = lnext(others, other))
        merged = lappend(merged, lfirst(other));
    return merged;
}

static void
check_syntax(const char *source, List *ours)
{
    ListCell *cell;

    foreach (cell, ours)
    {
        moe_span *span = lfirst(cell);

        (void) moe_statement_parse_syntax(source, span->offset, span->length);
    }
}

/*
 * Find our statements or, when they are given, check their syntax. Without
 * the NOTICEs about long identifiers: the scan that counts gives those.
 */
static List *
scan_quietly(const char *source, List *ours)
{
    moe_source previous = moe_statement_set_source((moe_source){source, true});
    int client_level = client_min_messages;
    int log_level = log_min_messages;
    List *volatile result = ours;

    client_min_messages = ERROR;
    log_min_messages = Max(log_level, ERROR);
    PG_TRY();
    {
        if (ours == NIL)
            result = find_ours(source);
        else
            check_syntax(source, ours);
    }
    PG_FINALLY();
    {
        client_min_messages = client_level;
        log_min_messages = log_level;
        moe_statement_set_source(previous);
    }
    PG_END_TRY();
    return result;
}

List *
moe_raw_parser(const char *source, RawParseMode mode)
{
    List *ours;
    List *others;

    calls++;
    if (mode != RAW_PARSE_DEFAULT || !mentions_model(source))
        return raw_parser(source, mode);
    ours = scan_quietly(source, NIL);
    if (ours == NIL)
        return raw_parser(source, mode);
    others = raw_parser(blank_out(source, ours), mode);
    (void) scan_quietly(source, ours);
    return merge(others, source, ours);
}

/* The item of that name in the options of DO or CREATE FUNCTION, or NULL. */
static DefElem *
find_item(List *items, const char *name)
{
    ListCell *cell;

    foreach (cell, items)
    {
        if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
            return lfirst(cell);
    }
    return NULL;
}

/* The language of a DO block or of a new routine; NULL for other statements. */
static const char *
language_of(Node *node)
{
    DefElem *item;

    if (IsA(node, DoStmt))
        item = find_item(((DoStmt *) node)->args, "language");
    else if (IsA(node, CreateFunctionStmt))
        item = find_item(((CreateFunctionStmt *) node)->options, "language");
    else
        return NULL;
    if (item == NULL)
        return IsA(node, DoStmt) ? "plpgsql" : "sql";
    return strVal(item->arg);
}

/* Before a routine or block whose text may hold a statement of ours is checked or run. */
static void
prepare_language(const char *language, const char *source)
{
    if (strcmp(language, LANGUAGE) == 0 && !OidIsValid(get_extension_oid(EXTENSION, true)))
        ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT),
                errmsg("extension \"%s\" is not created in this database", EXTENSION),
                errhint("Use CREATE EXTENSION %s.", EXTENSION));
    if (strcmp(language, "plpgsql") == 0 && find_word(source))
        moe_redirect_plpgsql();
}

bool
moe_statement_take_bare(const char *text, const char **source, int *offset)
{
    if (pending.source == NULL)
        return false;
    *source = pending.source;
    *offset = pending.offset;
    pending.source = NULL;
    /* Other modules may pass on a string of their own instead of the client's. */
    return (size_t) *offset <= strlen(*source) && strncmp(*source + *offset, text, strlen(text)) == 0;
}

static void
run_utility(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context,
            ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
            QueryCompletion *completion)
{
    if (next_process_utility)
        next_process_utility(statement, source, read_only_tree, context, parameters, environment, destination,
                             completion);
    else
        standard_ProcessUtility(statement, source, read_only_tree, context, parameters, environment, destination,
                                completion);
}

/* Is it a statement of ours, which moe_raw_parser() has marked? */
static bool
is_bare(const PlannedStmt *statement)
{
    DefElem *body;

    if (!IsA(statement->utilityStmt, DoStmt) || statement->stmt_location < 0)
        return false;
    body = find_item(((DoStmt *) statement->utilityStmt)->args, "as");
    return body && body->defnamespace && strcmp(body->defnamespace, EXTENSION) == 0;
}

static void
process_utility(PlannedStmt *statement, const char *source, bool read_only_tree, ProcessUtilityContext context,
                ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
                QueryCompletion *completion)
{
    const char *language = language_of(statement->utilityStmt);

    if (language)
        prepare_language(language, source);
    if (!is_bare(statement))
    {
        run_utility(statement, source, read_only_tree, context, parameters, environment, destination, completion);
        return;
    }
    pending.source = source;
    pending.offset = statement->stmt_location;
    PG_TRY();
    {
        run_utility(statement, source, read_only_tree, context, parameters, environment, destination, completion);
    }
    PG_FINALLY();
    {
        pending.source = NULL;
    }
    PG_END_TRY();
}

void
moe_statement_init(void)
{
    bool preloading = process_shared_preload_libraries_in_progress;

    /* It has a meaning only at server start; defined otherwise too, so that the configuration file is accepted. */
    DefineCustomBoolVariable("moe_ml.bare_statements", "Makes CREATE MODEL a statement of its own.",
                             "Needs moe_ml in shared_preload_libraries.", &setting_bare_statements, true,
                             preloading ? PGC_POSTMASTER : PGC_SIGHUP, 0, NULL, NULL, NULL);
    if (!preloading)
        return;
    if (!setting_bare_statements)
    {
        inactive_because = "moe_ml.bare_statements is off";
        return;
    }
    inactive_because = moe_redirect_install();
    if (inactive_because)
    {
        ereport(LOG, errmsg("moe_ml: CREATE MODEL is not available as a statement of its own: %s", inactive_because),
                errhint("Use moe_ml.execute('...') or DO LANGUAGE moe_ml."));
        return;
    }
    next_process_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
}

MOE_FUNCTION(moe_statement_parser_status);
Datum
moe_statement_parser_status(PG_FUNCTION_ARGS)
{
    if (inactive_because)
        PG_RETURN_TEXT_P(cstring_to_text(psprintf("inactive: %s", inactive_because)));
    PG_RETURN_TEXT_P(cstring_to_text(psprintf("active: %s", moe_redirect_summary())));
}
