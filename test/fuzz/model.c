/*
 * model.c: fuzz all that is read of a model: moe_ml.import_model() of bytes whose checksums are right, and SELECT from
 * what is imported.
 *
 * An input's first byte says of which model the others are (by twos), and what: its record (odd), or its stored
 * parameters without their header (even). The rest is that model's own, so that one part can be got wrong at a time.
 */
#include "test/fuzz/backend.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "extension/moe_ml.h"
#include "kernels/random.h"

#define HEADER_BYTES   28
#define PARAMETERS_KEY UINT64CONST(0x6d6f655f6d6c0001) /* as in extension/model_store.c */
#define EXPORT_KEY     UINT64CONST(0x6d6f655f65787001) /* as in extension/model_export.c */

typedef struct piece
{
    uint8 *data;
    size_t size;
} piece;

typedef struct model
{
    const char *name;
    piece record;     /* of the export: from behind its header to the parameters' length */
    piece parameters; /* with their header */
} model;

static model models[] = {{"arm"}, {"classes"}, {"graph"}, {"history"}, {"retrieval"}, {"tabular"}, {"trees"}};
static uint8 export_header[HEADER_BYTES];

static void
put_i64(uint8 *at, int64 value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8) ((uint64) value >> (8 * i));
}

/* Length and checksum of what follows a header of magic, version, length and checksum. */
static void
seal(uint8 *bytes, size_t size, uint64 key)
{
    put_i64(bytes + 12, size - HEADER_BYTES);
    put_i64(bytes + 20, (int64) moe_hash_bytes(bytes + HEADER_BYTES, size - HEADER_BYTES, key));
}

static bytea *
ask(const char *query, const char *name)
{
    char *text = psprintf(query, name);
    bool null;

    if (SPI_execute(text, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
        elog(ERROR, "the database has no model \"%s\"", name);
    return DatumGetByteaPCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
}

static piece
keep(const void *data, size_t size)
{
    piece kept = {MemoryContextAlloc(TopMemoryContext, size), size};

    memcpy(kept.data, data, size);
    return kept;
}

static void
prepare(void)
{
    SPI_connect();
    for (int i = 0; i < lengthof(models); i++)
    {
        bytea *whole = ask("SELECT moe_ml.export_model('%s')", models[i].name);
        bytea *stored =
            ask("SELECT string_agg(data, '' ORDER BY part) FROM moe_ml.model_parameter, pg_foreign_table, "
                "pg_options_to_table(ftoptions) WHERE ftrelid = '%s'::regclass AND model = option_value::uuid",
                models[i].name);
        size_t before = VARSIZE_ANY_EXHDR(whole) - VARSIZE_ANY_EXHDR(stored) - 8;

        memcpy(export_header, VARDATA_ANY(whole), HEADER_BYTES);
        models[i].record = keep(VARDATA_ANY(whole) + HEADER_BYTES, before - HEADER_BYTES);
        models[i].parameters = keep(VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
    }
    SPI_finish();
}

static bytea *
assemble(piece first, piece second)
{
    size_t size = HEADER_BYTES + first.size + 8 + second.size;
    bytea *whole = palloc(VARHDRSZ + size);
    uint8 *at = (uint8 *) VARDATA(whole);

    SET_VARSIZE(whole, VARHDRSZ + size);
    memcpy(at, export_header, HEADER_BYTES);
    memcpy(at + HEADER_BYTES, first.data, first.size);
    put_i64(at + HEADER_BYTES + first.size, second.size);
    memcpy(at + HEADER_BYTES + first.size + 8, second.data, second.size);
    seal(at, size, EXPORT_KEY);
    return whole;
}

static void
run(const uint8 *data, size_t size)
{
    piece given = {unconstify(uint8 *, data) + 1, size - 1};
    const model *of;
    Datum arguments[2];
    Oid types[2] = {TEXTOID, BYTEAOID};

    if (size < 1)
        return;
    of = &models[data[0] / 2 % lengthof(models)];
    if (data[0] % 2 == 1)
        arguments[1] = PointerGetDatum(assemble(given, of->parameters));
    else
    {
        piece sealed = {palloc(HEADER_BYTES + given.size), HEADER_BYTES + given.size};

        memcpy(sealed.data, of->parameters.data, HEADER_BYTES);
        memcpy(sealed.data + HEADER_BYTES, given.data, given.size);
        seal(sealed.data, sealed.size, PARAMETERS_KEY);
        arguments[1] = PointerGetDatum(assemble(of->record, sealed));
    }
    arguments[0] = CStringGetTextDatum("imported");
    SPI_connect();
    SPI_execute_with_args("SELECT moe_ml.import_model($1, $2)", 2, types, arguments, NULL, false, 0);
    SPI_execute("SELECT * FROM imported LIMIT 3", true, 0);
    SPI_finish();
}

const moe_fuzz_target moe_fuzz_model = {.name = "model", .writes = true, .prepare = prepare, .run = run};
