/*
 * statement_gram.y: the grammar of the language (docs/statement.md).
 *
 * The core scanner decides the first token numbers, so their declaration must
 * stay first and in this order. Locations are byte offsets in the source.
 * Words that PostgreSQL reserves are reserved here too; all others are names
 * wherever a name may stand.
 */
%code requires
{
#include "extension/statement_internal.h"
}

%code top
{
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/builtins.h"

/* The parser's stack lives in the current memory context, so an error frees it. */
#define YYMALLOC palloc
#define YYFREE pfree
}

%code
{
static int moe_statement_yylex(MOE_STATEMENT_YYSTYPE *value, int *location, moe_parse *parse);
static void moe_statement_yyerror(int *location, moe_parse *parse, const char *message);

#define YYLLOC_DEFAULT(Current, Rhs, N) ((Current) = (N) ? (Rhs)[1] : -1)
}

%define api.pure full
%define api.prefix {moe_statement_yy}
%define api.location.type {int}
%locations
%expect 0
%parse-param {moe_parse *parse}
%lex-param {moe_parse *parse}

%union
{
    int integer;
    bool boolean;
    char *text;
    List *list;
    Node *value;
    DefElem *option;
    RangeVar *range;
    RoleSpec *role;
    moe_node *node;
    moe_column_name *column;
    moe_bound *bound;
}

%token <text> IDENT UIDENT FCONST SCONST USCONST BCONST XCONST Op
%token <integer> ICONST PARAM
%token TYPECAST DOT_DOT COLON_EQUALS EQUALS_GREATER
%token LESS_EQUALS GREATER_EQUALS NOT_EQUALS

%token <text> QUERY

%token <text> K_ALTER K_AND K_AS K_ASSUMING K_AT K_BETWEEN K_CASCADE K_CLASSIFY K_CREATE K_CURRENT_ROLE K_CURRENT_USER
    K_DROP K_EACH K_EXISTS K_FALSE K_FOR K_FORECAST K_IF K_ILIKE K_IN K_INF K_IS K_LIKE K_MODEL K_NOT K_NULL K_OR
    K_OWNER K_PREDICT K_RANK K_REFRESH K_RENAME K_REPLACE K_RESET K_RESTRICT K_SCHEMA K_SESSION_USER K_SET K_TIMEFRAMES K_TO
    K_TOP K_TRUE K_USING K_WHERE K_WITH

%type <text> name unreserved comparison literal number unit like_operator
%type <list> dotted_name model_names dropped_models tables opt_using options model_options opt_with constants
    option_items option_names
%type <range> model_name new_model altered_model table
%type <role> role
%type <node> target condition operand aggregate opt_filter opt_where opt_assuming constant
%type <column> aggregate_column
%type <bound> bound
%type <boolean> opt_or_replace opt_cascade opt_not
%type <option> option option_name
%type <value> option_value option_item

%left K_OR
%left K_AND
%right K_NOT

%%

statement: create | drop | alter | refresh ;

create: K_CREATE opt_or_replace K_MODEL new_model K_PREDICT target opt_style K_FOR K_EACH entity
        {
            parse->statement->kind = MOE_CREATE_MODEL;
            parse->statement->or_replace = $2;
            parse->statement->name = $4;
            parse->statement->target = $6;
        }
        labels ;

labels: opt_where opt_assuming opt_using model_options
        {
            parse->statement->where = $1;
            parse->statement->assuming = $2;
            parse->statement->using_tables = $3;
            parse->statement->options = $4;
        }
    | K_AT name opt_using model_options K_AS QUERY opt_using model_options
        {
            ListCell *cell;

            moe_statement_user_labels(parse, parse->statement->target, $2, $6, @6);
            if ($3 != NIL && $7 != NIL)
                ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("USING is given twice"),
                        moe_statement_position(@7));
            parse->statement->using_tables = $3 != NIL ? $3 : $7;
            parse->statement->options = $4;
            foreach (cell, $8)
                parse->statement->options = moe_options_add(parse->statement->options, lfirst(cell));
        } ;

drop: K_DROP K_MODEL dropped_models opt_cascade
        {
            parse->statement->kind = MOE_DROP_MODEL;
            parse->statement->names = $3;
            parse->statement->name = linitial($3);
            parse->statement->cascade = $4;
        } ;

alter: K_ALTER K_MODEL altered_model alteration { parse->statement->name = $3; } ;

alteration: K_RENAME K_TO name
        {
            parse->statement->kind = MOE_RENAME_MODEL;
            parse->statement->new_name = $3;
        }
    | K_OWNER K_TO role
        {
            parse->statement->kind = MOE_OWNER_MODEL;
            parse->statement->new_owner = $3;
        }
    | K_SET K_SCHEMA name
        {
            parse->statement->kind = MOE_SCHEMA_MODEL;
            parse->statement->new_name = $3;
        }
    | K_SET '(' options ')'
        {
            parse->statement->kind = MOE_SET_MODEL;
            parse->statement->options = $3;
        }
    | K_RESET '(' option_names ')'
        {
            parse->statement->kind = MOE_RESET_MODEL;
            parse->statement->options = $3;
        } ;

refresh: K_REFRESH K_MODEL model_name opt_with
        {
            parse->statement->kind = MOE_REFRESH_MODEL;
            parse->statement->name = $3;
            parse->statement->options = $4;
        } ;

opt_or_replace: K_OR K_REPLACE { $$ = true; } | %empty { $$ = false; } ;

/* Spelt out, since a model may be named if. */
new_model: model_name { $$ = $1; }
    | K_IF K_NOT K_EXISTS model_name { $$ = $4; parse->statement->if_exists = true; } ;
altered_model: model_name { $$ = $1; }
    | K_IF K_EXISTS model_name { $$ = $3; parse->statement->if_exists = true; } ;
dropped_models: model_names { $$ = $1; }
    | K_IF K_EXISTS model_names { $$ = $3; parse->statement->if_exists = true; } ;

opt_cascade: K_CASCADE { $$ = true; } | K_RESTRICT { $$ = false; } | %empty { $$ = false; } ;

role: K_CURRENT_USER { $$ = makeNode(RoleSpec); $$->roletype = ROLESPEC_CURRENT_USER; $$->location = @1; }
    | K_CURRENT_ROLE { $$ = makeNode(RoleSpec); $$->roletype = ROLESPEC_CURRENT_ROLE; $$->location = @1; }
    | K_SESSION_USER { $$ = makeNode(RoleSpec); $$->roletype = ROLESPEC_SESSION_USER; $$->location = @1; }
    | name { $$ = makeNode(RoleSpec); $$->roletype = ROLESPEC_CSTRING; $$->rolename = $1; $$->location = @1; } ;

/* What is predicted */

target: condition { $$ = $1; } | operand { $$ = $1; } ;

opt_style: %empty
    | K_FORECAST ICONST K_TIMEFRAMES
        {
            moe_parse_unsupported(parse, "FORECAST", "Make one model for each window.", @1);
        }
    | K_RANK opt_top
        {
            moe_parse_unsupported(parse, "RANK", "Predict a single value for each row.", @1);
        }
    | K_CLASSIFY opt_top
        {
            moe_parse_unsupported(parse, "CLASSIFY", "Predict a single value for each row.", @1);
        } ;
opt_top: K_TOP ICONST | %empty ;

entity: dotted_name { parse->entity_names = $1; parse->entity_location = @1; } ;

opt_where: K_WHERE condition { $$ = $2; } | %empty { $$ = NULL; } ;
opt_assuming: K_ASSUMING condition { $$ = $2; } | %empty { $$ = NULL; } ;

condition: operand comparison constant { $$ = moe_node_compare($1, $2, $3, @2); }
    | operand K_IS opt_not K_NULL
        {
            $$ = moe_node_make(MOE_NODE_NULL_TEST, @2);
            $$->left = $1;
            $$->negated = $3;
        }
    | operand opt_not K_IN '(' constants ')'
        {
            $$ = moe_node_make(MOE_NODE_IN, $2 ? @2 : @3);
            $$->left = $1;
            $$->negated = $2;
            $$->list = $5;
        }
    | operand opt_not like_operator constant
        {
            $$ = moe_node_make(MOE_NODE_LIKE, $2 ? @2 : @3);
            $$->left = $1;
            $$->negated = $2;
            $$->op = $3;
            $$->right = $4;
        }
    | operand opt_not K_BETWEEN constant K_AND constant
        {
            $$ = moe_node_make(MOE_NODE_BETWEEN, $2 ? @2 : @3);
            $$->left = $1;
            $$->negated = $2;
            $$->list = list_make2($4, $6);
        }
    | K_NOT condition
        {
            $$ = moe_node_make(MOE_NODE_NOT, @1);
            $$->left = $2;
        }
    | condition K_AND condition
        {
            $$ = moe_node_make(MOE_NODE_AND, @2);
            $$->left = $1;
            $$->right = $3;
        }
    | condition K_OR condition
        {
            $$ = moe_node_make(MOE_NODE_OR, @2);
            $$->left = $1;
            $$->right = $3;
        }
    | '(' condition ')' { $$ = $2; } ;

opt_not: K_NOT { $$ = true; } | %empty { $$ = false; } ;
like_operator: K_LIKE { $$ = "LIKE"; } | K_ILIKE { $$ = "ILIKE"; } ;
comparison: '=' { $$ = "="; } | '<' { $$ = "<"; } | '>' { $$ = ">"; }
    | NOT_EQUALS { $$ = "<>"; } | LESS_EQUALS { $$ = "<="; } | GREATER_EQUALS { $$ = ">="; } ;

operand: dotted_name { $$ = moe_node_column(moe_column_name_make(parse, $1, false, @1)); }
    | aggregate { $$ = $1; } ;

aggregate: name '(' aggregate_column opt_filter ')'
        {
            $$ = moe_node_aggregate(parse, $1, $3, $4, @1);
        }
    | name '(' aggregate_column opt_filter ',' bound ',' bound ')'
        {
            $$ = moe_node_aggregate(parse, $1, $3, $4, @1);
            moe_node_window($$, $6, $8, "days", @8);
        }
    | name '(' aggregate_column opt_filter ',' bound ',' bound ',' unit ')'
        {
            $$ = moe_node_aggregate(parse, $1, $3, $4, @1);
            moe_node_window($$, $6, $8, $10, @10);
        } ;

aggregate_column: dotted_name { $$ = moe_column_name_make(parse, $1, false, @1); }
    | dotted_name '.' '*' { $$ = moe_column_name_make(parse, $1, true, @1); } ;

opt_filter: K_WHERE condition { $$ = $2; } | %empty { $$ = NULL; } ;

bound: ICONST { $$ = palloc0(sizeof(moe_bound)); $$->value = $1; $$->location = @1; }
    | '-' ICONST { $$ = palloc0(sizeof(moe_bound)); $$->value = -(int64) $2; $$->location = @1; }
    | '-' K_INF { $$ = palloc0(sizeof(moe_bound)); $$->infinite = true; $$->location = @1; } ;

unit: name { $$ = $1; } ;

/* Constants stay SQL text: the training query quotes them as they are. */

constant: literal { $$ = moe_node_constant($1, @1); } ;
literal: number { $$ = $1; }
    | '-' number { $$ = psprintf("-%s", $2); }
    | SCONST { $$ = quote_literal_cstr($1); }
    | SCONST TYPECAST name
        {
            $$ = moe_constant_typed(parse, $3, @3, quote_literal_cstr($1));
        }
    | name SCONST { $$ = moe_constant_typed(parse, $1, @1, quote_literal_cstr($2)); }
    | K_TRUE { $$ = "true"; }
    | K_FALSE { $$ = "false"; }
    | K_NULL { $$ = "NULL"; } ;
number: ICONST { $$ = psprintf("%d", $1); } | FCONST { $$ = $1; } ;
constants: constant { $$ = list_make1($1); } | constants ',' constant { $$ = lappend($1, $3); } ;

/* The graph and the options */

opt_using: K_USING '(' tables ')' { $$ = $3; } | %empty { $$ = NIL; } ;
tables: table { $$ = list_make1($1); } | tables ',' table { $$ = lappend($1, $3); } ;
table: dotted_name { $$ = moe_range_var($1, @1); } ;

/* A model's options: where they stand in the text is where ALTER MODEL puts others. */
model_options: K_WITH '(' options ')'
        {
            $$ = $3;
            moe_statement_note_options(parse, @1, @4);
        }
    | %empty { $$ = NIL; } ;
opt_with: K_WITH '(' options ')' { $$ = $3; } | %empty { $$ = NIL; } ;
option_names: option_name { $$ = list_make1($1); } | option_names ',' option_name { $$ = moe_options_add($1, $3); } ;
option_name: name { $$ = moe_option_make($1, NULL, @1); } ;
options: option { $$ = list_make1($1); } | options ',' option { $$ = moe_options_add($1, $3); } ;
option: name { $$ = moe_option_make($1, (Node *) makeBoolean(true), @1); }
    | name '=' option_value { $$ = moe_option_make($1, $3, @1); } ;
option_value: option_item { $$ = $1; } | '(' option_items ')' { $$ = (Node *) $2; } ;
option_items: option_item { $$ = list_make1($1); } | option_items ',' option_item { $$ = lappend($1, $3); } ;
option_item: ICONST { $$ = (Node *) makeInteger($1); }
    | '-' ICONST { $$ = (Node *) makeInteger(-$2); }
    | FCONST { $$ = (Node *) makeFloat($1); }
    | '-' FCONST { $$ = (Node *) makeFloat(psprintf("-%s", $2)); }
    | SCONST { $$ = (Node *) makeString($1); }
    | K_TRUE { $$ = (Node *) makeBoolean(true); }
    | K_FALSE { $$ = (Node *) makeBoolean(false); }
    | dotted_name { $$ = (Node *) makeString(moe_dotted_text($1)); } ;

/* Names */

model_names: model_name { $$ = list_make1($1); } | model_names ',' model_name { $$ = lappend($1, $3); } ;
model_name: dotted_name { $$ = moe_range_var($1, @1); } ;
dotted_name: name { $$ = list_make1(makeString($1)); }
    | dotted_name '.' name { $$ = lappend($1, makeString($3)); } ;
name: IDENT { $$ = $1; } | unreserved { $$ = $1; } ;

unreserved: K_ALTER | K_ASSUMING | K_AT | K_BETWEEN | K_CASCADE | K_CLASSIFY | K_DROP | K_EACH | K_EXISTS | K_FORECAST
    | K_IF | K_INF | K_MODEL | K_OWNER | K_PREDICT | K_RANK | K_REFRESH | K_RENAME | K_REPLACE | K_RESET | K_RESTRICT | K_SCHEMA
    | K_SET | K_TIMEFRAMES | K_TOP ;

%%

/* The token after the user's query, which begins at `first`: where trailing options begin, or the end. */
static int
find_query_end(const moe_tokens *tokens, int first)
{
    int depth = 0;
    int end = tokens->n;
    int i;

    for (i = first; i < tokens->n; i++)
    {
        const moe_token *token = &tokens->items[i];

        if (token->code == '(')
            depth++;
        else if ((token->code == ')' && --depth < 0) || token->code == ';')
            return i;
        else if (depth == 0 && i > first && moe_token_is_word(tokens, i, "with") && i + 1 < tokens->n &&
                 tokens->items[i + 1].code == '(')
            return i;
        /* Only after a query wholly in parentheses can USING not be part of it. */
        if (depth == 0 && token->code == ')' && tokens->items[first].code == '(' && end == tokens->n)
        {
            end = i + 1;
            if (moe_token_is_word(tokens, end, "using"))
                return end;
        }
    }
    return tokens->n;
}

/* Serve the next token: a keyword for an unquoted word that is one, the user's query as a whole after AS. */
static int
moe_statement_yylex(MOE_STATEMENT_YYSTYPE *value, int *location, moe_parse *parse)
{
    const moe_tokens *tokens = parse->tokens;
    const moe_token *token = &tokens->items[parse->next];
    int code = token->code;

    *location = token->location;
    if (parse->next > 0 && parse->query_end == 0 && parse->depth == 0 && code != 0 &&
        moe_token_is_word(tokens, parse->next - 1, "as"))
    {
        parse->query_end = find_query_end(tokens, parse->next);
        if (parse->query_end > parse->next)
        {
            int end = tokens->items[parse->query_end - 1].end;

            parse->next = parse->query_end;
            value->text = pnstrdup(parse->source + *location, end - *location);
            return QUERY;
        }
    }
    if (code == 0)
        return 0;
    parse->next++;
    if (code == '(')
        parse->depth++;
    else if (code == ')')
        parse->depth--;
    if (code == UIDENT || code == USCONST)
        ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                errmsg("Unicode escapes (U&) are not supported in this statement"),
                errhint("Write the characters themselves, or use an E'...' string."),
                moe_statement_position(*location));
    if (token->word && moe_keyword_lookup(token->text) != 0)
        code = moe_keyword_lookup(token->text);
    if (code == ICONST || code == PARAM)
        value->integer = token->integer;
    else
        value->text = token->text;
    return code;
}

static void
moe_statement_yyerror(int *location, moe_parse *parse, const char *message)
{
    const moe_tokens *tokens = parse->tokens;
    int i = 0;

    if (strcmp(message, "memory exhausted") == 0)
        ereport(ERROR, errcode(ERRCODE_STATEMENT_TOO_COMPLEX), errmsg("the statement is nested too deeply"),
                errhint("Write the condition with fewer parentheses and NOTs."), moe_statement_position(*location));
    while (i < tokens->n && tokens->items[i].location < *location)
        i++;
    if (i == tokens->n)
        ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s at end of input", message),
                moe_statement_position(*location));
    ereport(ERROR, errcode(ERRCODE_SYNTAX_ERROR),
            errmsg("%s at or near \"%.*s\"", message, tokens->items[i].end - *location, parse->source + *location),
            i < 2 ? errhint("Statements of this language begin with CREATE MODEL, DROP MODEL, ALTER MODEL or "
                            "REFRESH MODEL.")
                  : 0,
            moe_statement_position(*location));
}
