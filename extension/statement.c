/*
 * statement.c: from text to tree, and from a place in the text to an error's
 * position.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"

#include "extension/statement_internal.h"

#include "extension/statement_gram.h"

static moe_source current_source;

moe_source
moe_statement_set_source(moe_source source)
{
    moe_source previous = current_source;

    current_source = source;
    return previous;
}

int
moe_statement_position(int location)
{
    int position;

    if (location < 0 || current_source.text == NULL)
        return 0;
    position = pg_mbstrlen_with_len(current_source.text, location) + 1;
    if (current_source.client)
        return errposition(position);
    internalerrquery(current_source.text);
    return internalerrposition(position);
}

/* Forget a source whose memory goes away. */
static void
forget_source(void *text)
{
    if (current_source.text == text)
        current_source = (moe_source){NULL, false};
}

/*
 * A source that no door has announced, such as a stored definition that is
 * being parsed again: from now on positions refer to a copy of it.
 */
static const char *
adopt_source(const char *source)
{
    MemoryContextCallback *callback;
    char *copy;

    if (current_source.text == source)
        return source;
    copy = pstrdup(source);
    callback = palloc0(sizeof(MemoryContextCallback));
    callback->func = forget_source;
    callback->arg = copy;
    MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
    current_source = (moe_source){copy, false};
    return copy;
}

typedef struct query_part
{
    const char *source;
    int offset;
} query_part;

/* A position within the user's query becomes one of the source. */
static void
shift_query_position(void *argument)
{
    query_part *part = argument;
    int position = geterrposition();

    if (position > 0)
    {
        const char *at = part->source + part->offset;

        errposition(0);
        while (--position > 0 && *at)
            at += pg_mblen(at);
        moe_statement_position(at - part->source);
    }
}

/* The user's query must be one SELECT (or VALUES, TABLE, WITH) by the server's own grammar. */
static void
check_label_query(const moe_parse *parse)
{
    const moe_statement *statement = parse->statement;
    query_part part = {parse->source, statement->label_query_location};
    ErrorContextCallback callback = {.callback = shift_query_position, .arg = &part, .previous = error_context_stack};
    List *parsed;
    int i;

    for (i = 0; i < parse->tokens->n; i++)
    {
        const moe_token *token = &parse->tokens->items[i];

        if (token->code == PARAM && token->location >= statement->label_query_location)
            ereport(ERROR, errcode(ERRCODE_UNDEFINED_PARAMETER), errmsg("there is no parameter $%d", token->integer),
                    errhint("Write the value into the statement's text, for example with format() and %%L."),
                    moe_statement_position(token->location));
    }
    error_context_stack = &callback;
    parsed = raw_parser(statement->label_query, RAW_PARSE_DEFAULT);
    error_context_stack = callback.previous;
    if (list_length(parsed) != 1 || !IsA(linitial_node(RawStmt, parsed)->stmt, SelectStmt) ||
        ((SelectStmt *) linitial_node(RawStmt, parsed)->stmt)->intoClause)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("the query of labels must be a SELECT"),
                moe_statement_position(statement->label_query_location));
}

static moe_parse
parse_source(const char *source, int offset, int length)
{
    moe_parse parse = {.source = source};
    moe_tokens *tokens = moe_tokens_scan(source, offset, length);

    while (tokens->n > 0 && tokens->items[tokens->n - 1].code == ';')
    {
        /* The end of input is then where the semicolon stands. */
        tokens->items[--tokens->n].code = 0;
    }
    parse.tokens = tokens;
    parse.statement = palloc0(sizeof(moe_statement));
    if (tokens->n > 0)
    {
        parse.statement->location = tokens->items[0].location;
        parse.statement->text =
            pnstrdup(source + tokens->items[0].location, tokens->items[tokens->n - 1].end - tokens->items[0].location);
    }
    moe_statement_yyparse(&parse);
    if (parse.unsupported)
        ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not supported yet", parse.unsupported),
                errhint("%s", parse.unsupported_hint), moe_statement_position(parse.unsupported_location));
    moe_statement_take_background(parse.statement);
    if (list_length(parse.entity_names) > 3)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
                errmsg("improper qualified name (too many dotted names): %s", moe_dotted_text(parse.entity_names)),
                moe_statement_position(parse.entity_location));
    if (parse.statement->label_query)
        check_label_query(&parse);
    return parse;
}

moe_statement *
moe_statement_parse_syntax(const char *source, int offset, int length)
{
    return parse_source(source, offset, length).statement;
}

/* a.b is table.key if a table a is visible, or if there is no schema a; else schema.table. */
static bool
is_table_and_key(const char *first, int location)
{
    if (OidIsValid(RangeVarGetRelid(makeRangeVar(NULL, pstrdup(first), location), NoLock, true)))
        return true;
    return !OidIsValid(get_namespace_oid(first, true));
}

static void
resolve_entity(moe_parse *parse)
{
    List *names = parse->entity_names;
    int n = list_length(names);

    if (n == 0)
        return;
    if (n == 3 || (n == 2 && is_table_and_key(strVal(linitial(names)), parse->entity_location)))
    {
        parse->statement->entity_key = strVal(llast(names));
        names = list_truncate(list_copy(names), n - 1);
    }
    parse->statement->entity = moe_range_var(names, parse->entity_location);
}

moe_statement *
moe_statement_parse(const char *source, int offset, int length)
{
    moe_parse parse = parse_source(adopt_source(source), offset, length);

    resolve_entity(&parse);
    return parse.statement;
}
