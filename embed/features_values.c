/*
 * features_values.c: one value of one column as inputs, by its fitted specification.
 *
 * Dense floats are centred and of unit size, and NULL is all zeros (the mean)
 * with, where the specification has it, a missing flag of 1 behind them:
 *   number  the scaled value, and for each quantile bin how far the value has
 *           filled it, -1/2 to 1/2 (piecewise linear encoding, Gorishniy et al. 2022)
 *   bool    -1 or 1
 *   time    position u in the fitted range as 2u - 1 and cos(k pi u), k = 1..3;
 *           clamped, so that later times look like the newest fitted ones;
 *           then month, day, weekday, hour, minute, second, those that vary,
 *           as sines and cosines of one and two turns a period
 *   vector  every item scaled, or pooled: mean, deviation, min, max, log length
 * Everything is clipped at +-MOE_INPUT_CLIP and finite.
 */
#include "embed/spec.h"
#include "embed/text_hash.h"
#include "kernels/random.h"

#include <math.h>
#include <string.h>

const int moe_time_periods[MOE_TIME_COMPONENTS] = {12, 31, 7, 24, 60, 60};

void
moe_time_components(int64_t time, int *out)
{
    const int64_t day_length = INT64_C(86400000000);
    int64_t day = time / day_length - (time % day_length < 0);
    int64_t second = (time % day_length + (time % day_length < 0 ? day_length : 0)) / 1000000;
    /* Days since 0000-03-01, in eras of 400 years (Hinnant, "chrono-compatible low-level date algorithms"). */
    int64_t shifted = day + 730425;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;

    out[0] = (int) ((march_month + 2) % 12);
    out[1] = (int) (day_of_year - (153 * march_month + 2) / 5);
    out[2] = (int) (((day + 6) % 7 + 7) % 7); /* 2000-01-01 was a Saturday */
    out[3] = (int) (second / 3600);
    out[4] = (int) (second / 60 % 60);
    out[5] = (int) (second % 60);
}

void
moe_pool_vector(const float *items, int64_t length, double *out)
{
    double sum = 0, squares = 0, low = 0, high = 0;
    int64_t n = 0;

    for (int64_t i = 0; i < length; i++)
    {
        double x = items[i];

        if (!isfinite(x))
            continue;
        low = n == 0 || x < low ? x : low;
        high = n == 0 || x > high ? x : high;
        sum += x;
        squares += x * x;
        n++;
    }
    out[0] = n ? sum / n : 0;
    out[1] = n ? sqrt(fmax(0, squares / n - out[0] * out[0])) : 0;
    out[2] = low;
    out[3] = high;
    out[4] = log1p((double) length);
}

int
moe_spec_values(const moe_spec *spec)
{
    if (spec->parts & MOE_PART_NUMERIC)
        return 1 + spec->scaling.n_bins;
    if (spec->parts & MOE_PART_BOOL)
        return 1;
    if (spec->parts & MOE_PART_TIME)
        return MOE_TIME_TREND + 2 * MOE_TIME_HARMONICS * __builtin_popcount(spec->time_components);
    if (spec->parts & MOE_PART_VECTOR)
        return spec->vector_length > 0 ? spec->vector_length : MOE_VECTOR_POOLED;
    return 0;
}

static float
clip(double x)
{
    return (float) fmax(-MOE_INPUT_CLIP, fmin(MOE_INPUT_CLIP, x));
}

double
moe_log_scale(const moe_scaling *scaling, double x)
{
    double z = (x - scaling->center) / scaling->spread;

    return copysign(log1p(fabs(z)), z);
}

static void
write_number(const moe_scaling *scaling, double x, float *out)
{
    double z = scaling->log ? moe_log_scale(scaling, x) : x;

    out[0] = scaling->inverse > 0 ? clip((z - scaling->mean) * scaling->inverse) : 0;
    for (int i = 0; i < scaling->n_bins; i++)
    {
        double filled = (x - scaling->edge[i]) / (scaling->edge[i + 1] - scaling->edge[i]);

        out[1 + i] = (float) (fmax(0, fmin(1, filled)) - 0.5);
    }
}

static void
write_time(const moe_spec *spec, int64_t time, float *out)
{
    double range = (double) spec->time_high - (double) spec->time_low;
    double u = range > 0 ? ((double) time - (double) spec->time_low) / range : 0.5;
    int component[MOE_TIME_COMPONENTS];

    u = fmax(0, fmin(1, u));
    *out++ = (float) (2 * u - 1);
    for (int k = 1; k < MOE_TIME_TREND; k++)
        *out++ = (float) cos(k * M_PI * u);
    moe_time_components(time, component);
    for (int i = 0; i < MOE_TIME_COMPONENTS; i++)
    {
        if (!(spec->time_components >> i & 1))
            continue;
        for (int k = 1; k <= MOE_TIME_HARMONICS; k++)
        {
            double angle = 2 * M_PI * k * component[i] / moe_time_periods[i];

            *out++ = (float) sin(angle);
            *out++ = (float) cos(angle);
        }
    }
}

static void
write_vector(const moe_spec *spec, const float *items, int64_t length, float *out)
{
    double pooled[MOE_VECTOR_POOLED];

    if (spec->vector_length == 0)
    {
        moe_pool_vector(items, length, pooled);
        for (int i = 0; i < MOE_VECTOR_POOLED; i++)
            out[i] = clip((pooled[i] - spec->vector_mean[i]) * spec->vector_inverse[i]);
        return;
    }
    for (int i = 0; i < spec->vector_length; i++)
        out[i] = isfinite(items[i]) ? clip((items[i] - spec->vector_mean[i]) * spec->vector_inverse[i]) : 0;
}

void
moe_spec_dense_null(const moe_spec *spec, float *out)
{
    memset(out, 0, spec->dense_width * sizeof(float));
    if (spec->missing)
        out[spec->dense_width - 1] = 1;
}

void
moe_spec_dense(const moe_spec *spec, const moe_column *column, int64_t row, float *out)
{
    int64_t at, length;

    moe_spec_dense_null(spec, out);
    if (moe_column_missing(column, row))
        return;
    if (spec->parts & MOE_PART_NUMERIC)
        write_number(&spec->scaling, moe_column_number(column, row), out);
    else if (spec->parts & MOE_PART_BOOL)
        out[0] = column->number[row] != 0 ? 1 : -1;
    else if (spec->parts & MOE_PART_TIME)
        write_time(spec, column->time[row], out);
    else
    {
        at = column->offset[row];
        length = column->offset[row + 1] - at;
        if (spec->vector_length > 0 && length != spec->vector_length)
            return; /* of another length than all fitted ones: as good as missing */
        write_vector(spec, column->items + at, length, out);
    }
    if (spec->missing)
        out[spec->dense_width - 1] = 0;
}

void
moe_spec_dense_rows(const moe_spec *spec, const moe_column *column, int64_t begin, int64_t end, float *out,
                    int64_t stride)
{
    for (int64_t row = begin; row < end; row++, out += stride)
        moe_spec_dense(spec, column, row, out);
}

int
moe_spec_bag(const moe_spec *spec, const moe_column *column, int64_t row, uint64_t *hash)
{
    double number;
    int64_t length;
    const void *bytes;

    if (moe_column_missing(column, row))
        return 0;
    bytes = moe_column_bytes(column, row, &number, &length);
    if (spec->parts & MOE_PART_TEXT)
        return moe_text_hash(bytes, length, spec->hash_key, hash, MOE_BAG_MAX);
    /* Two buckets a value: few pairs of values share both (Svenstrup et al. 2017). */
    hash[0] = moe_hash_bytes(bytes, length, spec->hash_key);
    hash[1] = moe_mix64(hash[0]);
    return 2;
}
