/*
 * model_options.c: the options of CREATE MODEL ... WITH (...), by one table.
 *
 * A row of the table names an option, its kind, its place in the struct and
 * the values it allows; parsing, error messages and the JSON that is stored
 * for people all follow from it.
 */
#include "postgres.h"

#include <math.h>

#include "commands/defrem.h"
#include "common/int.h"
#include "lib/stringinfo.h"
#include "nodes/value.h"
#include "port/pg_bitutils.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "extension/model_options.h"
#include "extension/moe_ml.h"
#include "extension/statement.h"

typedef enum option_kind
{
    OPTION_INT,
    OPTION_INT64,
    OPTION_FLOAT,
    OPTION_TEXT,
    OPTION_CHOICE,
    OPTION_STATEMENT /* how to run the statement; taken out of the options by its parser */
} option_kind;

typedef struct option
{
    const char *name;
    option_kind kind;
    size_t offset;
    double min, max;
    const char *choices[6]; /* CHOICE; ends with a NULL */
} option;

/* All of them, unless the statement says otherwise: see docs/accuracy.md. */
#define DEFAULT_EXPERTS ((1u << MOE_EXPERT_KINDS) - 1)

#define AT(field) offsetof(moe_model_options, field)

static const option option_table[] = {
    {"aggregation", OPTION_CHOICE, AT(aggregation), 0, 0, {"weighted", "sum", "mean", "max", "all"}},
    {"background", OPTION_STATEMENT},
    {"balance", OPTION_CHOICE, AT(balance), 0, 0, {"none", "classes"}},
    {"batch_size", OPTION_INT, AT(train.batch_size), 1, 65536},
    {"blocks", OPTION_INT, AT(encoder.blocks), 0, 8},
    {"budget", OPTION_FLOAT, AT(budget), 0, 1},
    {"channels", OPTION_INT, AT(model.channels), 4, 1024},
    {"composite", OPTION_CHOICE, AT(composite), 0, 0, {"off", "on"}},
    {"convolution", OPTION_CHOICE, AT(convolution), 0, 0, {"sage", "gin", "pna", "gat"}},
    {"dropout", OPTION_FLOAT, AT(model.dropout), 0, 0.95},
    {"ensembles", OPTION_INT, AT(ensembles), 1, 64},
    {"epochs", OPTION_INT, AT(train.epochs), 1, 10000},
    {"experts", OPTION_TEXT, AT(expert_names)},
    {"graph_inputs", OPTION_CHOICE, AT(graph_inputs), 0, 0, {"none", "history", "all"}},
    {"hops", OPTION_INT, AT(model.hops), 1, MOE_MAX_HOPS},
    {"ignored_columns", OPTION_TEXT, AT(ignored_columns)},
    {"label_window", OPTION_TEXT, AT(label_window)},
    {"learning_rate", OPTION_FLOAT, AT(train.learning_rate), 1e-8, 10},
    {"max_columns", OPTION_INT, AT(max_columns), 1, 10000},
    {"max_steps", OPTION_INT, AT(train.max_steps), 0, 1000000000},
    {"neighbors", OPTION_TEXT, AT(neighbors)},
    {"patience", OPTION_INT, AT(train.patience), 0, 10000},
    {"refit", OPTION_CHOICE, AT(refit_choice), 0, 0, {"on", "off"}},
    {"residual", OPTION_CHOICE, AT(residual), 0, 0, {"off", "on"}},
    {"routing", OPTION_CHOICE, AT(routing), 0, 0, {"top_k", "expert_choice"}},
    {"sampling", OPTION_CHOICE, AT(sampling), 0, 0, {"uniform", "latest"}},
    {"seed", OPTION_INT64, AT(seed), -9007199254740992.0, 9007199254740992.0},
    {"seed_times", OPTION_INT, AT(labels.seed_times), 1, 100000},
    {"show", OPTION_CHOICE, AT(show), 0, 0, {"predictions", "experts"}},
    {"split_column", OPTION_TEXT, AT(labels.split_column)},
    {"task", OPTION_CHOICE, AT(labels.task), 0, 0, {"binary", "regression", "multiclass"}},
    {"stale_draws", OPTION_INT, AT(stale_draws), 1, 20},
    {"staleness", OPTION_TEXT, AT(staleness_text)},
    {"temperature", OPTION_FLOAT, AT(router.temperature), 0.01, 100},
    {"test_from", OPTION_TEXT, AT(test_from)},
    {"time_columns", OPTION_TEXT, AT(time_columns)},
    {"top_k", OPTION_INT, AT(router.top_k), 1, MOE_EXPERT_KINDS},
    {"validation_from", OPTION_TEXT, AT(validation_from)},
    {"weight_decay", OPTION_FLOAT, AT(train.weight_decay), 0, 10},
};

static const option *
find_option(const DefElem *definition)
{
    const char *names[lengthof(option_table)];
    StringInfoData all;
    const char *nearest;

    initStringInfo(&all);
    for (int i = 0; i < (int) lengthof(option_table); i++)
    {
        if (strcmp(option_table[i].name, definition->defname) == 0)
            return &option_table[i];
        names[i] = option_table[i].name;
        appendStringInfo(&all, "%s%s", i ? ", " : "", names[i]);
    }
    nearest = moe_nearest_name(definition->defname, names, lengthof(option_table));
    ereport(ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("unrecognized model option \"%s\"", definition->defname),
             nearest ? errhint("Did you mean \"%s\"? Valid options are: %s.", nearest, all.data)
                     : errhint("Valid options are: %s.", all.data),
             moe_statement_position(definition->location)));
    return NULL;
}

void
moe_model_option_require(const DefElem *definition)
{
    (void) find_option(definition);
}

/* An option's value as text; a list's items with commas in between. */
static char *
text_of(const DefElem *definition)
{
    StringInfoData text;
    ListCell *lc;

    if (definition->arg == NULL || !IsA(definition->arg, List))
        return definition->arg ? defGetString((DefElem *) definition) : "";
    initStringInfo(&text);
    foreach (lc, (List *) definition->arg)
    {
        DefElem item = *definition;

        item.arg = lfirst(lc);
        appendStringInfo(&text, "%s%s", text.len ? ", " : "", defGetString(&item));
    }
    return text.data;
}

static void bad_value(const DefElem *definition, const char *expected) pg_attribute_noreturn();

static void
bad_value(const DefElem *definition, const char *expected)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("invalid value for model option \"%s\": \"%s\"", definition->defname, text_of(definition)),
                    errhint("Expected is %s.", expected), moe_statement_position(definition->location)));
}

/* A number from an Integer, a Float, or a String that is one. */
static double
number_of(const DefElem *definition, const char *expected)
{
    char *text;
    char *end;
    double value;

    text = text_of(definition);
    errno = 0;
    value = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !isfinite(value))
        bad_value(definition, expected);
    return value;
}

static void
set_number(const option *o, const DefElem *definition, void *field)
{
    bool whole = o->kind != OPTION_FLOAT;
    char *expected = psprintf("%s from %.16g to %.16g", whole ? "a whole number" : "a number", o->min, o->max);
    double value = number_of(definition, expected);

    if (value < o->min || value > o->max || (whole && value != floor(value)))
        bad_value(definition, expected);
    if (o->kind == OPTION_INT)
        *(int *) field = (int) value;
    else if (o->kind == OPTION_INT64)
        *(int64 *) field = (int64) value;
    else
        *(float *) field = (float) value;
}

static void
set_choice(const option *o, const DefElem *definition, void *field)
{
    char *value = text_of(definition);
    StringInfoData expected;

    initStringInfo(&expected);
    for (int i = 0; i < (int) lengthof(o->choices) && o->choices[i]; i++)
    {
        if (pg_strcasecmp(o->choices[i], value) == 0)
        {
            *(const char **) field = o->choices[i];
            return;
        }
        appendStringInfo(&expected, "%s%s", i ? " or " : "", o->choices[i]);
    }
    bad_value(definition, expected.data);
}

static void
set_option(moe_model_options *options, const DefElem *definition)
{
    const option *o = find_option(definition);
    void *field = (char *) options + o->offset;

    if (o->kind == OPTION_STATEMENT)
        elog(ERROR, "option %s is not a model's", o->name);
    if (o->kind == OPTION_CHOICE)
        set_choice(o, definition, field);
    else if (o->kind != OPTION_TEXT)
        set_number(o, definition, field);
    else
        *(char **) field = text_of(definition);
}

/* Split at the commas outside double quotes; items are trimmed. */
static List *
split_list(const char *text)
{
    List *items = NIL;
    StringInfoData item;
    bool quoted = false;

    if (text == NULL)
        return NIL;
    initStringInfo(&item);
    for (const char *c = text;; c++)
    {
        if (*c == '"')
            quoted = !quoted;
        if (*c != '\0' && (*c != ',' || quoted))
        {
            if (item.len > 0 || !isspace((unsigned char) *c))
                appendStringInfoChar(&item, *c);
            continue;
        }
        while (item.len > 0 && isspace((unsigned char) item.data[item.len - 1]))
            item.data[--item.len] = '\0';
        if (item.len > 0)
            items = lappend(items, pstrdup(item.data));
        resetStringInfo(&item);
        if (*c == '\0')
            return items;
    }
}

/* "64, 32": neighbours per edge type, hop by hop; a single number counts for every hop. */
static void
read_neighbors(moe_model_options *options, const DefElem *definition, bool hops_given)
{
    List *items = split_list(options->neighbors);
    int n = list_length(items);
    char *expected =
        psprintf("one number from 1 to 1024 for each hop, as in '64, 32', for at most %d hops", MOE_MAX_HOPS);

    if (n < 1 || n > MOE_MAX_HOPS)
        bad_value(definition, expected);
    if (!hops_given && n > 1)
        options->model.hops = n;
    if (n > 1 && n != options->model.hops)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("model option \"neighbors\" has %d numbers, but \"hops\" is %d", n, options->model.hops),
                        errhint("Give one number for each hop, or one for all."),
                        moe_statement_position(definition->location)));
    for (int hop = 0; hop < options->model.hops; hop++)
    {
        char *end;
        const char *item = list_nth(items, n == 1 ? 0 : hop);
        long value = strtol(item, &end, 10);

        if (*end != '\0' || value < 1 || value > 1024)
            bad_value(definition, expected);
        options->model.fanout[hop] = (int) value;
    }
}

static void
name_option(void *name)
{
    errcontext("model option \"%s\"", (const char *) name);
}

/* Call a type's input function on an option's text; its errors get the option's name as context. */
static Datum
input_option(PGFunction input, const char *name, const char *text)
{
    ErrorContextCallback context = {error_context_stack, name_option, (void *) name};
    Datum result;

    error_context_stack = &context;
    result = DirectFunctionCall3(input, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
    error_context_stack = context.previous;
    return result;
}

/* An interval as microseconds; a month counts 30 days. */
static int64
read_interval(const DefElem *definition, const char *text)
{
    Interval *interval = DatumGetIntervalP(input_option(interval_in, definition->defname, text));
    int64 days = (int64) interval->month * 30 + interval->day;
    int64 result;

    if (pg_mul_s64_overflow(days, USECS_PER_DAY, &result) || pg_add_s64_overflow(result, interval->time, &result) ||
        result <= 0)
        bad_value(definition, "a positive interval such as '30 days'");
    return result;
}

static const DefElem *
definition_of(List *definitions, const char *name)
{
    ListCell *lc;

    foreach (lc, definitions)
    {
        const DefElem *definition = lfirst(lc);

        if (strcmp(definition->defname, name) == 0)
            return definition;
    }
    return NULL;
}

/* The number of a CHOICE among its option's, in the order of the enum it stands for. */
static int
choice_number(const char *name, const char *value)
{
    for (int i = 0; i < (int) lengthof(option_table); i++)
        for (int c = 0; strcmp(option_table[i].name, name) == 0 && option_table[i].choices[c] != NULL; c++)
            if (strcmp(option_table[i].choices[c], value) == 0)
                return c;
    elog(ERROR, "option %s has no choice %s", name, value);
}

/* The bit of an expert's name; 0: there is none such. */
static unsigned
expert_bit(const char *name)
{
    for (int kind = 0; kind < MOE_EXPERT_KINDS; kind++)
        if (pg_strcasecmp(moe_expert_name((moe_expert_kind) kind), name) == 0)
            return 1u << kind;
    return 0;
}

/* "linear, graph": the experts of the mixture. */
static void
read_experts(moe_model_options *options, const DefElem *definition)
{
    List *names = split_list(options->expert_names);
    StringInfoData expected;
    ListCell *lc;

    initStringInfo(&expected);
    appendStringInfoString(&expected, "a list of experts, as in 'linear, graph', out of ");
    for (int kind = 0; kind < MOE_EXPERT_KINDS; kind++)
        appendStringInfo(&expected, "%s%s", kind ? ", " : "", moe_expert_name((moe_expert_kind) kind));
    options->experts = 0;
    foreach (lc, names)
    {
        if (expert_bit(lfirst(lc)) == 0)
            bad_value(definition, expected.data);
        options->experts |= expert_bit(lfirst(lc));
    }
    if (options->experts == 0)
        bad_value(definition, expected.data);
    options->experts_given = true;
}

/* The experts in effect. */
static char *
expert_list(unsigned experts)
{
    StringInfoData list;

    initStringInfo(&list);
    for (int kind = 0; kind < MOE_EXPERT_KINDS; kind++)
        if (experts & 1u << kind)
            appendStringInfo(&list, "%s%s", list.len ? ", " : "", moe_expert_name((moe_expert_kind) kind));
    return list.data;
}

/* The fields that need more than their own value. */
static void
derive(moe_model_options *options, List *definitions)
{
    bool hops_given = definition_of(definitions, "hops") != NULL;

    if (options->neighbors)
        read_neighbors(options, definition_of(definitions, "neighbors"), hops_given);
    else
    {
        /* Beyond the default depth the last fan-out goes on. */
        for (int hop = 1; hop < options->model.hops; hop++)
        {
            if (options->model.fanout[hop] < 1)
                options->model.fanout[hop] = options->model.fanout[hop - 1];
        }
    }
    if (options->label_window)
        options->labels.label_window = read_interval(definition_of(definitions, "label_window"), options->label_window);
    if (options->staleness_text && pg_strcasecmp(options->staleness_text, "off") == 0)
        options->staleness = -1;
    else if (options->staleness_text)
        options->staleness = read_interval(definition_of(definitions, "staleness"), options->staleness_text);
    if (options->expert_names)
        read_experts(options, definition_of(definitions, "experts"));
    options->expert_names = expert_list(options->experts);
    if (options->router.top_k > pg_popcount32(options->experts))
    {
        const DefElem *definition = definition_of(definitions, "top_k");

        if (definition != NULL)
            bad_value(definition, psprintf("at most the number of experts, %d", pg_popcount32(options->experts)));
        options->router.top_k = pg_popcount32(options->experts);
    }
    if (options->budget < 1 && (!(options->experts & 1u << MOE_EXPERT_GLANCE) || pg_popcount32(options->experts) < 2))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a budget needs the expert \"glance\" and another"),
                 errhint("The glance expert answers where it is sure, all of them elsewhere: name it in experts."),
                 moe_statement_position(definition_of(definitions, "budget")->location)));
    options->graph_sees = (moe_graph_sees) choice_number("graph_inputs", options->graph_inputs);
    options->model.convolution = (moe_convolution_kind) choice_number("convolution", options->convolution);
    options->model.aggregation = (moe_aggregation) choice_number("aggregation", options->aggregation);
    options->model.composite = choice_number("composite", options->composite) == 1;
    options->model.residual = choice_number("residual", options->residual) == 1;
    options->router.routing = strcmp(options->routing, "top_k") == 0 ? MOE_ROUTE_TOP_K : MOE_ROUTE_EXPERT_CHOICE;
    options->refit = strcmp(options->refit_choice, "on") == 0;
    options->show_experts = strcmp(options->show, "experts") == 0;
    options->model.sampling = strcmp(options->sampling, "latest") == 0 ? MOE_SAMPLE_LATEST : MOE_SAMPLE_UNIFORM;
    options->train.balance_classes = strcmp(options->balance, "classes") == 0;
    options->encoder.channels = options->model.channels;
    options->encoder.dropout = options->model.dropout;
    options->time_column_names = split_list(options->time_columns);
    options->ignored_column_names = split_list(options->ignored_columns);
}

moe_model_options *
moe_model_options_parse(List *definitions)
{
    moe_model_options *options = palloc0(sizeof(moe_model_options));
    ListCell *lc;

    options->ensembles = 4;
    options->experts = DEFAULT_EXPERTS;
    options->budget = 1;
    options->max_columns = 1500;
    options->refit_choice = "off";
    options->show = "predictions";
    options->stale_draws = 3;
    options->routing = "top_k";
    options->graph_inputs = "all";
    options->convolution = "sage";
    options->aggregation = "weighted";
    options->composite = "off";
    options->residual = "off";
    moe_router_config_defaults(&options->router, MOE_EXPERT_KINDS);
    options->router.top_k = MOE_EXPERT_KINDS;
    moe_model_config_defaults(&options->model);
    moe_train_config_defaults(&options->train);
    options->seed = (int64) options->train.seed;
    options->encoder.blocks = 1;
    options->sampling = options->model.sampling == MOE_SAMPLE_LATEST ? "latest" : "uniform";
    options->balance = options->train.balance_classes ? "classes" : "none";
    foreach (lc, definitions)
        set_option(options, lfirst(lc));
    derive(options, definitions);
    return options;
}

static int64
read_time(const char *name, const char *text, Oid time_type)
{
    Datum time = input_option(time_type == TIMESTAMPTZOID ? timestamptz_in : timestamp_in, name, text);

    if (TIMESTAMP_NOT_FINITE(DatumGetTimestamp(time)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("invalid value for model option \"%s\": \"%s\"", name, text),
                        errhint("Expected is a finite timestamp.")));
    return DatumGetTimestamp(time);
}

void
moe_model_options_times(moe_model_options *options, Oid time_type)
{
    moe_label_options *labels = &options->labels;

    labels->has_validation_from = options->validation_from != NULL;
    labels->has_test_from = options->test_from != NULL;
    if (labels->has_validation_from)
        labels->validation_from = read_time("validation_from", options->validation_from, time_type);
    if (labels->has_test_from)
        labels->test_from = read_time("test_from", options->test_from, time_type);
    if (labels->has_validation_from && labels->has_test_from && labels->validation_from > labels->test_from)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("model option \"validation_from\" is later than \"test_from\""),
                        errhint("The blocks follow each other: training, validation, test.")));
}

static void
append_value(StringInfo json, const option *o, const void *field)
{
    const char *text = NULL;

    switch (o->kind)
    {
        case OPTION_INT:
            appendStringInfo(json, "%d", *(const int *) field);
            return;
        case OPTION_INT64:
            appendStringInfo(json, INT64_FORMAT, *(const int64 *) field);
            return;
        case OPTION_FLOAT:
            appendStringInfoString(
                json, DatumGetCString(DirectFunctionCall1(float4out, Float4GetDatum(*(const float *) field))));
            return;
        case OPTION_TEXT:
        case OPTION_CHOICE:
            text = *(const char *const *) field;
            break;
        case OPTION_STATEMENT:
            break;
    }
    if (text == NULL)
        appendStringInfoString(json, "null");
    else
        escape_json(json, text);
}

/* The fan-outs in effect, whether given or not. */
static void
append_neighbors(StringInfo json, const moe_model_options *options)
{
    appendStringInfoChar(json, '"');
    for (int hop = 0; hop < options->model.hops; hop++)
        appendStringInfo(json, "%s%d", hop ? ", " : "", options->model.fanout[hop]);
    appendStringInfoChar(json, '"');
}

char *
moe_model_options_json(const moe_model_options *options)
{
    StringInfoData json;

    initStringInfo(&json);
    appendStringInfoChar(&json, '{');
    for (int i = 0; i < (int) lengthof(option_table); i++)
    {
        const option *o = &option_table[i];

        if (o->kind == OPTION_STATEMENT)
            continue;
        appendStringInfo(&json, "%s\"%s\": ", i ? ", " : "", o->name);
        if (o->offset == AT(neighbors))
            append_neighbors(&json, options);
        else
            append_value(&json, o, (const char *) options + o->offset);
    }
    appendStringInfoChar(&json, '}');
    return json.data;
}
