/*
 * statement_split.c: where each statement of a string begins and ends, and
 * whether it is one of ours.
 *
 * The rules are psql's: a semicolon ends a statement unless it stands in
 * parentheses (CREATE RULE ... DO (a; b)) or in the BEGIN ATOMIC ... END body
 * of a function, within which CASE ... END nests too.
 */
#include "postgres.h"

#include "extension/statement_internal.h"

/* Index after CREATE [OR REPLACE], or first if there is none. */
static int
skip_create(const moe_tokens *tokens, int first)
{
    if (!moe_token_is_word(tokens, first, "create"))
        return first;
    if (moe_token_is_word(tokens, first + 1, "or") && moe_token_is_word(tokens, first + 2, "replace"))
        return first + 3;
    return first + 1;
}

static bool
is_ours(const moe_tokens *tokens, int first)
{
    int after = skip_create(tokens, first);

    if (after == first && (moe_token_is_word(tokens, first, "drop") || moe_token_is_word(tokens, first, "alter") ||
                           moe_token_is_word(tokens, first, "refresh")))
        after = first + 1;
    return after > first && moe_token_is_word(tokens, after, "model");
}

static bool
is_routine(const moe_tokens *tokens, int first)
{
    int after = skip_create(tokens, first);

    return after > first &&
           (moe_token_is_word(tokens, after, "function") || moe_token_is_word(tokens, after, "procedure"));
}

/* Index of the semicolon that ends the statement which begins at first, or tokens->n. */
static int
find_end(const moe_tokens *tokens, int first)
{
    bool routine = is_routine(tokens, first);
    int parentheses = 0;
    int blocks = 0;
    int i;

    for (i = first; i < tokens->n; i++)
    {
        int code = tokens->items[i].code;

        if (code == '(')
            parentheses++;
        else if (code == ')' && parentheses > 0)
            parentheses--;
        else if (code == ';' && parentheses == 0 && blocks == 0)
            break;
        else if (routine && blocks == 0 && moe_token_is_word(tokens, i, "begin") &&
                 moe_token_is_word(tokens, i + 1, "atomic"))
            blocks = 1;
        else if (blocks > 0 && moe_token_is_word(tokens, i, "case"))
            blocks++;
        else if (blocks > 0 && moe_token_is_word(tokens, i, "end"))
            blocks--;
    }
    return i;
}

List *
moe_statement_split(const moe_tokens *tokens)
{
    List *spans = NIL;
    int first = 0;

    while (first < tokens->n)
    {
        int last = find_end(tokens, first);

        if (last > first)
        {
            moe_span *span = palloc0(sizeof(moe_span));

            span->first = first;
            span->last = last;
            span->offset = tokens->items[first].location;
            span->length = tokens->items[last - 1].end - span->offset;
            span->ours = is_ours(tokens, first);
            spans = lappend(spans, span);
        }
        first = last + 1;
    }
    return spans;
}
