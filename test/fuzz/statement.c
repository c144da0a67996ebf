/*
 * statement.c: fuzz the language: any bytes through the server's scanner, the split into statements and the grammar.
 */
#include "test/fuzz/backend.h"

#include "mb/pg_wchar.h"

#include "extension/statement_internal.h"

/* What comes from a client is valid in the server's encoding, and has no zero byte. */
static void
run(const uint8 *data, size_t size)
{
    char *source = pnstrdup((const char *) data, size);
    int length = strlen(source);

    if (!pg_verifymbstr(source, length, true))
        return;
    moe_statement_run_all(source, true);
    (void) moe_statement_parse(source, 0, length);
    (void) moe_raw_parser(source, RAW_PARSE_DEFAULT);
}

const moe_fuzz_target moe_fuzz_statement = {.name = "statement", .writes = true, .run = run};
