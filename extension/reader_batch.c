/*
 * reader_batch.c: values are converted by the job's threads while the executor finds the next rows.
 *
 * The thread that runs the executor only copies: a row's words side by side,
 * strings behind each other, and numerics, which it turns into doubles. When
 * a batch is full it makes room in the sinks and hands the batch to the
 * workers, each of which moves some columns; meanwhile the other of two
 * batches is filled. Values that need a function of the server (arrays, enums,
 * detoasting, other encodings) are put into their sink at once, by the
 * executor's thread, and such sinks are left alone by the workers.
 *
 * An error may end the reading while the workers still run. They use the job's
 * memory only, and the job waits for them before it frees it.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "extension/moe_ml.h"
#include "extension/reader_batch.h"

#define FIRST_ROWS 256 /* room to begin with where nothing is known of a table */

/* What the workers know of a sink. */
typedef struct lane
{
    moe_value_form form;
    bool direct; /* the executor's thread puts the values */
    moe_item null_item;
    moe_item *items;
    uint8 *null;
    bool any_null;
    int64 not_finite;
    char *bytes;
    int64 n_bytes;
} lane;

/* Rows that were taken over and are not yet in their sinks. */
typedef struct batch
{
    int64 first; /* row */
    int n;
    uint64 *words; /* [MOE_BATCH_ROWS, lanes]; of strings: where they end in bytes */
    bool *nulls;   /* [MOE_BATCH_ROWS, lanes] */
    int64 *begin;  /* [MOE_BATCH_ROWS, lanes] of strings: where they begin in bytes */
    char *bytes;
    int64 n_bytes;
    int64 capacity;
    int64 *length; /* [lanes] of all strings together */
} batch;

/* What a call of convert is about. */
typedef struct conversion
{
    const batch *batch;
    lane *lanes;
    int n_lanes;
} conversion;

struct moe_batches
{
    moe_reading *reading;
    moe_job *job;
    int n_lanes;
    lane *lanes;
    int n_special;
    int *special; /* lanes whose words are not taken as they are */
    batch batch[2];
    batch *filling;
    conversion *conversion;
};

/*
 * Room to begin with: what the planner expects, and a little more, as memory
 * that is not used costs nothing yet; but within a quarter of the limit, since
 * row-level security may hide most rows.
 */
static int64
first_capacity(const moe_reading *reading)
{
    double expected = reading->schema->rows * 1.02;
    double limit = moe_setting_memory_limit_mb * 1048576.0 / 4 / (sizeof(moe_item) * Max(reading->n_sinks, 1));

    return (int64) Max(FIRST_ROWS, Min(Min(expected, limit), PG_INT32_MAX));
}

/* Make room for more rows in the sinks: an eighth more, as memory is moved by remapping its pages. */
static void
reserve(moe_batches *b, int64 rows)
{
    moe_reading *reading = b->reading;

    if (rows > PG_INT32_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("table \"%s\" has more than %d rows", reading->schema->name, PG_INT32_MAX),
                        errhint("Let the model read a view of its newer rows, or leave it out with USING.")));
    if (rows <= reading->capacity)
        return;
    if (reading->capacity == 0)
        reading->capacity = first_capacity(reading);
    while (reading->capacity < rows)
        reading->capacity = Min(reading->capacity + Max(reading->capacity / 8, FIRST_ROWS), PG_INT32_MAX);
    for (int s = 0; s < b->n_lanes; s++)
    {
        moe_sink *sink = &reading->sinks[s];

        moe_sink_reserve(sink, b->job, reading->capacity);
        if (sink->null == NULL && !b->lanes[s].direct)
            sink->null = moe_check_ptr(b->job, moe_alloc(b->job, reading->capacity, 1));
        b->lanes[s].items = sink->items;
        b->lanes[s].null = sink->null;
    }
}

static bool
is_direct(moe_value_form form)
{
    switch (form)
    {
        case FORM_NUMBER:
        case FORM_DATE:
        case FORM_VARLENA:
        case FORM_PADDED:
        case FORM_OUTPUT:
        case FORM_TEXTS:
        case FORM_VECTOR:
        case FORM_KEY:
            return true;
        default:
            return false;
    }
}

static void
create_batch(moe_job *job, batch *batch, int n_lanes)
{
    int64 n = (int64) MOE_BATCH_ROWS * n_lanes;

    batch->words = moe_check_ptr(job, moe_alloc(job, n, sizeof(uint64)));
    batch->nulls = moe_check_ptr(job, moe_alloc(job, n, sizeof(bool)));
    batch->begin = moe_check_ptr(job, moe_alloc(job, n, sizeof(int64)));
    batch->length = moe_check_ptr(job, moe_alloc(job, n_lanes, sizeof(int64)));
}

moe_batches *
moe_batches_create(moe_reading *reading)
{
    moe_job *job = reading->data->job;
    moe_batches *b = moe_check_ptr(job, moe_alloc(job, 1, sizeof(*b)));

    b->reading = reading;
    b->job = job;
    b->n_lanes = reading->n_sinks;
    b->lanes = moe_check_ptr(job, moe_alloc(job, b->n_lanes, sizeof(lane)));
    b->special = moe_check_ptr(job, moe_alloc(job, b->n_lanes, sizeof(int)));
    b->conversion = moe_check_ptr(job, moe_alloc(job, 1, sizeof(conversion)));
    for (int s = 0; s < b->n_lanes; s++)
    {
        moe_sink *sink = &reading->sinks[s];

        b->lanes[s].form = sink->form;
        b->lanes[s].direct = is_direct(sink->form);
        if (b->lanes[s].direct || sink->form == FORM_UTF8 || sink->form == FORM_NUMERIC)
            b->special[b->n_special++] = s;
        b->lanes[s].null_item.time = sink->kind == SINK_ROW_TIME   ? MOE_TIME_ALWAYS
                                     : sink->kind == SINK_KNOWN_AT ? MOE_TIME_NEVER
                                                                   : 0;
    }
    reserve(b, MOE_BATCH_ROWS);
    create_batch(job, &b->batch[0], b->n_lanes);
    create_batch(job, &b->batch[1], b->n_lanes);
    b->filling = &b->batch[0];
    return b;
}

/*
 * A numeric from its digits, for those whose digits fit a double's mantissa and whose power of ten is exact too:
 * one division or multiplication of exact numbers is rounded as the decimal value would be (Clinger 1990). The
 * layout is that of the server's files, and so the same in every version. False: convert it the long way.
 */
static inline bool
short_numeric(const struct varlena *packed, double *number)
{
    static const double powers[] = {1e0, 1e4, 1e8, 1e12, 1e16, 1e20};
    const char *bytes = VARDATA_ANY(packed);
    int length = (int) VARSIZE_ANY_EXHDR(packed);
    uint16 header;
    int16 weight, digit;
    int digits, shift;
    uint64 mantissa = 0;
    bool negative;

    memcpy(&header, bytes, sizeof(header));
    if ((header & 0xC000) == 0xC000) /* NaN and infinities */
        return false;
    negative = (header & 0x8000) ? (header & 0x2000) != 0 : (header & 0x4000) != 0;
    if (header & 0x8000)
        weight = (int16) ((header & 0x0040 ? ~0x003F : 0) | (header & 0x003F));
    else
        memcpy(&weight, bytes + 2, sizeof(weight));
    bytes += header & 0x8000 ? 2 : 4;
    length -= header & 0x8000 ? 2 : 4;
    digits = length / (int) sizeof(digit);
    if (digits > 4)
        return false;
    for (int i = 0; i < digits; i++)
    {
        memcpy(&digit, bytes + i * sizeof(digit), sizeof(digit));
        mantissa = mantissa * 10000 + (uint64) digit;
    }
    shift = weight - digits + 1; /* powers of 10,000 */
    if (mantissa > (UINT64CONST(1) << 53) || shift > 5 || shift < -5)
        return false;
    *number = shift < 0 ? (double) mantissa / powers[-shift] : (double) mantissa * powers[shift];
    if (negative)
        *number = -*number;
    return true;
}

/* memcpy without a call where little is copied, as of most strings. */
static inline void
copy_bytes(char *to, const char *from, int64 length)
{
    if (length > 16)
        memcpy(to, from, length);
    else if (length >= 8)
    {
        memcpy(to, from, 8);
        memcpy(to + length - 8, from + length - 8, 8);
    }
    else if (length >= 4)
    {
        memcpy(to, from, 4);
        memcpy(to + length - 4, from + length - 4, 4);
    }
    else
    {
        for (int64 i = 0; i < length; i++)
            to[i] = from[i];
    }
}

/* Copy a string behind the batch's others; its place. */
static void
keep_string(moe_batches *b, batch *batch, int64 at, int lane, Datum value)
{
    struct varlena *packed = (struct varlena *) DatumGetPointer(value);
    int64 length;

    if (!VARATT_IS_SHORT(packed) && !VARATT_IS_4B_U(packed))
        packed = PG_DETOAST_DATUM_PACKED(value);
    length = VARSIZE_ANY_EXHDR(packed);
    if (batch->n_bytes + length > batch->capacity)
    {
        batch->capacity = Max(batch->n_bytes + length, Max(batch->capacity * 2, 16384));
        batch->bytes = moe_check_ptr(b->job, moe_realloc(b->job, batch->bytes, batch->capacity, 1));
    }
    copy_bytes(batch->bytes + batch->n_bytes, VARDATA_ANY(packed), length);
    batch->begin[at] = batch->n_bytes;
    batch->n_bytes += length;
    batch->words[at] = (uint64) batch->n_bytes;
    batch->length[lane] += length;
}

static uint64
keep_numeric(Datum value)
{
    struct varlena *packed = (struct varlena *) DatumGetPointer(value);
    moe_item item;

    if ((!VARATT_IS_SHORT(packed) && !VARATT_IS_4B_U(packed)) || !short_numeric(packed, &item.number))
        item.number = moe_number_of(NUMERICOID, value);
    return item.word;
}

static inline void
set_null(lane *lane, int64 row)
{
    lane->null[row] = 1;
    lane->any_null = true;
    lane->items[row] = lane->null_item;
}

/* One column of a batch that holds numbers; `convert` gives the number of a word. */
#define CONVERT_NUMBERS(convert)                                                                                       \
    for (int i = 0; i < batch->n; i++)                                                                                 \
    {                                                                                                                  \
        Datum word = (Datum) batch->words[(int64) i * n_lanes + at];                                                   \
                                                                                                                       \
        if (batch->nulls[(int64) i * n_lanes + at])                                                                    \
            set_null(lane, batch->first + i);                                                                          \
        else                                                                                                           \
            lane->items[batch->first + i].number = (convert);                                                          \
    }

/* The same of floating-point numbers, where infinite and NaN ones are NULL, and -0 is 0. */
static void
convert_floats(const batch *batch, int at, int n_lanes, lane *lane)
{
    for (int i = 0; i < batch->n; i++)
    {
        Datum word = (Datum) batch->words[(int64) i * n_lanes + at];
        bool null = batch->nulls[(int64) i * n_lanes + at];
        double number = lane->form == FORM_FLOAT4 ? DatumGetFloat4(word) : DatumGetFloat8(word);

        if (!null && isfinite(number))
        {
            lane->items[batch->first + i].number = number + 0.0;
            continue;
        }
        lane->not_finite += !null;
        set_null(lane, batch->first + i);
    }
}

/* Words that stay as they are: keys and times. */
static void
convert_words(const batch *batch, int at, int n_lanes, lane *lane)
{
    for (int i = 0; i < batch->n; i++)
    {
        uint64 word = batch->words[(int64) i * n_lanes + at];
        bool null = batch->nulls[(int64) i * n_lanes + at];

        if (!null && lane->form == FORM_TIMESTAMP && TIMESTAMP_NOT_FINITE((int64) word))
        {
            lane->not_finite++;
            null = true;
        }
        if (null)
            set_null(lane, batch->first + i);
        else
            lane->items[batch->first + i].word = lane->form == FORM_KEY_INT4 ? (uint64) (int64) (int32) word : word;
    }
}

static void
convert_strings(const batch *batch, int at, int n_lanes, lane *lane)
{
    for (int i = 0; i < batch->n; i++)
    {
        int64 place = (int64) i * n_lanes + at;

        if (batch->nulls[place])
        {
            lane->null[batch->first + i] = 1;
            lane->any_null = true;
        }
        else
        {
            int64 length = (int64) batch->words[place] - batch->begin[place];

            copy_bytes(lane->bytes + lane->n_bytes, batch->bytes + batch->begin[place], length);
            lane->n_bytes += length;
        }
        lane->items[batch->first + i + 1].end = lane->n_bytes;
    }
}

/* Move some columns of a batch to their sinks. */
static void
convert(int64 begin, int64 end, void *arg)
{
    const conversion *c = arg;
    const batch *batch = c->batch;
    int n_lanes = c->n_lanes;

    for (int at = (int) begin; at < end; at++)
    {
        lane *lane = &c->lanes[at];

        if (lane->direct)
            continue;
        switch (lane->form)
        {
            case FORM_BOOL:
                CONVERT_NUMBERS(DatumGetBool(word) ? 1 : 0);
                break;
            case FORM_INT2:
                CONVERT_NUMBERS(DatumGetInt16(word));
                break;
            case FORM_INT4:
                CONVERT_NUMBERS(DatumGetInt32(word));
                break;
            case FORM_INT8:
                CONVERT_NUMBERS((double) DatumGetInt64(word));
                break;
            case FORM_FLOAT4:
            case FORM_FLOAT8:
            case FORM_NUMERIC:
                convert_floats(batch, at, n_lanes, lane);
                break;
            case FORM_UTF8:
                convert_strings(batch, at, n_lanes, lane);
                break;
            default:
                convert_words(batch, at, n_lanes, lane);
                break;
        }
    }
}

/* Room for the batch's strings in the sinks. */
static void
reserve_bytes(moe_batches *b, const batch *batch)
{
    for (int s = 0; s < b->n_lanes; s++)
    {
        moe_sink *sink = &b->reading->sinks[s];
        lane *lane = &b->lanes[s];
        int64 needed = lane->n_bytes + batch->length[s];

        if (lane->form != FORM_UTF8 || needed <= sink->bytes_capacity)
            continue;
        sink->bytes_capacity = Max(sink->bytes_capacity + sink->bytes_capacity / 4, needed);
        sink->bytes = moe_check_ptr(b->job, moe_realloc(b->job, sink->bytes, sink->bytes_capacity, 1));
        lane->bytes = sink->bytes;
    }
}

/* Hand the batch that was filled to the workers, and begin the other, if there is more to come. */
static void
hand_over(moe_batches *b, bool more)
{
    batch *full = b->filling;
    batch *next = full == &b->batch[0] ? &b->batch[1] : &b->batch[0];

    moe_parallel_end(b->job);
    reserve_bytes(b, full);
    if (more)
        reserve(b, b->reading->n_rows + MOE_BATCH_ROWS);
    *b->conversion = (conversion){full, b->lanes, b->n_lanes};
    moe_parallel_begin(b->job, b->n_lanes, 1, convert, b->conversion);
    next->first = b->reading->n_rows;
    next->n = 0;
    next->n_bytes = 0;
    memset(next->length, 0, sizeof(int64) * b->n_lanes);
    b->filling = next;
}

void
moe_batches_add(moe_batches *b, const Datum *values, const bool *nulls)
{
    batch *batch = b->filling;
    int64 at = (int64) batch->n * b->n_lanes;

    memcpy(batch->words + at, values, sizeof(Datum) * b->n_lanes);
    memcpy(batch->nulls + at, nulls, sizeof(bool) * b->n_lanes);
    for (int i = 0; i < b->n_special; i++)
    {
        int s = b->special[i];
        const lane *lane = &b->lanes[s];

        if (lane->direct)
            moe_sink_put(&b->reading->sinks[s], b->job, b->reading->n_rows, b->reading->capacity, values[s], nulls[s]);
        else if (nulls[s])
            continue;
        else if (lane->form == FORM_UTF8)
            keep_string(b, batch, at + s, s, values[s]);
        else if (lane->form == FORM_NUMERIC)
            batch->words[at + s] = keep_numeric(values[s]);
    }
    b->reading->n_rows++;
    if (++batch->n == MOE_BATCH_ROWS)
        hand_over(b, true);
}

static void
free_batch(moe_job *job, batch *batch)
{
    moe_free(job, batch->words);
    moe_free(job, batch->nulls);
    moe_free(job, batch->begin);
    moe_free(job, batch->length);
    moe_free(job, batch->bytes);
}

void
moe_batches_finish(moe_batches *b)
{
    moe_job *job = b->job;

    hand_over(b, false);
    moe_parallel_end(job);
    for (int s = 0; s < b->n_lanes; s++)
    {
        moe_sink *sink = &b->reading->sinks[s];
        const lane *lane = &b->lanes[s];

        if (lane->direct)
            continue;
        sink->not_finite += lane->not_finite;
        sink->n_bytes = lane->n_bytes;
        if (lane->any_null)
            continue;
        moe_free(job, sink->null);
        sink->null = NULL;
    }
    free_batch(job, &b->batch[0]);
    free_batch(job, &b->batch[1]);
    moe_free(job, b->conversion);
    moe_free(job, b->lanes);
    moe_free(job, b->special);
    moe_free(job, b);
}
