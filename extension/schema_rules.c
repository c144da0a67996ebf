/*
 * schema_rules.c: roles of columns, decided by declaration, then by rule.
 *
 * What matters most is leak safety. The row time says since when a row was
 * visible; every other date or time is known only once it has come
 * (known_at = itself), and what is overwritten in place is left out, because
 * its past value is lost. docs/graph.md tells the rules to people.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "extension/schema_internal.h"

#define MAX_HIDDEN_GROUPS 8

bool
moe_rules_is_time(Oid type)
{
    return type == DATEOID || type == TIMESTAMPOID || type == TIMESTAMPTZOID;
}

static bool
is_number_array(Oid element)
{
    return element == INT2OID || element == INT4OID || element == INT8OID || element == FLOAT4OID ||
           element == FLOAT8OID || element == NUMERICOID;
}

/* Extension types that turn into real[] by a cast function, as pgvector's do. */
static bool
casts_to_floats(Oid type)
{
    Oid function;

    return find_coercion_pathway(FLOAT4ARRAYOID, type, COERCION_EXPLICIT, &function) == COERCION_PATH_FUNC;
}

bool
moe_rules_storage(Oid type, moe_storage *storage, moe_encoding *encoding, char **reason)
{
    Oid element = get_element_type(type);

    *encoding = MOE_ENCODE_AUTO;
    switch (type)
    {
        case BOOLOID:
            *storage = MOE_STORE_BOOL;
            return true;
        case INT2OID:
        case INT4OID:
        case INT8OID:
        case FLOAT4OID:
        case FLOAT8OID:
        case NUMERICOID:
        case CASHOID:
        case TIMEOID:
        case TIMETZOID:
        case INTERVALOID:
            *storage = MOE_STORE_NUMBER;
            return true;
        case DATEOID:
        case TIMESTAMPOID:
        case TIMESTAMPTZOID:
            *storage = MOE_STORE_TIME;
            return true;
        case TSVECTOROID:
        case INETOID:
        case CIDROID:
        case MACADDROID:
        case CHAROID:
            *storage = MOE_STORE_STRING;
            return true;
        default:
            break;
    }
    if (type == UUIDOID)
    {
        *reason = "type uuid is an identifier; declare it 'category' to use it";
        return false;
    }
    *storage = MOE_STORE_STRING;
    if (type_is_enum(type))
    {
        *encoding = MOE_ENCODE_CATEGORY;
        return true;
    }
    if (TypeCategory(type) == TYPCATEGORY_STRING ||
        (OidIsValid(element) && TypeCategory(element) == TYPCATEGORY_STRING))
        return true;
    *storage = MOE_STORE_VECTOR;
    if (OidIsValid(element) ? is_number_array(element) : casts_to_floats(type))
        return true;
    *reason = psprintf("type %s has no encoding", format_type_be(type));
    return false;
}

/* A column name cut into words: at anything but letters and digits, and where camelCase begins a word. */
static bool
has_word(const char *name, const char *stem, bool whole)
{
    size_t length = strlen(stem);

    for (const char *p = name; *p != '\0'; p++)
    {
        bool begins = p == name || !isalnum((unsigned char) p[-1]) ||
                      (isupper((unsigned char) p[0]) && islower((unsigned char) p[-1]));
        const char *end = p + length;

        if (!begins || pg_strncasecmp(p, stem, length) != 0)
            continue;
        if (!whole || *end == '\0' || !isalnum((unsigned char) *end) ||
            (isupper((unsigned char) *end) && islower((unsigned char) end[-1])))
            return true;
    }
    return false;
}

static const char *
has_any(const char *name, const char *const *stems, bool whole)
{
    for (; *stems != NULL; stems++)
    {
        if (has_word(name, *stems, whole))
            return *stems;
    }
    return NULL;
}

/* Names of values that are overwritten in place: their past is lost. */
static bool
is_overwritten(const char *name)
{
    static const char *const stems[] = {"updat", "modif", "refresh", "edited", "changed", "synced", "accessed", NULL};
    static const char *const whole[] = {"last", "latest", "lastupdate", "mtime", "atime", "moddate", NULL};

    return has_any(name, stems, false) != NULL || has_any(name, whole, true) != NULL;
}

/* Names of something else than the row's own moment: long before it, planned, or later in its life. */
static const char *
means_something_else(const char *name)
{
    static const char *const stems[] = {"birth",  "deceas",  "delet",  "remov",     "cancel", "clos",    "expect",
                                        "expir",  "requir",  "sched",  "plan",      "ship",   "deliver", "return",
                                        "resolv", "complet", "finish", "archiv",    "retir",  "termin",  "deadline",
                                        "approv", "estimat", "disab",  "deactivat", NULL};
    static const char *const whole[] = {"dob",   "born", "died", "death", "due",  "eta",  "end",  "ended", "ends",
                                        "until", "to",   "thru", "stop",  "next", "left", "done", NULL};
    const char *stem = has_any(name, stems, false);

    return stem != NULL ? stem : has_any(name, whole, true);
}

/* Does the table's own name speak of it (shipments.shipped_at)? */
static bool
table_speaks_of(const char *table, const char *stem)
{
    return strlen(stem) >= 4 && has_word(table, stem, false);
}

/* Does a word of the column stand in the table's name (rental.rental_date, orders.ordered_at)? */
static bool
names_own_event(const char *table, const char *column)
{
    size_t length = strcspn(column, "_ ");
    char *word = pnstrdup(column, length);

    for (size_t i = 1; i < length; i++)
    {
        if (isupper((unsigned char) word[i]))
            word[i] = '\0';
    }
    length = strlen(word);
    if (length > 5)
        word[length - 2] = '\0'; /* ordered, invoiced: compare the stem */
    return strlen(word) >= 4 && has_word(table, word, false);
}

typedef enum moe_time_rank /* better ones are larger */
{
    RANK_ANY,
    RANK_DATE,
    RANK_BEGINNING,
    RANK_CREATED,
    RANK_OWN_EVENT
} moe_time_rank;

static moe_time_rank
time_rank(const char *table, const char *column)
{
    static const char *const created[] = {"creat", "insert", "added", NULL};
    static const char *const beginning[] = {
        "occur",  "order",  "place",  "start",  "begin",  "began", "open",  "sign",     "regist",    "join", "hire",
        "hiring", "post",   "submit", "log",    "record", "book",  "issue", "transact", "sold",      "sale", "purchas",
        "pay",    "measur", "visit",  "happen", "event",  "enter", "enrol", "admit",    "admission", "from", NULL};
    static const char *const date[] = {"date", "time", "timestamp", "datetime", "ts", "at", "on", "day", "when", NULL};

    if (names_own_event(table, column))
        return RANK_OWN_EVENT;
    if (has_any(column, created, false))
        return RANK_CREATED;
    if (has_any(column, beginning, false))
        return RANK_BEGINNING;
    return has_any(column, date, true) ? RANK_DATE : RANK_ANY;
}

static const char *
rank_reason(moe_time_rank rank)
{
    switch (rank)
    {
        case RANK_OWN_EVENT:
            return "by rule: named for the table's own event";
        case RANK_CREATED:
            return "by rule: says when the row was created";
        case RANK_BEGINNING:
            return "by rule: names a beginning";
        case RANK_DATE:
            return "by rule: named as a date or time";
        default:
            return "by rule: first date or time column";
    }
}

/* Choose the row time among the date and time columns; -1 with the reason if none will do. */
static void
choose_time(moe_schema_table *table, const moe_schema_choices *choices, const bool *not_null)
{
    int candidates = 0;
    int best = -1;
    bool rejected = false;
    moe_time_rank best_rank = RANK_ANY;

    table->time_reason = "no date or time column";
    for (int i = 0; i < table->n_columns; i++)
    {
        moe_schema_column *column = &table->columns[i];
        moe_time_rank rank;
        const char *stem;

        if (!moe_rules_is_time(column->type) || bms_is_member(i, choices->ignored) ||
            bms_is_member(column->attnum, choices->derived))
            continue;
        stem = means_something_else(column->name);
        if (is_overwritten(column->name) || (stem != NULL && !table_speaks_of(table->name, stem)))
        {
            if (!rejected)
                table->time_reason =
                    psprintf(is_overwritten(column->name) ? "by rule: \"%s\" is overwritten in place"
                                                          : "by rule: \"%s\" does not say when the row began",
                             column->name);
            rejected = true;
            continue;
        }
        candidates++;
        rank = time_rank(table->name, column->name);
        if (best < 0 || rank > best_rank || (rank == best_rank && not_null[i] && !not_null[best]))
        {
            best = i;
            best_rank = rank;
        }
    }
    table->time = best;
    if (best >= 0)
        table->time_reason = pstrdup(candidates == 1 ? "by rule: only candidate" : rank_reason(best_rank));
}

static void
settle_time(moe_schema_table *table, const moe_schema_choices *choices, const moe_declaration *declared,
            const bool *not_null)
{
    int labelled = -1;

    for (int i = 0; i < table->n_columns; i++)
    {
        if (declared[i].what != MOE_DECLARED_TIME)
            continue;
        if (labelled >= 0)
            ereport(ERROR, (errcode(ERRCODE_AMBIGUOUS_COLUMN),
                            errmsg("table \"%s\" has two columns declared as its time, \"%s\" and \"%s\"", table->name,
                                   table->columns[labelled].name, table->columns[i].name),
                            errhint("Take one back: SELECT moe_ml.declare('%s', '%s', NULL).", table->name,
                                    table->columns[i].name)));
        labelled = i;
    }
    if (choices->timeless || choices->time >= 0)
    {
        table->time = choices->timeless ? -1 : choices->time;
        table->time_reason = "option time_columns";
    }
    else if (labelled >= 0 || moe_schema_declaration(table->relid, 0).what == MOE_DECLARED_TIMELESS)
    {
        table->time = labelled;
        table->time_reason = "declared";
    }
    else
        choose_time(table, choices, not_null);
    if (table->time >= 0 && bms_is_member(table->columns[table->time].attnum, choices->derived))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("the target \"%s\" cannot be the row time of table \"%s\"",
                               table->columns[table->time].name, table->name),
                        errhint("Name another column in the option time_columns, or '%s.none'.", table->name)));
}

static void
ignore(moe_schema_column *column, char *reason)
{
    column->role = MOE_ROLE_IGNORED;
    column->reason = reason;
}

static bool
is_kind(moe_declared what)
{
    return what == MOE_DECLARED_NUMERIC || what == MOE_DECLARED_CATEGORY || what == MOE_DECLARED_TEXT;
}

/* Storage and encoding of a column that people declared to be of a kind. */
static void
apply_kind(const moe_schema_table *table, moe_schema_column *column, moe_declared what, bool encodable)
{
    column->reason = "declared";
    if (what == MOE_DECLARED_NUMERIC)
    {
        if (!encodable || (column->storage != MOE_STORE_NUMBER && column->storage != MOE_STORE_BOOL))
            ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                            errmsg("column \"%s\" of table \"%s\" is declared numeric but has type %s", column->name,
                                   table->name, format_type_be(column->type)),
                            errhint("Take the declaration back: SELECT moe_ml.declare('%s', '%s', NULL).", table->name,
                                    column->name)));
        column->storage = MOE_STORE_NUMBER;
        column->encoding = MOE_ENCODE_NUMERIC;
        return;
    }
    column->encoding = what == MOE_DECLARED_TEXT ? MOE_ENCODE_TEXT : MOE_ENCODE_CATEGORY;
    /* A number keeps its storage as a category; everything else is taken in its text form. */
    if (what == MOE_DECLARED_TEXT || !encodable ||
        (column->storage != MOE_STORE_NUMBER && column->storage != MOE_STORE_BOOL))
        column->storage = MOE_STORE_STRING;
}

/* When a feature's value became known: as declared; a date or time not before it has come. */
static int
known_at(const moe_schema_table *table, int i, const moe_declaration *declared)
{
    int at = -1;

    if (declared->what == MOE_DECLARED_KNOWN)
        return -1;
    if (declared->what == MOE_DECLARED_KNOWN_AT)
    {
        at = moe_catalog_column_named(table, declared->argument);
        if (at < 0 || !moe_rules_is_time(table->columns[at].type))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                            errmsg("column \"%s\" of table \"%s\" is declared known at \"%s\", which is no date or "
                                   "timestamp column of the table",
                                   table->columns[i].name, table->name, declared->argument),
                            errhint("Declare it again: SELECT moe_ml.declare('%s', '%s', 'known at <column>').",
                                    table->name, table->columns[i].name)));
    }
    else if (moe_rules_is_time(table->columns[i].type))
        at = i;
    return at == table->time ? -1 : at;
}

static void
settle_feature(moe_schema_table *table, int i, const moe_schema_choices *choices, const moe_declaration *declared)
{
    moe_schema_column *column = &table->columns[i];
    char *unencodable = NULL;
    bool encodable = moe_rules_storage(column->type, &column->storage, &column->encoding, &unencodable);

    column->role = MOE_ROLE_FEATURE;
    column->reason = psprintf("type %s", format_type_be(column->type));
    if (is_kind(declared->what))
        apply_kind(table, column, declared->what, encodable);
    else if (!encodable)
    {
        ignore(column, unencodable);
        return;
    }
    else if (moe_rules_is_time(column->type) && is_overwritten(column->name) && declared->what != MOE_DECLARED_KNOWN &&
             declared->what != MOE_DECLARED_KNOWN_AT)
    {
        ignore(column, "overwritten in place");
        return;
    }
    if (declared->what == MOE_DECLARED_KNOWN || declared->what == MOE_DECLARED_KNOWN_AT)
        column->reason = "declared";
    column->known_at = known_at(table, i, declared);
}

/* A row's mask has eight bits: columns of further groups are left out. */
static void
limit_groups(moe_schema_table *table)
{
    int groups[MAX_HIDDEN_GROUPS];
    int n = 0;

    for (int i = 0; i < table->n_columns; i++)
    {
        moe_schema_column *column = &table->columns[i];
        int g = 0;

        if (column->role != MOE_ROLE_FEATURE || column->known_at < 0)
            continue;
        while (g < n && groups[g] != column->known_at)
            g++;
        if (g == MAX_HIDDEN_GROUPS)
            ignore(column, "more than 8 times of becoming known in this table");
        else if (g == n)
            groups[n++] = column->known_at;
    }
}

void
moe_rules_apply(moe_schema_table *table, const moe_schema_choices *choices)
{
    moe_declaration *declared = palloc0(sizeof(*declared) * Max(table->n_columns, 1));
    bool *not_null = palloc0(sizeof(bool) * Max(table->n_columns, 1));

    for (int i = 0; i < table->n_columns; i++)
    {
        declared[i] = moe_schema_declaration(table->relid, table->columns[i].attnum);
        not_null[i] = moe_catalog_not_null(table->relid, table->columns[i].attnum);
    }
    settle_time(table, choices, declared, not_null);
    for (int i = 0; i < table->n_columns; i++)
    {
        moe_schema_column *column = &table->columns[i];

        if (i == table->time)
        {
            column->role = MOE_ROLE_TIME;
            column->reason = table->time_reason;
        }
        else if ((column->role == MOE_ROLE_KEY || column->role == MOE_ROLE_FOREIGN_KEY) && !is_kind(declared[i].what))
            continue;
        else if (bms_is_member(i, choices->ignored))
            ignore(column, "option ignored_columns");
        else if (declared[i].what == MOE_DECLARED_IGNORE)
            ignore(column, "declared");
        else if (bms_is_member(column->attnum, choices->derived))
            ignore(column, "the target, or generated from it");
        else
            settle_feature(table, i, choices, &declared[i]);
    }
    limit_groups(table);
}
