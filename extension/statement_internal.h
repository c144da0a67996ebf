/*
 * statement_internal.h: what the files of the statement share: tokens, the
 * parse state, the source that error positions refer to.
 */
#ifndef MOE_STATEMENT_INTERNAL_H
#define MOE_STATEMENT_INTERNAL_H

#include "parser/parser.h"

#include "extension/statement.h"

/* Token codes come from the core scanner and, for our keywords, from the grammar. */
typedef struct moe_token
{
    int code;     /* 0: end of input */
    int location; /* byte offsets in the source */
    int end;
    int integer; /* ICONST, PARAM */
    char *text;  /* identifiers (folded), constants, keywords */
    bool word;   /* an unquoted identifier */
} moe_token;

typedef struct moe_tokens
{
    const char *source;
    int n; /* without the end of input, which is items[n] */
    moe_token *items;
} moe_tokens;

/* Scan bytes [offset, offset + length) of source with the core scanner; palloc'd. Raises what the scanner raises, with
 * positions in source. */
moe_tokens *moe_tokens_scan(const char *source, int offset, int length);
/* Is token i the unquoted word (lower case)? False beyond the end. */
bool moe_token_is_word(const moe_tokens *tokens, int i, const char *word);

/* A statement within a source: tokens [first, last), and its bytes from the first token's start to the last's end. */
typedef struct moe_span
{
    int first;
    int last;
    int offset;
    int length;
    bool ours; /* CREATE [OR REPLACE] | DROP | ALTER | REFRESH MODEL */
} moe_span;

/*
 * Split at the semicolons that end statements: those outside parentheses and
 * outside the BEGIN ATOMIC ... END body of an SQL function. Empty statements
 * are left out. Returns a List of moe_span.
 */
List *moe_statement_split(const moe_tokens *tokens);

/* A window's start or end. */
typedef struct moe_bound
{
    bool infinite; /* -INF */
    int64 value;
    int location;
} moe_bound;

/* What the grammar reads and writes. */
typedef struct moe_parse
{
    const char *source;
    const moe_tokens *tokens;
    int next;      /* the token to be served next */
    int query_end; /* user labels: the token after the query; 0 while not met */
    int depth;     /* of parentheses */
    moe_statement *statement;
    List *entity_names; /* of String: FOR EACH a[.b[.c]] */
    int entity_location;
    const char *unsupported; /* the first feature met that is parsed only */
    const char *unsupported_hint;
    int unsupported_location;
} moe_parse;

/* Find keyword codes (statement_scan.c). 0: not a keyword. */
int moe_keyword_lookup(const char *word);

/* Nodes (statement_node.c) */
moe_column_name *moe_column_name_make(moe_parse *parse, List *names, bool star, int location);
moe_node *moe_node_make(moe_node_kind kind, int location);
moe_node *moe_node_column(moe_column_name *column);
moe_node *moe_node_constant(char *sql, int location);
moe_node *moe_node_compare(moe_node *left, const char *op, moe_node *right, int location);
moe_node *moe_node_aggregate(moe_parse *parse, const char *name, moe_column_name *column, moe_node *filter,
                             int location);
void moe_node_window(moe_node *node, moe_bound *start, moe_bound *end, const char *unit, int unit_location);
char *moe_constant_typed(const moe_parse *parse, const char *type, int location, const char *sql);
RangeVar *moe_range_var(List *names, int location);
DefElem *moe_option_make(char *name, Node *value, int location);
char *moe_dotted_text(List *names);
List *moe_options_add(List *options, DefElem *option);
/* Options (statement_options.c) */
/* Move the option background, which says how to run the statement, from its options to a field of its own. */
void moe_statement_take_background(moe_statement *statement);
/* WITH (...) of a CREATE MODEL begins and its parenthesis closes at these places of the source. */
void moe_statement_note_options(moe_parse *parse, int begin, int close);
void moe_parse_unsupported(moe_parse *parse, const char *feature, const char *hint, int location);
void moe_statement_user_labels(moe_parse *parse, moe_node *target, char *at, char *query, int query_location);

/* Parse the syntax only: no catalog look-up, so FOR EACH a.b stays unresolved (entity is NULL). */
moe_statement *moe_statement_parse_syntax(const char *source, int offset, int length);

/*
 * The source that moe_statement_position() speaks of. client: it is what the
 * client (or SPI) sent as a query, so positions are plain error positions.
 * Returns the previous one; set it back on the way out, on error too.
 */
typedef struct moe_source
{
    const char *text;
    bool client;
} moe_source;
moe_source moe_statement_set_source(moe_source source);

/* Parse and execute one statement; returns its command tag. */
const char *moe_statement_run(const char *source, int offset, int length, bool client);
/* Run all statements of a source (or only check their syntax). */
void moe_statement_run_all(const char *source, bool check_only);

/*
 * The bare statement (statement_hook.c): a DoStmt of language moe_ml whose
 * body is marked. If one is being executed now, and text is its body, tell
 * where it stands in the client's string, and forget it.
 */
bool moe_statement_take_bare(const char *text, const char **source, int *offset);
/* What the server's calls of raw_parser() are sent to. */
List *moe_raw_parser(const char *source, RawParseMode mode);
/* How often it was called: the redirection's self-test counts. */
int64 moe_raw_parser_calls(void);

/* Redirect the calls (statement_redirect.c); NULL if done, else why not. */
const char *moe_redirect_install(void);
/* Redirect PL/pgSQL's own call, in this backend; loads plpgsql. */
void moe_redirect_plpgsql(void);
/* A few words for moe_ml.parser_status(): which calls were redirected. */
const char *moe_redirect_summary(void);

#endif
