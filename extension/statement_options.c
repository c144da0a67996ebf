/*
 * statement_options.c: WITH (...), taken apart and put together again.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "extension/statement_internal.h"

static bool
boolean_of(DefElem *option)
{
    char *text = IsA(option->arg, List) ? "" : defGetString(option);
    bool value;

    if (!parse_bool(text, &value))
        ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                errmsg("invalid value for option \"%s\": \"%s\"", option->defname, text),
                errhint("Expected is true or false, or the option's name alone."),
                moe_statement_position(option->location));
    return value;
}

void
moe_statement_take_background(moe_statement *statement)
{
    ListCell *cell;

    if (statement->kind != MOE_CREATE_MODEL && statement->kind != MOE_REFRESH_MODEL)
        return;
    foreach (cell, statement->options)
    {
        DefElem *option = lfirst(cell);

        if (strcmp(option->defname, "background") == 0)
        {
            statement->background = boolean_of(option);
            statement->options = foreach_delete_current(statement->options, cell);
        }
        else if (statement->kind == MOE_REFRESH_MODEL)
            ereport(
                ERROR, errcode(ERRCODE_SYNTAX_ERROR), errmsg("REFRESH MODEL has no option \"%s\"", option->defname),
                errhint("Its only option is background. ALTER MODEL ... SET (%s = ...) changes what the next REFRESH "
                        "MODEL trains with.",
                        quote_identifier(option->defname)),
                moe_statement_position(option->location));
    }
}

void
moe_statement_note_options(moe_parse *parse, int begin, int close)
{
    moe_statement *statement = parse->statement;

    statement->with_begin[statement->n_with] = begin - statement->location;
    statement->with_end[statement->n_with++] = close + 1 - statement->location;
}

static void
append_value(StringInfo text, Node *value)
{
    const ListCell *cell;

    switch (nodeTag(value))
    {
        case T_Integer:
            appendStringInfo(text, "%d", intVal(value));
            break;
        case T_Float:
            appendStringInfoString(text, ((Float *) value)->fval);
            break;
        case T_Boolean:
            appendStringInfoString(text, boolVal(value) ? "true" : "false");
            break;
        case T_String:
            appendStringInfoString(text, quote_literal_cstr(strVal(value)));
            break;
        case T_List:
            foreach (cell, (List *) value)
            {
                appendStringInfoString(text, cell == list_head((List *) value) ? "(" : ", ");
                append_value(text, lfirst(cell));
            }
            appendStringInfoChar(text, ')');
            break;
        default:
            elog(ERROR, "unexpected node type %d of an option's value", (int) nodeTag(value));
    }
}

static void
append_options(StringInfo text, List *options)
{
    ListCell *cell;

    foreach (cell, options)
    {
        const DefElem *option = lfirst(cell);

        appendStringInfo(text, "%s%s = ", cell == list_head(options) ? "WITH (" : ", ",
                         quote_identifier(option->defname));
        append_value(text, option->arg);
    }
    if (options != NIL)
        appendStringInfoChar(text, ')');
}

char *
moe_statement_with_options(const moe_statement *statement, List *options)
{
    StringInfoData text;
    int at = 0;

    initStringInfo(&text);
    for (int i = 0; i < statement->n_with; i++)
    {
        appendBinaryStringInfo(&text, statement->text + at, statement->with_begin[i] - at);
        if (i == 0)
            append_options(&text, options);
        at = statement->with_end[i];
    }
    appendStringInfoString(&text, statement->text + at);
    if (statement->n_with == 0 && options != NIL)
    {
        appendStringInfoChar(&text, '\n');
        append_options(&text, options);
    }
    while (text.len > 0 && isspace((unsigned char) text.data[text.len - 1]))
        text.data[--text.len] = '\0';
    return text.data;
}
