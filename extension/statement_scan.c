/*
 * statement_scan.c: tokens.
 *
 * The server's core scanner does the work, with an empty keyword list, so
 * that every word arrives as an identifier; our own keywords are looked up
 * afterwards, among unquoted words only. A statement is scanned into an array
 * before it is parsed, because the end of a user's query can only be told
 * from the statement's end.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "parser/scanner.h"

#include "extension/statement_internal.h"

#include "extension/statement_gram.h"

static int
no_keyword_hash(const void *key, size_t length)
{
    return 0;
}

static const ScanKeywordList no_keywords = {"", NULL, no_keyword_hash, 0, 0};

static const struct
{
    const char *word;
    int code;
} keywords[] = {
    {"alter", K_ALTER},
    {"and", K_AND},
    {"as", K_AS},
    {"assuming", K_ASSUMING},
    {"at", K_AT},
    {"between", K_BETWEEN},
    {"cascade", K_CASCADE},
    {"classify", K_CLASSIFY},
    {"create", K_CREATE},
    {"current_role", K_CURRENT_ROLE},
    {"current_user", K_CURRENT_USER},
    {"drop", K_DROP},
    {"each", K_EACH},
    {"exists", K_EXISTS},
    {"false", K_FALSE},
    {"for", K_FOR},
    {"forecast", K_FORECAST},
    {"if", K_IF},
    {"ilike", K_ILIKE},
    {"in", K_IN},
    {"inf", K_INF},
    {"is", K_IS},
    {"like", K_LIKE},
    {"model", K_MODEL},
    {"not", K_NOT},
    {"null", K_NULL},
    {"or", K_OR},
    {"owner", K_OWNER},
    {"predict", K_PREDICT},
    {"rank", K_RANK},
    {"refresh", K_REFRESH},
    {"rename", K_RENAME},
    {"replace", K_REPLACE},
    {"reset", K_RESET},
    {"restrict", K_RESTRICT},
    {"schema", K_SCHEMA},
    {"session_user", K_SESSION_USER},
    {"set", K_SET},
    {"timeframes", K_TIMEFRAMES},
    {"to", K_TO},
    {"top", K_TOP},
    {"true", K_TRUE},
    {"using", K_USING},
    {"where", K_WHERE},
    {"with", K_WITH},
};

int
moe_keyword_lookup(const char *word)
{
    int low = 0;
    int high = lengthof(keywords) - 1;

    while (low <= high)
    {
        int middle = (low + high) / 2;
        int order = strcmp(word, keywords[middle].word);

        if (order == 0)
            return keywords[middle].code;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return 0;
}

typedef struct part
{
    const char *source;
    int offset;
} part;

/* Turn a position within a part of the source, which was handed to the server on its own, into one of the source. */
static void
shift_position(void *argument)
{
    part *where = argument;
    int position = geterrposition();

    if (position > 0)
    {
        const char *from = where->source + where->offset;
        const char *at = from;

        errposition(0);
        while (--position > 0 && *at)
            at += pg_mblen(at);
        moe_statement_position(at - where->source);
    }
}

static moe_token
token_from(int code, const core_YYSTYPE *value, int location, int end)
{
    moe_token token = {.code = code, .location = location, .end = end};

    if (code == ICONST || code == PARAM)
        token.integer = value->ival;
    else if (code == IDENT || code == UIDENT || code == FCONST || code == SCONST || code == USCONST || code == BCONST ||
             code == XCONST || code == Op)
        token.text = value->str;
    return token;
}

moe_tokens *
moe_tokens_scan(const char *source, int offset, int length)
{
    moe_tokens *tokens = palloc0(sizeof(moe_tokens));
    part where = {source, offset};
    ErrorContextCallback callback = {.callback = shift_position, .arg = &where, .previous = error_context_stack};
    char *text = pnstrdup(source + offset, length);
    core_yy_extra_type extra;
    core_yyscan_t scanner;
    int allocated = 64;
    int code;

    error_context_stack = &callback;
    scanner = scanner_init(text, &extra, &no_keywords, NULL);
    extra.escape_string_warning = false; /* the server's own scan, or the one that counts, warns */
    tokens->source = source;
    tokens->items = palloc(sizeof(moe_token) * allocated);
    do
    {
        core_YYSTYPE value;
        int location = 0;

        code = core_yylex(&value, &location, scanner);
        if (tokens->n == allocated)
        {
            allocated *= 2;
            tokens->items = repalloc_huge(tokens->items, sizeof(moe_token) * allocated);
        }
        /* The scanner keeps a zero byte behind the current token. */
        tokens->items[tokens->n] = token_from(code, &value, offset + location,
                                              offset + location + (code ? (int) strlen(extra.scanbuf + location) : 0));
        tokens->items[tokens->n].word = code == IDENT && text[location] != '"';
    } while (code != 0 && ++tokens->n > 0);
    scanner_finish(scanner);
    error_context_stack = callback.previous;
    return tokens;
}

bool
moe_token_is_word(const moe_tokens *tokens, int i, const char *word)
{
    return i < tokens->n && tokens->items[i].word && strcmp(tokens->items[i].text, word) == 0;
}
